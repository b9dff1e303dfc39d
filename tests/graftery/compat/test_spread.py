from __future__ import annotations

import math
import statistics

import pytest
import torch

from graftery.compat import Matrix, spread
from graftery.errors import SamplesRefused

CHANCE = torch.tensor([0.2, 0.3], dtype=torch.float64)


def _matrix(*raw: list[float], names: tuple[str, ...] = ("a", "b")) -> Matrix:
    return Matrix(names, torch.tensor(raw, dtype=torch.float64), CHANCE, (100, 100))


SEEDS = [_matrix([0.9, 0.5], [0.2, 0.8]), _matrix([0.8, 0.6], [0.4, 0.7]), _matrix([0.9, 0.3], [0.3, 0.9])]


def test_mean_deviation_and_count_over_the_seeds() -> None:
    found = spread(SEEDS)
    assert (found.names, found.seeds) == (("a", "b"), 3)
    for at in ((0, 0), (0, 1), (1, 0), (1, 1)):
        for figures, values in (
            (found.raw, [float(each.raw[at]) for each in SEEDS]),
            (found.normalised, [float(each.normalised[at]) for each in SEEDS]),
        ):
            assert float(figures.mean[at]) == pytest.approx(statistics.mean(values))
            assert float(figures.deviation[at]) == pytest.approx(statistics.stdev(values), abs=1e-9)
            assert int(figures.count[at]) == 3
    whole = [each.recombined for each in SEEDS]
    assert float(found.recombined.mean) == pytest.approx(statistics.mean(whole))
    assert float(found.recombined.deviation) == pytest.approx(statistics.stdev(whole))


def test_a_seed_whose_network_is_at_chance_is_left_out_of_what_it_has_no_figure_for() -> None:
    found = spread([*SEEDS[:2], _matrix([0.9, 0.3], [0.3, 0.31])])
    assert found.normalised.count.tolist() == [[3, 2], [3, 2]]
    assert found.raw.count.tolist() == [[3, 3], [3, 3]]
    two = [float(each.normalised[0, 1]) for each in SEEDS[:2]]
    assert float(found.normalised.mean[0, 1]) == pytest.approx(statistics.mean(two))
    assert int(found.recombined.count) == 2


def test_one_seed_has_no_deviation_and_none_has_no_mean() -> None:
    found = spread(SEEDS[:1])
    assert found.raw.deviation.isnan().all() and torch.equal(found.raw.mean, SEEDS[0].raw)
    none = spread([_matrix([0.2, 0.3], [0.2, 0.3])] * 2)
    assert math.isnan(float(none.recombined.mean)) and int(none.recombined.count) == 0


def test_matrices_of_other_networks_are_refused() -> None:
    for wrong in ([], [SEEDS[0], _matrix([0.9, 0.5], [0.2, 0.8], names=("a", "c"))]):
        with pytest.raises(SamplesRefused) as refused:
            spread(wrong)
        assert refused.value.code == "samples_invalid"
