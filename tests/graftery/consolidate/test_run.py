from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from graftery.consolidate import Cell, Consolidated, consolidate_category, consolidate_task
from graftery.data import SampleSet
from graftery.errors import GrafteryError, Misfit, RecipeRefused, SamplesRefused
from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Progress
from graftery.module import verify
from graftery.nn.freezing import state_digest
from graftery.spec.recipes import ConsolidateRecipe
from tests.support.cells import SHORT, adapter, anchored, category, judged, task, taught

BETTER = SHORT.model_copy(update={"steps": 60, "tolerance": 0.2})


def _task(cells: list[Cell], recipe: ConsolidateRecipe = SHORT, **options: Any) -> Consolidated:
    return consolidate_task(task(), cells, recipe, **options)


def _cells() -> list[Cell]:
    return [taught(adapter=adapter()), taught("other", 2), anchored()]


def _category_cells() -> list[Cell]:
    """Two tasks of one category, taught by a teacher whose features these are, and one that is anchored."""
    return [taught("one"), replace(taught("two", adapter=adapter()), teacher_task=task(by=0.1)), anchored("three", 0)]


@pytest.fixture(scope="module")
def better() -> Consolidated:
    one, other = taught(), taught("other", 2)
    test = judged(one, torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    return _task([replace(one, evaluate_on=test), other, anchored()], BETTER)


def test_a_task_module_comes_nearer_to_its_teachers(better: Consolidated) -> None:
    assert not better.unchanged
    one, other, held = better.reports
    for report in (one, other):
        assert report.after.explained > report.before.explained
        assert report.after.agreement > report.before.agreement  # type: ignore[operator]
    assert held.anchored and held.before.explained == held.before.agreement == 1
    assert held.after.explained >= 1 - BETTER.tolerance
    assert better.module.content_digest != task().content_digest


def test_a_report_has_metrics_and_the_interval_of_their_difference(better: Consolidated) -> None:
    one, other, _ = better.reports
    assert one.teacher == {"accuracy": 1.0, "balanced_accuracy": 1.0}
    low, high = one.difference["accuracy"]  # type: ignore[index]
    assert low <= one.after.metrics["accuracy"] - one.before.metrics["accuracy"] <= high  # type: ignore[index]
    assert other.after.metrics is other.difference is other.teacher is None
    assert (one.sources, one.labels) == (("inversion", "noise"), 0)


def test_the_module_means_what_it_meant_and_tells_where_it_came_from(better: Consolidated, tmp_path: Path) -> None:
    better.module.save(tmp_path / "module")
    facts = verify(tmp_path / "module")
    assert facts.content_digest == better.module.content_digest
    said, was = better.module.manifest, task().manifest
    same = ("kind", "input", "outputs", "preprocessing", "cut", "description", "licence")
    assert all(getattr(said, name) == getattr(was, name) for name in same)
    named = {(parent.role, parent.digest) for parent in said.parents}
    assert named == {
        ("task", task().content_digest),
        ("teacher_task", task(by=0.15).content_digest),
        *(("category", category(seed).content_digest) for seed in (0, 1, 2)),
    }
    assert said.metadata["by"] == "0.0"
    assert ConsolidateRecipe.model_validate_json(said.metadata["consolidation"]) == better.recipe
    running = [name for name in task().weights if "running" in name]
    assert running and all(torch.equal(better.module.weights[n], task().weights[n]) for n in running)


def test_a_category_module_learns_from_several_tasks(tmp_path: Path) -> None:
    """The teachers are not reached from the features as they are."""
    done = consolidate_category(category(), _category_cells()[:2], BETTER.model_copy(update={"learning_rate": 1e-3}))
    assert not done.unchanged
    means = [sum(getattr(r, when).explained for r in done.reports) for when in ("before", "after")]
    assert means[1] > means[0]
    assert done.module.manifest.kind == "category"
    assert done.module.manifest.preprocessing == category().manifest.preprocessing
    assert {p.role for p in done.module.manifest.parents} == {"category", "task", "teacher_task", "adapter"}
    assert done.reports[0].objectives == {"distillation": 4.0}
    done.module.save(tmp_path / "module")
    verify(tmp_path / "module")


def test_adapters_learn_on_too_unless_they_are_frozen(tmp_path: Path) -> None:
    recipe = BETTER.model_copy(update={"balance": "loss"})
    done = _task([taught(adapter=adapter()), anchored()], recipe)
    assert list(done.adapters) == ["taught"]
    made = done.adapters["taught"]
    assert made.content_digest != adapter().content_digest
    assert {p.role: p.digest for p in made.manifest.parents} == {
        "adapter": adapter().content_digest,
        "category": category().content_digest,
        "task": done.module.content_digest,
    }
    made.save(tmp_path / "adapter")
    verify(tmp_path / "adapter")
    frozen = _task([taught(adapter=adapter()), anchored()], BETTER.model_copy(update={"adapters": "frozen"}))
    assert not frozen.unchanged
    assert frozen.adapters == {}


def test_where_no_state_is_better_all_is_as_it_was() -> None:
    # No cell may lose anything, and an anchored one has everything to lose.
    done = _task(_cells(), SHORT.model_copy(update={"tolerance": 0.0, "learning_rate": 1.0}))
    assert done.unchanged
    assert done.module is not None and done.module.digest == task().digest
    assert done.adapters == {}
    assert all(report.before == report.after for report in done.reports)


@pytest.mark.parametrize("kind", ["task", "category"])
def test_the_same_recipe_and_seed_give_the_same_bytes(kind: str) -> None:
    digests = [_short(kind, SHORT.model_copy(update={"seed": seed})).module.digest for seed in (3, 3, 4)]
    assert digests[0] == digests[1] != digests[2]


def _short(kind: str, recipe: ConsolidateRecipe, **options: Any) -> Consolidated:
    gradients = {"distillation": 4.0, "back_distillation": 1.0} if kind == "task" else {}
    recipe = recipe.model_copy(update={"tolerance": 1.0, "objectives": gradients})
    if kind == "task":
        return _task([taught(adapter=adapter()), taught("other", 2)], recipe, **options)
    return consolidate_category(category(), _category_cells()[:2], recipe, **options)


@pytest.mark.parametrize("kind", ["task", "category"])
def test_a_resumed_run_gives_the_bytes_of_an_unbroken_one(kind: str, tmp_path: Path) -> None:
    kept: list[Checkpoint] = []
    recipe = SHORT.model_copy(update={"seed": 3})  # one with which so few steps make something better
    unbroken = _short(kind, recipe, checkpoint=kept.append, checkpoint_s=0.0)
    assert not unbroken.unchanged
    assert [c.phase for c in kept].count("inversion") == 6
    for checkpoint in [kept[1], kept[4], *random.Random(1).sample(kept[6:], 3)]:
        checkpoint.save(tmp_path / "checkpoint")
        told: list[Progress] = []
        again = Checkpoint.load(tmp_path / "checkpoint")
        resumed = _short(kind, recipe, resume=again, progress=told.append)
        assert resumed.module.digest == unbroken.module.digest, (checkpoint.phase, checkpoint.step)
        assert {n: a.digest for n, a in resumed.adapters.items()} == {n: a.digest for n, a in unbroken.adapters.items()}
        assert resumed.reports == unbroken.reports
        assert checkpoint.phase == "inversion" or told[0].phase != "inversion"


def test_a_checkpoint_of_another_consolidation_is_refused() -> None:
    kept: list[Checkpoint] = []
    cells = [taught()]
    _task(cells, checkpoint=kept.append, checkpoint_s=0.0)
    for others, recipe in ((cells, SHORT.model_copy(update={"seed": 1})), ([taught(adapter=adapter())], SHORT)):
        with pytest.raises(RecipeRefused, match="another recipe"):
            _task(others, recipe, resume=kept[-1])


def test_progress_is_told_by_phase_and_may_stop_the_run() -> None:
    told: list[Progress] = []
    _task(_cells(), progress=told.append)
    ends = [(p.phase, p.steps) for p in told if p.step == p.steps]
    assert [phase for phase, _ in ends] == [*["inversion"] * 3, "train", "evaluate"]
    assert set(next(p for p in told if p.phase == "train").losses) == {"distillation", "anchor"}

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _task(_cells(), progress=stop)


@pytest.mark.parametrize("kind", ["task", "category"])
def test_all_but_what_learns_is_as_it_was(kind: str) -> None:
    cells = _cells() if kind == "task" else _category_cells()[:2]
    files = [f for c in cells for f in (c.category, c.task, c.adapter, c.teacher_task) if f is not None]
    before = [state_digest(file.net()) for file in files]
    run = consolidate_task if kind == "task" else consolidate_category
    recipe = SHORT.model_copy(update={"tolerance": 1.0})
    done = run(cells[0].task if kind == "task" else cells[0].category, cells, recipe)
    assert [state_digest(file.net()) for file in files] == before
    assert done.module.digest != files[0].digest


def test_few_labels_are_learned_from_beside_the_teachers() -> None:
    one = taught()
    samples = judged(one, torch.randn(12, 1, 8, 8))
    recipe = SHORT.model_copy(update={"sources": ()})
    with_labels, alone = _task([replace(one, samples=samples), anchored()], recipe).reports
    assert (with_labels.labels, alone.labels) == (12, 0)
    assert "direct" in with_labels.objectives and "direct" not in alone.objectives
    assert "samples" in with_labels.sources and "samples" not in alone.sources
    fewer = _task([replace(one, samples=samples)], recipe.model_copy(update={"labels": 5}))
    assert fewer.reports[0].labels == 5
    # Labels without any teacher are enough.
    _task([anchored(samples=SampleSet(torch.randn(6, 1, 8, 8), torch.arange(6) % 3))], recipe)


def test_dense_outputs_and_images_without_labels() -> None:
    gS, gT = (task(1, by=by, semantics="segmentation") for by in (0.0, 0.15))
    cell = Cell("dense", category(), gS, teacher_task=gT, unlabelled=SampleSet(torch.randn(20, 1, 8, 8)))
    recipe = SHORT.model_copy(update={"sources": ()})
    (report,) = consolidate_task(gS, [cell], recipe).reports
    assert report.sources == ("unlabelled", "inversion")
    assert report.before.agreement is None
    (bare,) = consolidate_task(gS, [replace(cell, unlabelled=None)], recipe).reports
    assert bare.sources == ("inversion", "noise")


def test_cells_learn_from_each_others_images() -> None:
    # Of so many images some are held out, whatever their last bits are: which ones is said by their bytes.
    many = {"tolerance": 1.0, "inversion": SHORT.inversion.model_copy(update={"images": 64})}
    cells, recipe = [taught(), taught("other", 2)], SHORT.model_copy(update=many)
    pooled, apart = (_task(cells, recipe.model_copy(update={"pooled": pooled})) for pooled in (True, False))
    assert pooled.module.digest != apart.module.digest
    assert pooled.reports[0].before.explained != apart.reports[0].before.explained  # looked at on other images
    assert pooled.reports[0].before.agreement == apart.reports[0].before.agreement


def _many() -> list[Cell]:
    return [taught(str(index)) for index in range(22)]


BAD = SampleSet(torch.randn(4, 1, 8, 8), torch.ones(4) * 7)


@pytest.mark.parametrize(
    "cells, recipe, error, code",
    [
        (list, {}, RecipeRefused, "recipe_invalid"),
        (_many, {}, RecipeRefused, "recipe_invalid"),
        (lambda: [taught(), taught()], {}, RecipeRefused, "recipe_invalid"),
        (lambda: [anchored()], {}, RecipeRefused, "recipe_invalid"),
        (lambda: [replace(taught(), task=task(by=0.2))], {}, Misfit, "cells_differ"),
        (lambda: [taught(), replace(anchored(), task=task(4))], {}, Misfit, "cells_differ"),
        (lambda: [replace(taught(), teacher_task=task(4))], {}, Misfit, "shape_mismatch"),
        (lambda: [replace(taught(), adapter=category())], {}, Misfit, "kind_mismatch"),
        (lambda: [taught(samples=BAD)], {}, SamplesRefused, "samples_invalid"),
        (lambda: [taught(evaluate_on=SampleSet(torch.randn(4, 1, 8, 8)))], {}, SamplesRefused, "samples_missing"),
        (lambda: [taught(unlabelled=SampleSet(torch.randn(4, 1, 7, 8)))], {}, SamplesRefused, "samples_invalid"),
        (
            lambda: [taught(samples=SampleSet(BAD.x, torch.arange(4) % 3))],
            {"labels": 9},
            RecipeRefused,
            "samples_missing",
        ),
        (lambda: [taught()], {"sources": ("moments",)}, RecipeRefused, "recipe_invalid"),
        # Its own images and noise are two sources; the other cell's images would be a third.
        (
            lambda: [taught(), taught("other", 2)],
            {"sources": ("inversion", "noise"), "batch": 2},
            RecipeRefused,
            "recipe_invalid",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_step(
    cells: Any, recipe: dict[str, Any], error: type[GrafteryError], code: str
) -> None:
    def never(_: Progress) -> None:
        raise AssertionError("a step was taken")

    with pytest.raises(error) as caught:
        _task(cells(), SHORT.model_copy(update=recipe), progress=never)
    assert caught.value.code == code


def test_an_error_names_its_cell() -> None:
    with pytest.raises(SamplesRefused, match="cell the second: "):
        _task([taught(), anchored("the second", samples=BAD)])


def test_features_teach_no_category_module() -> None:
    with pytest.raises(RecipeRefused, match="learns from images"):
        recipe = SHORT.model_copy(update={"sources": ("moments",)})
        consolidate_category(category(), [taught()], recipe)


def test_cells_of_another_category_are_refused() -> None:
    with pytest.raises(Misfit) as caught:
        consolidate_category(category(), [taught(), taught("other", 2)], SHORT)
    assert caught.value.code == "cells_differ"
    assert caught.value.details == {"cells": ["other"]}
