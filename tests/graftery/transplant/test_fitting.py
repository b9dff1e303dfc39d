"""f and gS of different strides: h resizes by the ratio, so that the student's output is as large as the teacher's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graftery.data import SampleSet
from graftery.errors import Misfit, SamplesRefused
from graftery.module import ModuleFile, trace, verify
from graftery.nn.adapters import SAME
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import Checkpoint, Progress, Transplant, compose, precheck, sketch, transplant
from graftery.transplant.fitting import ends_of
from graftery.transplant.given import Given
from tests.support import transplants as t

Files = tuple[ModuleFile, ModuleFile, ModuleFile]
SHORT = {"steps": 4, "batch": 8, "sources": ["noise"]}
INVERSION = {"images": 8, "steps": 3, "rounds": 1, "rival_steps": 3, "round_images": 4, "round_steps": 2}


def _run(files: Files, recipe: dict[str, Any] | None = None, **options: Any) -> Transplant:
    told = TransplantRecipe.model_validate(recipe or SHORT)
    return transplant(files[0], files[1], teacher_task=files[2], recipe=told, **options)


def _same_sizes(files: Files, adapter: ModuleFile, *sizes: tuple[int, int]) -> None:
    """The composed network's output has the teacher's size at these sizes of images."""
    ours, theirs = compose(files[0], adapter, files[1]), compose(files[0], None, files[2])
    for size in sizes:
        x = torch.randn(2, 1, *size)
        assert ours(x).shape == theirs(x).shape == (2, 1, *size)


def _never(_: Progress) -> None:
    raise AssertionError("a step was taken")


def _masked(size: int = 8) -> SampleSet:
    x = torch.randn(12, 1, size, size, generator=torch.Generator().manual_seed(0))
    return SampleSet(x, (x[:, 0] > 0).long())


@pytest.mark.parametrize("scale", [4.0, 1.0])
def test_the_student_answers_at_the_teachers_size_whatever_the_images_are(scale: float, tmp_path: Path) -> None:
    files = t.strided_files(scale)
    done = _run(files, evaluate_on=_masked())
    assert done.metrics["adapter"]["pixel_accuracy"] > 0
    assert done.metrics["identity"] is None, "what h resizes is no identity"
    done.adapter.save(tmp_path / "adapter")
    assert verify(tmp_path / "adapter").outputs["features"].shape == ("N", 4, "H", "W")
    _same_sizes(files, ModuleFile.load(tmp_path / "adapter"), (8, 8), (16, 12), (4, 24))


def test_a_resumed_run_gives_the_same_bytes() -> None:
    kept: list[Checkpoint] = []
    done = _run(t.strided_files(), checkpoint=kept.append, checkpoint_s=0.0)
    assert _run(t.strided_files(), resume=kept[1]).adapter.digest == done.adapter.digest


@pytest.mark.parametrize(
    "change",
    [
        {"adapter": {"choose": [1, 2]}},
        {"sources": ["inversion", "noise"], "inversion": INVERSION},
        {"objectives": {"pseudo_gradient": 1}},
        {"objectives": {"back_distillation": 1}},
    ],
)
def test_every_student_is_resized(change: dict[str, Any]) -> None:
    files = t.strided_files()
    _same_sizes(files, _run(files, {**SHORT, **change}).adapter, (8, 8), (16, 16))


def test_unlabelled_images_of_another_size_make_the_same_ratio() -> None:
    files, larger = t.strided_files(), SampleSet(torch.randn(8, 1, 16, 24))
    done = _run(files, {**SHORT, "sources": ["unlabelled"]}, unlabelled=larger)
    _same_sizes(files, done.adapter, (16, 24), (8, 8))


def test_crops_are_taken_as_they_are_where_both_outputs_are_of_one_size() -> None:
    _, task, teacher = t.strided_files()
    net, images = t.image_category(), torch.randn(12, 1, 16, 16)
    plain = t.category_file(net, images[:2])
    f = t.category_file(net, images[:2], sketch=sketch(plain, images, crops=6))
    _same_sizes((f, task, teacher), _run((f, task, teacher), {**SHORT, "sources": ["crops"]}).adapter, (16, 16))


@pytest.mark.parametrize("own", [True, False])
def test_labels_alone_teach_at_the_teachers_size_or_at_that_of_the_task(own: bool) -> None:
    """Masks as large as the images, as the teacher's are; or as large as gS makes them by itself, twice that."""
    files, masked = t.strided_files(), _masked()
    assert masked.y is not None
    if not own:
        masked = replace(masked, y=masked.y.repeat_interleave(2, 1).repeat_interleave(2, 2))
    direct = {"steps": 4, "batch": 8, "objectives": {"direct": 1}}
    done = _run(files, direct, samples=masked, evaluate_on=masked if own else None)
    if own:
        return _same_sizes(files, done.adapter, (8, 8), (16, 16))
    alone = transplant(*files[:2], recipe=TransplantRecipe.model_validate(direct), samples=masked)
    assert alone.adapter.content_digest == done.adapter.content_digest
    # Beside it gT is to be measured, whose masks are smaller.
    with pytest.raises(SamplesRefused, match=r"evaluate_on are of \[16, 16\] pixels, the teacher's output of \[8, 8\]"):
        _run(files, direct, samples=masked, evaluate_on=masked, progress=_never)


