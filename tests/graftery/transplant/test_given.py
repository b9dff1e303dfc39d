from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graftery.data import SampleSet
from graftery.errors import RecipeRefused, SamplesRefused
from graftery.module import ModuleFile
from graftery.spec.manifest import Preprocessing
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant.given import Given
from tests.support import tones
from tests.support import transplants as t

RECIPE = TransplantRecipe()


def _given(**options: object) -> Given:
    f, task, teacher = t.image_files()
    return Given(f, task, teacher, **options)  # type: ignore[arg-type]


def test_the_size_of_an_input_is_that_of_the_samples_else_of_the_probe() -> None:
    assert _given().input_shape() == (1, 8, 8)
    assert _given(unlabelled=SampleSet(torch.randn(2, 1, 9, 7))).input_shape() == (1, 9, 7)
    measured = SampleSet(torch.randn(2, 1, 9, 7), torch.arange(2))
    assert _given(evaluate_on=measured).input_shape() == (1, 8, 8), "h does not depend on what it is measured on"
    f, task, teacher = t.image_files()
    free = f.manifest.input.model_copy(update={"shape": ("N", 1, "H", "W")})
    bare = replace(f, extras={}, manifest=f.manifest.model_copy(update={"input": free}))
    with pytest.raises(RecipeRefused, match="free"):
        Given(bare, task, teacher).input_shape()
    assert Given(bare, task, teacher, evaluate_on=measured).input_shape() == (1, 9, 7)


def test_samples_without_labels_are_not_passed_over() -> None:
    with pytest.raises(SamplesRefused, match="no labels") as caught:
        _given(samples=SampleSet(torch.randn(2, 1, 8, 8)))
    assert caught.value.code == "samples_missing"
    assert "unlabelled" in str(caught.value.hint)


def test_masks_of_one_class_among_many_teach_nothing_where_they_alone_are_chosen() -> None:
    features, masks = torch.rand(2, 4, 4, 4), torch.zeros(40, 8, 8, dtype=torch.int64)
    masks[7, 2, 2] = 1
    dense = (t.task_file(t.dense_task(seed=seed), features, "segmentation") for seed in (1, 0))
    given = Given(t.image_files()[0], *dense, samples=SampleSet(torch.randn(40, 1, 8, 8), masks))
    given.check_taught(TransplantRecipe(objectives={"direct": 1}, labels=40))
    with pytest.raises(SamplesRefused, match="the 2 samples that the seed 0 chooses have the class 0 only") as caught:
        given.check_taught(TransplantRecipe(objectives={"direct": 1}, labels=2))
    assert caught.value.code == "samples_invalid"


def test_features_that_the_teacher_does_not_take_are_refused() -> None:
    _given().check_features((4, 4, 4))
    with pytest.raises(SamplesRefused, match="features"):
        _given().check_features((4, 3, 4))


def test_a_size_that_f_leaves_free_stays_free_between_kinds_of_features_only() -> None:
    f, task, _ = t.image_files()
    tokens = t.task_file(t.token_task(), torch.randn(2, 16, 4))
    fixed = {"features": f.manifest.outputs["features"].model_copy(update={"shape": ("N", 4, 4, 4)})}
    bound = replace(f, manifest=f.manifest.model_copy(update={"outputs": fixed}))
    assert Given(f, task).adapter_shapes((4, 4, 4)) == ((4, 4, 4), (4, 4, 4))
    assert Given(f, tokens).adapter_shapes((4, 4, 4)) == ((4, None, None), (16, 4))
    assert Given(bound, tokens).adapter_shapes((4, 4, 4)) == ((4, 4, 4), (16, 4))


def test_the_fingerprint_is_of_everything_that_the_adapter_depends_on() -> None:
    samples = SampleSet(torch.ones(4, 1, 8, 8), torch.arange(4) % 2)
    f, task, teacher = t.image_files()
    prints = [
        _given().fingerprint(RECIPE),
        _given().fingerprint(TransplantRecipe(seed=1)),
        _given(samples=samples).fingerprint(RECIPE),
        _given(samples=SampleSet(samples.x, torch.zeros(4))).fingerprint(RECIPE),
        _given(unlabelled=SampleSet(samples.x)).fingerprint(RECIPE),
        Given(f, task, None).fingerprint(RECIPE),
        Given(f, teacher, teacher).fingerprint(RECIPE),
    ]
    assert len(set(prints)) == len(prints)
    assert _given(evaluate_on=samples).fingerprint(RECIPE) == prints[0]


