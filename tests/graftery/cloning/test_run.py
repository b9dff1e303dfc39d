from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graftery.cloning import Cloned, attach, clone, detach, jointly
from graftery.cloning.given import check_sets
from graftery.cloning.insertion import Extension
from graftery.cloning.local import effective
from graftery.data import SampleSet
from graftery.errors import GrafteryError, Misfit, RecipeRefused, SamplesRefused
from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Progress
from graftery.module import ModuleFile, verify
from graftery.spec.manifest import Preprocessing
from graftery.spec.recipes import CloneRecipe
from tests.graftery.cloning.conftest import QUICK
from tests.support import skills

SHORT = CloneRecipe(positions=("0",), views=1, localization_steps=2, healing_steps=2, steps=3, batch=8, tolerance=1)


def _target() -> ModuleFile:
    return skills.net("vgg", skills.TARGET, wide=True)


def _run(recipe: CloneRecipe = SHORT, wanted: tuple[int, ...] = (5, 6), **options: Any) -> Cloned:
    named: dict[str, Any] = {"source": skills.raw(), "target": skills.raw("vgg", skills.TARGET, wide=True)} | options
    source, target = named.pop("source"), named.pop("target")
    samples = named.pop("samples", skills.local(len(wanted)))
    return clone(source, target, samples, skills.names(wanted), recipe=recipe, **named)


def test_a_skill_is_copied_and_taken_out_again(cloned: Cloned, tmp_path: object) -> None:
    found = cloned.metrics
    assert found["mean"] > 0.9
    assert found["original_before"] - found["original"] < 0.08
    assert found["changed"] < 0.1
    assert found["source_unwanted"] > 0.8 > 0.4 > found["masked_unwanted"]
    assert found["added"]["parameters_share"] < 0.15
    made = attach(_target(), [cloned.clone])
    assert made.manifest.outputs["digit"].class_names == skills.names((0, 1, 2, 3, 4, 5, 6))
    samples = skills.judged(2)
    with torch.no_grad():
        decided = made.net()(samples.x).argmax(1)
        assert torch.equal(made.net()(samples.x)[:, :5], _target().net()(samples.x))
    assert samples.y is not None
    right = (decided == samples.y).float()
    assert right[samples.y >= 5].mean().item() == pytest.approx(found["wanted"])
    assert detach(made, cloned.clone.content_digest).digest == _target().digest
    path = f"{tmp_path}/clone"
    cloned.clone.save(path)
    assert verify(path).outputs["digit"].shape == ("N", 2)
    assert attach(_target(), [ModuleFile.load(path)]).digest == made.digest


def test_what_was_done_is_in_the_file(cloned: Cloned) -> None:
    spec = cloned.clone.manifest.clone
    assert spec is not None
    assert (spec.source, spec.target) == (skills.net().content_digest, _target().content_digest)
    assert (spec.position, spec.origin, spec.keep) == ("0", "0", 0.25)
    assert {parent.role for parent in cloned.clone.manifest.parents} == {"source", "target", "samples"}
    assert CloneRecipe.model_validate_json(cloned.clone.manifest.metadata["recipe"]) == cloned.recipe == QUICK


def test_several_clones_of_several_sources_live_in_one_target(cloned: Cloned) -> None:
    with_first = attach(_target(), [cloned.clone])
    shown = skills.images("train", (0, 1, 2, 3, 4, 5, 6, 9))
    assert shown.y is not None
    rows = torch.cat([(shown.y == label).nonzero()[:40, 0] for label in range(8)])
    second = clone(skills.net("mlp", (7, 8, 9)), with_first, shown.take(rows), ["digit 9"], recipe=QUICK)
    both = attach(with_first, [second.clone])
    samples = skills.images("validation", (0, 1, 2, 3, 4, 5, 6, 9))
    with torch.no_grad():
        logits = both.net()(samples.x)
    assert float((logits.argmax(1) == samples.y).float().mean()) > 0.85
    alone = detach(both, cloned.clone.content_digest)
    assert alone.digest == attach(_target(), [second.clone]).digest
    assert detach(alone, second.clone.content_digest).digest == _target().digest


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not() -> None:
    first = _run()
    assert _run().clone.digest == first.clone.digest
    assert _run(SHORT.model_copy(update={"seed": 1})).clone.digest != first.clone.digest


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5])
def test_a_cloning_that_was_stopped_goes_on_to_the_same_bytes(stages: int, tmp_path: Path) -> None:
    recipe = SHORT.model_copy(update={"positions": ("0.2", "1.2"), "joint": True})
    path, told = tmp_path / "checkpoint", list[Progress]()

    def stop(state: Checkpoint) -> None:
        state.save(path)
        if state.step == stages:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(recipe, checkpoint=stop)
    again = _run(recipe, resume=Checkpoint.load(path), progress=told.append)
    assert again.clone.digest == _unbroken().clone.digest
    phases = ["localize", "heal", "search", "search", "joint", "heal", "train"]
    left = phases[stages:]
    assert list(dict.fromkeys(each.phase for each in told)) == list(dict.fromkeys(left))


