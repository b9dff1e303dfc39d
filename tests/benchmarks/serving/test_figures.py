from __future__ import annotations

import pytest

from benchmarks.serving.figures import (
    at_least,
    at_most,
    both,
    fifo,
    ideal_tail,
    missing,
    overhead_ms,
    percentiles,
    ratios,
)
from benchmarks.serving.load import arrivals_of


def test_percentiles_are_latencies_that_were_seen() -> None:
    found = percentiles([float(value) for value in range(1, 101)])
    assert found == {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0}
    assert percentiles([3.0]) == {"p50_ms": 3.0, "p95_ms": 3.0, "p99_ms": 3.0}


def test_a_queue_serves_in_order_and_is_never_idle_while_somebody_waits() -> None:
    spent = fifo([0.0, 1.0, 1.5, 10.0], [2.0, 1.0, 1.0, 0.5])
    assert spent == [2.0, 2.0, 2.5, 0.5]


def test_the_ideal_tail_depends_on_the_load_and_not_on_the_scale_of_what_was_seen() -> None:
    plan = {"seed": 0, "rate": 70.0, "warm_s": 0.0, "measure_s": 60.0}
    arrivals = arrivals_of(plan)
    tail = ideal_tail(arrivals, [0.004, 0.006], 100.0)
    assert tail == pytest.approx(ideal_tail(arrivals, [0.04, 0.06], 100.0))
    assert 2 < tail < 8  # theory for even service times at 70 %: about 4
    assert ideal_tail(arrivals, [0.004, 0.006], 700.0) < tail


def test_arrivals_are_a_poisson_process_that_a_seed_repeats() -> None:
    plan = {"seed": 3, "rate": 200.0, "warm_s": 1.0, "measure_s": 9.0}
    arrivals = arrivals_of(plan)
    assert arrivals == arrivals_of(plan)
    assert arrivals != arrivals_of({**plan, "seed": 4})
    assert len(arrivals) == pytest.approx(2000, rel=0.1)
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] < 10


def test_overhead_is_what_the_forward_pass_does_not_take() -> None:
    assert overhead_ms(2.0, 1000, 0.5) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="no request"):
        overhead_ms(2.0, 0, 0.5)


def test_goals_are_judged_by_the_median_of_the_rounds() -> None:
    values = ratios([4.0, 6.0, 30.0], [2.0, 2.0, 3.0])
    assert values == [2.0, 3.0, 10.0]
    assert at_least("a", values, 3).met
    assert not at_least("a", values, 3.1).met
    assert at_most("a", values, 3).figure == "3 (2 to 10)"
    assert both(at_least("a", values, 3), at_most("b", values, 2)).met is False
    assert both(at_least("a", values, 3), at_most("b", values, 3)).verdict == "met"


def test_a_goal_without_its_cell_says_why() -> None:
    goal = missing("a", "≥ 2", {"reason": "the server takes no images"})
    assert (goal.verdict, goal.note) == ("not measured", "the server takes no images")
    assert missing("a", "≥ 2", None).met is None