def test_the_fingerprint_is_of_what_the_files_say_beside_what_they_compute() -> None:
    """A sketch, which features are drawn from; preprocessing, which noise is made by; the size of a probe; a meaning."""
    f, task, teacher = t.image_files()

    def extras(**more: torch.Tensor) -> ModuleFile:
        return replace(f, extras={**f.extras, **{name.replace("_", "."): each for name, each in more.items()}})

    def stated(**changes: object) -> ModuleFile:
        return replace(f, manifest=f.manifest.model_copy(update=changes))

    regression = {"is": task.manifest.outputs["is"].model_copy(update={"semantics": "regression"})}
    meant = replace(task, manifest=task.manifest.model_copy(update={"outputs": regression}))
    mean = torch.zeros(4, 4, 4)
    others = [
        extras(sketch_mean=mean),
        extras(sketch_mean=mean + 1),
        extras(sketch_mean=mean.half()),
        extras(sketch_low=mean),
        extras(probe_x=torch.zeros(1, 1, 12, 12)),
        stated(preprocessing=None),
        stated(preprocessing=Preprocessing(mean=(0.1,), std=(0.25,), colour_order="grey")),
    ]
    prints = [Given(each, task, teacher).fingerprint(RECIPE) for each in (f, *others)]
    prints.append(Given(f, meant, teacher).fingerprint(RECIPE))
    assert len(set(prints)) == len(prints)
    assert {each.content_digest for each in others} == {f.content_digest}
    assert Given(stated(description="another"), task, teacher).fingerprint(RECIPE) == prints[0]


def test_images_that_f_is_too_large_for_are_refused() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 5), torch.nn.ReLU()).eval()
    f = t.category_file(net, torch.randn(2, 1, 8, 8))
    given = Given(f, t.image_files()[1], unlabelled=SampleSet(torch.randn(2, 1, 3, 3)))
    with pytest.raises(SamplesRefused, match=r"does not run on inputs of \[1, 3, 3\]") as caught:
        given.features_shape()
    assert caught.value.code == "samples_invalid"
    assert Given(f, t.image_files()[1]).features_shape() == (4, 4, 4)


@pytest.mark.parametrize("y", [torch.ones(4), torch.zeros(4, dtype=torch.int64)])
def test_one_class_is_not_measured_on_and_not_learned_from(y: torch.Tensor) -> None:
    samples = SampleSet(torch.randn(4, 1, 8, 8), y)
    with pytest.raises(SamplesRefused, match=r"evaluate_on have the class [01] only, and two") as caught:
        _given(evaluate_on=samples)
    assert caught.value.code == "samples_invalid"
    given = _given(samples=samples)
    given.check_taught(TransplantRecipe(objectives={"distillation": 1}, labels=4))
    with pytest.raises(SamplesRefused, match="unlabelled"):
        given.check_taught(TransplantRecipe(objectives={"direct": 1}, labels=4))


def test_one_label_is_of_one_class() -> None:
    given = _given(samples=SampleSet(torch.randn(4, 1, 8, 8), torch.arange(4) % 2))
    given.check_taught(TransplantRecipe(objectives={"direct": 1}, labels=2))
    with pytest.raises(SamplesRefused, match="uses 1 of samples"):
        given.check_taught(TransplantRecipe(objectives={"direct": 1}, labels=1))


def test_the_start_is_the_identity_where_a_group_is_shared_and_nothing_else_is_named() -> None:
    ours, theirs = tones.member(), tones.member(scale=2.0, shift=0.15)
    stranger = tones.member(tones.group(1))
    alone = tones.stating(theirs.head, parents=())
    for task, noise in ((theirs.head, 0.0), (stranger.head, 0.1), (alone, 0.1)):
        given = Given(ours.extractor, task)
        assert given.with_start(RECIPE).adapter.noise == noise
        named = TransplantRecipe.model_validate({"adapter": {"noise": 0.3}})
        assert given.with_start(named) == named