@cache
def _unbroken() -> Cloned:
    return _run(SHORT.model_copy(update={"positions": ("0.2", "1.2"), "joint": True}))


def test_a_checkpoint_of_another_cloning_is_refused() -> None:
    kept: list[Checkpoint] = []
    _run(checkpoint=kept.append)
    other = SHORT.model_copy(update={"seed": 3})
    assert "another recipe" in _refused(RecipeRefused, "checkpoint_refused", recipe=other, resume=kept[0])


def test_neither_net_changes() -> None:
    source, target = skills.raw(), skills.raw("vgg", skills.TARGET, wide=True)
    before = source.content_digest, target.content_digest
    _run()
    fresh = [replace(net, weights=dict(net.weights)).content_digest for net in (source, target)]
    assert tuple(fresh) == before


def test_positions_are_searched_deep_to_shallow_and_progress_is_told() -> None:
    told: list[Progress] = []
    found = _run(SHORT.model_copy(update={"positions": ("0.2", "1.2")}), progress=told.append)
    tried = found.metrics["positions"]
    assert [each["target"] for each in tried] == ["1.2", "0.2"]
    best = min(tried, key=lambda each: each["held_out_loss"])
    assert found.metrics["position"] == {"target": best["target"], "source": best["source"]}
    assert list(dict.fromkeys(each.phase for each in told)) == ["localize", "heal", "search", "train"]
    assert {entry["phase"] for entry in found.history} == {"localize", "heal", "search", "train"}


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), [("resnet", "vgg"), ("vgg", "vit"), ("vit", "mlp"), ("mlp", "resnet")])
def test_any_family_learns_from_any_other(source: str, target: str) -> None:
    theirs = skills.net(target, skills.TARGET, wide=True)  # type: ignore[arg-type]
    found = clone(
        skills.net(source),  # type: ignore[arg-type]
        theirs,
        skills.local(1),
        skills.names((5,)),
        recipe=CloneRecipe(views=1, localization_steps=60, healing_steps=60, steps=80, keep=0.5),
        evaluate_on=skills.judged(1),
    )
    assert found.metrics["mean"] > 0.8
    assert detach(attach(theirs, [found.clone]), found.clone.content_digest).digest == theirs.digest


@pytest.mark.slow
def test_gates_learn_on_together_with_what_joins_them() -> None:
    told: list[Progress] = []
    recipe = QUICK.model_copy(update={"joint": True, "steps": 60})
    samples = skills.judged(2)
    found = clone(
        skills.net(),
        _target(),
        skills.local(2),
        skills.names((5, 6)),
        recipe=recipe,
        evaluate_on=samples,
        progress=told.append,
    )
    assert found.metrics["mean"] > 0.9
    assert list(dict.fromkeys(each.phase for each in told)) == ["localize", "heal", "joint", "train"]
    joint = [each for each in told if each.phase == "joint"]
    assert set(joint[-1].losses) == {"classes", "features", "kept", "wanted"}
    alone = clone(skills.net(), _target(), skills.local(2), skills.names((5, 6)), recipe=QUICK)
    assert alone.clone.content_digest != found.clone.content_digest


@pytest.mark.slow
def test_in_the_joint_form_what_is_learned_for_shut_features_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Extension] = []

    class Kept(Extension):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(jointly, "Extension", Kept)
    never = QUICK.model_copy(update={"joint": True, "localization_learning_rate": 1e-12, "weight_decay": 0.0})
    _run(never)  # gates stay as they were
    gates_of_u = made[0].rows.detach().abs().sum(0)
    assert 0 < int((gates_of_u == 0).sum()) < len(gates_of_u)


