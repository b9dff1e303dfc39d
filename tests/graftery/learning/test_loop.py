from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch

from graftery.errors import RecipeRefused, TrainingFailed
from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Loop, Progress, optimise
from graftery.learning.pace import Pace


def _bowl(x: torch.Tensor, **options: Any) -> None:
    optimise({"x": x}, lambda step: {"square": x.square().sum()}, Pace(options.pop("steps", 200), 0.1), **options)


def test_the_loop_goes_down_and_after_is_done_each_step() -> None:
    x, count = torch.tensor([1.0, -2.0], requires_grad=True), []
    _bowl(x, loop=Loop("train"), after=lambda: count.append(1))
    assert float(x.detach().abs().max()) < 1e-3
    assert len(count) == 200


def test_the_first_step_has_the_whole_rate_and_the_last_almost_none() -> None:
    x, places = torch.tensor([100.0], requires_grad=True), []
    _bowl(x, loop=Loop("train"), steps=50, after=lambda: places.append(float(x.detach())))
    assert 100 - places[0] == pytest.approx(0.1, rel=1e-3)
    assert abs(places[-1] - places[-2]) < 0.001


def test_progress_is_told_at_most_ten_times_a_second_and_at_the_end() -> None:
    told: list[Progress] = []
    began_s = time.monotonic()
    _bowl(torch.ones(1, requires_grad=True), loop=Loop("train", told.append), steps=500)
    assert len(told) <= 3 + 10 * (time.monotonic() - began_s)
    assert told[-1].step == told[-1].steps == 500


def test_the_history_has_about_fifty_entries() -> None:
    loop = Loop("train")
    _bowl(torch.ones(1, requires_grad=True), loop=loop, steps=500)
    assert 50 <= len(loop.history) <= 52


@pytest.mark.parametrize(
    "losses, said",
    [
        ([1.0, 0.5, math.nan], "the last finite loss was 0.5 at step 1"),
        ([1.0, math.inf], "the last finite loss was 1 at step 0"),
        ([0.25, 2e6], "the last finite loss was 0.25 at step 0"),
        ([math.nan], "no loss was finite"),
    ],
)
def test_divergence_is_told_with_the_last_finite_loss(losses: list[float], said: str) -> None:
    x = torch.ones(1, requires_grad=True)
    with pytest.raises(TrainingFailed, match=said) as caught:
        optimise({"x": x}, lambda step: {"l": (0 * x).sum() + losses[step]}, Pace(len(losses), 0.1), Loop("train"))
    assert caught.value.code == "diverged"


def test_parameters_that_end_infinite_have_diverged() -> None:
    x = torch.ones(1, requires_grad=True)

    def blow() -> None:
        x.data.fill_(math.inf)

    with pytest.raises(TrainingFailed):
        _bowl(x, loop=Loop("train"), steps=1, after=blow)


@pytest.mark.parametrize("stop", [1, 7, 19, 20])
def test_a_loop_that_goes_on_from_a_checkpoint_ends_at_the_same_bits(stop: int) -> None:
    kept: list[Checkpoint] = []
    unbroken = torch.tensor([1.0, -3.0], requires_grad=True)
    _bowl(unbroken, loop=Loop("train", checkpoint=kept.append, checkpoint_s=0.0), steps=20)
    resumed = torch.zeros(2, requires_grad=True)
    steps: list[int] = []
    loop = Loop("train", lambda p: steps.append(p.step), resume=kept[stop - 1])
    _bowl(resumed, loop=loop, steps=20)
    assert torch.equal(resumed, unbroken)
    assert not steps or steps[0] == stop + 1


@pytest.mark.parametrize("other", [torch.zeros(3), None])
def test_a_checkpoint_of_other_tensors_is_refused(other: torch.Tensor | None) -> None:
    kept: list[Checkpoint] = []
    _bowl(torch.zeros(2, requires_grad=True), loop=Loop("train", checkpoint=kept.append, checkpoint_s=0.0), steps=3)
    tensors = {name: value for name, value in kept[0].tensors.items() if name != "value.x"}
    tensors |= {} if other is None else {"value.x": other}
    with pytest.raises(RecipeRefused) as caught:
        _bowl(torch.zeros(2, requires_grad=True), loop=Loop("train", resume=Checkpoint(1, tensors, "train")), steps=3)
    assert caught.value.code == "checkpoint_refused"


def test_a_checkpoint_is_a_copy_and_carries_what_earlier_phases_made() -> None:
    kept: list[Checkpoint] = []
    x = torch.ones(1, requires_grad=True)
    images = torch.randn(3)
    loop = Loop("train", checkpoint=kept.append, checkpoint_s=0.0, kept={"images": images}, fingerprint="f")
    _bowl(x, loop=loop, steps=5)
    assert len({float(c.tensors["value.x"]) for c in kept}) == 5
    assert all(c.tensors["images"] is images and c.fingerprint == "f" for c in kept)


def test_checkpoints_keep_their_distance() -> None:
    kept: list[Checkpoint] = []
    _bowl(torch.ones(1, requires_grad=True), loop=Loop("train", checkpoint=kept.append, checkpoint_s=60), steps=20)
    assert kept == []
