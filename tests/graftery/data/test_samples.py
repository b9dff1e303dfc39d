from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from graftery.data import SampleSet, choose
from graftery.errors import SamplesRefused


@pytest.mark.parametrize("y", [None, torch.arange(5)])
def test_a_file_gives_back_what_was_saved(tmp_path: Path, y: torch.Tensor | None) -> None:
    samples = SampleSet(torch.randn(5, 2), y)
    samples.save(tmp_path / "s")
    again = SampleSet.load(tmp_path / "s")
    assert torch.equal(again.x, samples.x)
    assert (again.y is None) == (y is None)
    assert again.labels == (0 if y is None else 5)
    assert y is None or torch.equal(again.y, y)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "x, y",
    [
        (torch.zeros(0, 2), None),
        (torch.zeros(3), None),
        (torch.zeros(3, 2, dtype=torch.int64), None),
        (torch.zeros(3, 2), torch.zeros(4)),
        (torch.full((3, 2), torch.nan), None),
        (torch.zeros(3, 2), torch.tensor([0.0, torch.inf, 1.0])),
    ],
)
def test_unusable_samples_are_refused(x: torch.Tensor, y: torch.Tensor | None) -> None:
    with pytest.raises(SamplesRefused):
        SampleSet(x, y)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no samples")
    save_file({"x": torch.zeros(2, 2), "z": torch.zeros(1)}, tmp_path / "more")
    save_file({"y": torch.zeros(2)}, tmp_path / "less")
    for name in ("text", "more", "less"):
        with pytest.raises(SamplesRefused):
            SampleSet.load(tmp_path / name)


@given(count=st.integers(1, 30), seed=st.integers(0, 2**62))
def test_a_choice_by_class_is_balanced_and_the_seeds(count: int, seed: int) -> None:
    samples = SampleSet(torch.arange(100.0)[:, None], (torch.arange(100) < 20).long())
    chosen = choose(samples, count, seed, by_class=True)
    assert len(set(chosen.x.flatten().tolist())) == count
    assert chosen.y is not None
    assert abs(int(chosen.y.sum()) - (count - int(chosen.y.sum()))) <= 1
    assert torch.equal(chosen.x, choose(samples, count, seed, by_class=True).x)


def test_a_class_that_runs_out_leaves_its_places_to_the_others() -> None:
    samples = SampleSet(torch.arange(10.0)[:, None], (torch.arange(10) < 2).long())
    chosen = choose(samples, 8, 0, by_class=True)
    assert chosen.y is not None
    assert int(chosen.y.sum()) == 2


def test_labels_stay_with_their_inputs() -> None:
    samples = SampleSet(torch.arange(50.0)[:, None], torch.arange(50))
    chosen = choose(samples, 20, 3, by_class=False)
    assert torch.equal(chosen.x.flatten().long(), chosen.y)  # type: ignore[arg-type]


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(SamplesRefused) as caught:
        choose(SampleSet(torch.zeros(3, 1)), 4, 0, by_class=False)
    assert caught.value.code == "samples_missing"