class _Values(nn.Module):
    """A regression of each pixel."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.net = t.strided_task(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def test_regressions_of_pixels_are_resized_and_measured_by_values_of_that_size_only() -> None:
    features = torch.rand(2, 4, 4, 4)
    task, teacher = (t.task_file(_Values(scale), features, "regression") for scale in (4.0, 2.0))
    files = t.image_files()[0], task, teacher
    x = torch.randn(6, 1, 8, 8)
    done = _run(files, evaluate_on=SampleSet(x, torch.randn(6, 1, 8, 8)))
    assert "r2" in done.metrics["adapter"]
    _same_sizes(files, done.adapter, (8, 8), (16, 16))
    with pytest.raises(SamplesRefused, match=r"evaluate_on are of \[1, 4, 4\] pixels, the output of \[1, 8, 8\]"):
        _run(files, evaluate_on=SampleSet(x, torch.randn(6, 1, 4, 4)), progress=_never)


class _Map(nn.Module):
    """A vector [N, 5] or tokens [N, 9, 5] to a mask [N, 1, 8, 8]."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 64))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).unflatten(1, (1, 8, 8))


class _Tokens(nn.Module):
    """Images to tokens [N, 9, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Conv2d(1, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).flatten(2).transpose(1, 2)


def _from_a_vector() -> tuple[nn.Module, nn.Module]:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 5)), _Map(5)


def _from_tokens() -> tuple[nn.Module, nn.Module]:
    return _Tokens(), _Map(45)


@pytest.mark.parametrize("nets", [_from_a_vector, _from_tokens])
def test_what_is_no_map_becomes_one_of_the_right_size(nets: Callable[[], tuple[nn.Module, nn.Module]]) -> None:
    net, head = (each.eval() for each in nets())
    x = torch.randn(2, 1, 8, 8)
    files = t.category_file(net, x), t.strided_files()[1], t.task_file(head, net(x), "segmentation")
    _same_sizes(files, _run(files).adapter, (8, 8))


def test_what_needs_no_resize_is_joined_as_before() -> None:
    f, task, teacher = t.strided_files(2.0)
    given, recipe = Given(f, task, teacher), TransplantRecipe(objectives={"distillation": 1})
    ends = ends_of(given, (4, 4, 4), recipe)
    assert ((ends.source, ends.target), ends.ratio) == (given.adapter_shapes((4, 4, 4)), SAME)
    assert ends.same
    alone = ends_of(Given(f, t.strided_files()[1]), (4, 4, 4), TransplantRecipe(objectives={"direct": 1}))
    assert alone.ratio == SAME, "without gT nothing tells another size"


class _Halved(nn.Module):
    """Gives masks by a rule that is no ratio: `less` rows and columns fewer."""

    def __init__(self, scale: float, less: int) -> None:
        super().__init__()
        self.net, self.less = t.strided_task(scale), less

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, :, self.less :, self.less :]


def _fixed() -> nn.Module:
    return _Map(64).eval()


@pytest.mark.parametrize(
    ("task", "teacher", "size", "why"),
    [
        (lambda: t.strided_task(3), lambda: t.strided_task(2), 8, r"\[1, 12, 12\].*\[1, 8, 8\], and no height"),
        (lambda: t.strided_task(4), lambda: t.strided_task(2), 10, r"\[1, 20, 20\].*\[1, 10, 10\], and no height"),
        (_fixed, lambda: t.strided_task(4), 8, r"\[1, 8, 8\].*\[1, 16, 16\], and no height"),
        (lambda: _Halved(4, 4), lambda: t.strided_task(1), 8, "and no height"),
        (lambda: t.strided_task(4), lambda: _Halved(4, 8), 8, r"features \[4, 8, 8\].*right for \[4, 4, 4\]"),
    ],
)
def test_what_no_ratio_makes_alike_is_refused_before_any_step(
    task: Callable[[], nn.Module], teacher: Callable[[], nn.Module], size: int, why: str
) -> None:
    features, f = torch.rand(2, 4, 4, 4), t.category_file(t.image_category(), torch.randn(2, 1, size, size))
    shared, own = (t.task_file(make().eval(), features, "segmentation") for make in (task, teacher))
    with pytest.raises(Misfit, match=why) as caught:
        _run((f, shared, own), progress=_never)
    assert caught.value.code == "shape_mismatch"
    assert "another height and width" in str(caught.value.hint)
    with pytest.raises(Misfit, match=why):
        precheck(f, shared, teacher_task=own)


def test_a_task_that_does_not_run_on_what_it_would_get_is_refused() -> None:
    small = t.category_file(t.image_category(), torch.randn(2, 1, 8, 8))
    wide = nn.Sequential(nn.Conv2d(4, 1, 7), nn.Upsample(scale_factor=4)).eval()
    task = trace(wide, torch.rand(2, 4, 16, 16), kind="task")
    teacher = trace(t.strided_task(2), torch.rand(2, 4, 4, 4), kind="task")
    with pytest.raises(Misfit, match=r"the task does not run on features \[4, 4, 4\]"):
        _run((small, task, teacher))


@pytest.mark.parametrize(
    ("scale", "words"), [(4.0, "resize height by 1/2 and width by 1/2"), (1.0, "height by 2 and width by 2")]
)
def test_the_pre_check_tells_the_adapter_that_is_learned(scale: float, words: str) -> None:
    f, task, teacher = files = t.strided_files(scale)
    found = precheck(f, task, teacher_task=teacher)
    assert words in found.layers[-1]
    assert (found.wanted, found.identity) == ((4, None, None), False)
    assert found.parameters == sum(weight.numel() for weight in _run(files).adapter.weights.values())
    same = t.strided_files(2.0)
    assert not any("resize" in layer for layer in precheck(same[0], same[1], teacher_task=same[2]).layers)
