from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftery.learning.pace import Pace, plateau
from graftery.spec.recipes import StopRecipe

STOP = StopRecipe(every=10, patience=2, tolerance=0.01, cooling=0.5)


def run(pace: Pace) -> list[float]:
    """The rate of each step, with scores taken on the way."""
    rates: list[float] = []
    while len(rates) < pace.end:
        rates.append(pace.at(len(rates)))
        pace.note(len(rates))
    return rates


def following(scores: list[float]) -> Pace:
    given_scores = iter(scores)
    return Pace(1000, 0.1, STOP, lambda: next(given_scores, 1.0))


@pytest.mark.parametrize(
    "scores, found",
    [
        ([], None),
        ([0.1, 0.2, 0.3, 0.4], None),
        ([0.1, 0.2, 0.2, 0.2], 3),
        ([0.1, 0.2, 0.2, 0.3, 0.3, 0.3], 5),
        ([0.5, 0.505, 0.505], 2),
        ([-3.0, -2.0, -1.0, -1.0, -1.0], 4),
    ],
)
def test_a_plateau_is_where_the_best_has_been_the_best_for_long(scores: list[float], found: int | None) -> None:
    assert plateau(scores, 2, 0.01) == found


def test_it_cools_down_once_the_score_rises_no_more() -> None:
    rates = run(following([0.5, 0.8, 0.9, 0.9, 0.9, 0.9]))
    assert rates[:50] == [0.1] * 50
    assert len(rates) == 75
    assert rates[50:] == sorted(rates[50:], reverse=True) and 0 < rates[-1] < 0.01


def test_a_score_that_rises_to_the_end_has_time_to_cool_down() -> None:
    rates = run(following([0.02 * step for step in range(100)]))
    assert len(rates) == 1000
    assert rates[666] == 0.1 > rates[667] > rates[-1] > 0


def test_unwatched_the_rate_is_a_cosine_over_all_steps() -> None:
    for pace in (Pace(100, 0.1), Pace(100, 0.1, StopRecipe(patience=0), lambda: 0.0)):
        rates = run(pace)
        assert len(rates) == 100 and pace.scores == []
        assert rates[0] == 0.1 and rates[50] == pytest.approx(0.05) and rates[-1] < 1e-4


@given(st.lists(st.floats(-1, 1), max_size=100), st.integers(0, 300))
def test_who_resumes_with_the_scores_goes_on_as_if_nothing_had_happened(scores: list[float], at: int) -> None:
    unbroken = following(list(scores))
    wanted = run(unbroken)
    at = min(at, len(wanted))
    kept = unbroken.scores[: min(at // STOP.every, len(unbroken.scores))]
    resumed = following(list(scores)[len(kept) :])
    resumed.scores[:] = kept
    rates = wanted[:at]
    while len(rates) < resumed.end:
        rates.append(resumed.at(len(rates)))
        resumed.note(len(rates))
    assert rates == wanted


@given(st.integers(0, 400), st.lists(st.floats(-1, 1), max_size=50), st.integers(1, 5), st.floats(0.01, 10))
def test_it_ends_and_never_after_all_steps(steps: int, scores: list[float], patience: int, cooling: float) -> None:
    given_scores = iter(scores)
    stop = StopRecipe(every=7, patience=patience, cooling=cooling)
    rates = run(Pace(steps, 1.0, stop, lambda: next(given_scores, 0.0)))
    assert len(rates) <= steps
    assert all(0 < rate <= 1 for rate in rates)