@pytest.mark.slow
def test_noise_stands_for_the_targets_images() -> None:
    local = skills.local(2)
    assert local.y is not None
    wanted = local.take((local.y >= 5).nonzero()[:, 0])
    found = clone(
        skills.net(),
        _target(),
        wanted,
        skills.names((5, 6)),
        recipe=QUICK.model_copy(update={"originals": "noise"}),
        evaluate_on=skills.judged(2),
    )
    assert found.metrics["wanted"] > 0.8
    assert found.metrics["original"] > 0.6
    assert found.recipe == effective(QUICK.model_copy(update={"originals": "noise"}))
    assert not found.recipe.learn_on


def _refused(kind: type[GrafteryError], code: str, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        _run(**options)
    assert caught.value.code == code
    return str(caught.value)


def test_what_cannot_be_is_refused() -> None:
    local = skills.local(2)
    assert local.y is not None
    few = local.take((local.y != 3).nonzero()[:, 0])
    assert "'digit 3' has 0 images" in _refused(SamplesRefused, "samples_missing", samples=few)
    _refused(SamplesRefused, "samples_invalid", samples=SampleSet(local.x))
    _refused(RecipeRefused, "recipe_invalid", wanted=())
    _refused(RecipeRefused, "class_unknown", wanted=(5, 4), target=skills.raw("mlp", skills.SOURCE))
    _refused(Misfit, "class_known", target=skills.raw("mlp", (3, 4, 5)))
    _refused(RecipeRefused, "position_invalid", recipe=SHORT.model_copy(update={"positions": ("nowhere",)}))
    other = skills.raw()
    manifest = other.manifest.model_copy(update={"preprocessing": Preprocessing(mean=(0.1,), std=(1,))})
    _refused(Misfit, "preprocessing_mismatch", source=replace(other, manifest=manifest))


def test_images_that_the_nets_do_not_read_are_refused() -> None:
    local = skills.local(2)
    for x in (local.x.repeat(1, 3, 1, 1), local.x[..., :6, :6], local.x.flatten(1)):
        assert "samples has images of shape" in _refused(Misfit, "shape_mismatch", samples=SampleSet(x, local.y))
        _refused(Misfit, "shape_mismatch", evaluate_on=SampleSet(x, local.y))
        _refused(Misfit, "shape_mismatch", source_evaluate_on=SampleSet(x, local.y))


def test_images_of_a_size_that_only_the_target_reads_are_refused() -> None:
    local = skills.local(2)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, len(skills.SOURCE)))
    maps = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    pooled = skills.untrained(maps, skills.TARGET)
    wide = SampleSet(local.x.repeat(1, 1, 2, 2), local.y)
    check_sets(pooled, pooled, (), wide, evaluate_on=None, source_evaluate_on=None)
    source = skills.untrained(flat, skills.SOURCE)
    with pytest.raises(Misfit, match=r"samples has images of shape \[1, 16, 16\], the net reads \[1, 8, 8\]"):
        check_sets(source, pooled, (), wide, evaluate_on=None, source_evaluate_on=None)


def test_labels_to_measure_by_that_are_none_of_the_classes_are_refused() -> None:
    local = skills.local(2)
    assert local.y is not None
    for name in ("evaluate_on", "source_evaluate_on"):
        said = _refused(SamplesRefused, "samples_invalid", **{name: SampleSet(local.x, local.y + 7)})
        assert name in said
        _refused(SamplesRefused, "samples_missing", **{name: SampleSet(local.x)})


def test_a_position_that_is_named_alone_has_no_loss_that_nobody_measured() -> None:
    (only,) = _run().metrics["positions"]
    assert only["held_out_loss"] is None


def test_a_masked_source_that_knows_too_little_is_refused() -> None:
    recipe = CloneRecipe(keep=0.02, localization_steps=0, healing_steps=0, tolerance=0.1, positions=("0",), views=1)
    said = _refused(Misfit, "localization_failed", recipe=recipe, source=skills.net(), wanted=(5, 6))
    assert "keep more than 0.02" in said
