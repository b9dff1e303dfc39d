from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from graftery.module import ModuleFile
from graftery.spec.recipes import AdapterRecipe, InversionRecipe, StopRecipe, TransplantRecipe
from graftery.transplant import Checkpoint, Transplant, sketch, transplant
from tests.support import transplants as t

Files = tuple[ModuleFile, ModuleFile, ModuleFile]
ROUNDS = TransplantRecipe(
    steps=10,
    batch=8,
    sources=("inversion", "noise"),
    inversion=InversionRecipe(images=8, steps=5, rounds=2, round_images=4, round_steps=3, rival_steps=4),
)


def _dense_files() -> Files:
    features = torch.rand(2, 4, 4, 4)
    f, *_ = t.image_files()
    return f, *(t.task_file(t.dense_task(seed=s), features, "segmentation") for s in (1, 0))  # type: ignore[return-value]


def _run(files: Files, recipe: TransplantRecipe = ROUNDS, **options: Any) -> Transplant:
    category, task, teacher = files
    return transplant(category, task, teacher_task=teacher, recipe=recipe, **options)


def test_each_round_of_an_inversion_adds_images_and_the_student_goes_on_from_there() -> None:
    kept: list[Checkpoint] = []
    done = _run(_dense_files(), ROUNDS, checkpoint=kept.append, checkpoint_s=0.0)
    made = [(c.phase, len(c.tensors.get("images", ()))) for c in kept]
    rounds = [("inversion", 0), ("train", 8), ("inversion", 8), ("train", 12), ("inversion", 12), ("train", 16)]
    assert list(dict.fromkeys(made)) == rounds
    last_rival, first = ([c for c, at in zip(kept, made, strict=True) if at == which] for which in rounds[-2:])
    weight = "layers.0.weight"
    step = first[0].tensors[f"value.{weight}"] - last_rival[0].tensors[f"rival.{weight}"]
    assert float(step.abs().max()) < 1.01 * done.recipe.learning_rate, "one step of Adam from the rival"
    assert done.recipe.inversion.rounds == 2
    assert not torch.equal(first[0].tensors["images"][8:12], first[0].tensors["images"][12:])


@pytest.mark.slow
def test_a_run_resumed_in_any_round_gives_the_bytes_of_an_unbroken_one(tmp_path: Path) -> None:
    kept: list[Checkpoint] = []
    wanted = _run(_dense_files(), ROUNDS, checkpoint=kept.append, checkpoint_s=0.0).adapter.save(tmp_path / "unbroken")
    stages = {(c.phase, len(c.tensors.get("images", ()))): c for c in kept if c.step == 2}
    assert len(stages) == 6
    for at, checkpoint in stages.items():
        checkpoint.save(tmp_path / "checkpoint")
        resumed = _run(_dense_files(), ROUNDS, resume=Checkpoint.load(tmp_path / "checkpoint"))
        assert resumed.adapter.save(tmp_path / "resumed") == wanted, at


def test_depths_to_choose_from_start_anew_after_the_rounds() -> None:
    done = _run(_dense_files(), ROUNDS.model_copy(update={"adapter": AdapterRecipe(choose=(1, 2))}))
    assert done.metrics["choice"].keys() == {"layers", "1", "2"}
    again = _run(_dense_files(), TransplantRecipe.model_validate_json(done.recipe.model_dump_json()))
    assert (again.recipe.adapter.choose, again.recipe.inversion.rival_layers) == ((), 2)
    assert again.adapter.content_digest == done.adapter.content_digest, "the recipe gives the adapter"


@pytest.mark.parametrize("choose", [(), (1, 2)])
def test_crops_of_a_sketch_stand_in_for_images_of_dense_outputs(choose: tuple[int, ...]) -> None:
    _, task, teacher = _dense_files()
    net, images = t.image_category(), torch.randn(40, 1, 8, 8)
    plain = t.category_file(net, images[:2])
    sketched = t.category_file(net, images[:2], sketch=sketch(plain, images, crops=30))
    recipe = TransplantRecipe(
        sources=("crops",),
        steps=40,
        batch=8,
        adapter=AdapterRecipe(choose=choose),
        stop=StopRecipe(every=4, patience=1, tolerance=1.0),
    )
    done = _run((sketched, task, teacher), recipe)
    assert done.recipe.sources == ("crops",)
    assert max(int(e["step"]) for e in done.history if e["phase"] == "train") == 40, "noise does not end it"
    losses = [entry["loss"] for entry in done.history if entry["phase"] == "train"]
    assert losses[-1] < losses[0]  # type: ignore[operator]
    beside = _run((sketched, task, teacher), recipe.model_copy(update={"sources": ("noise", "crops"), "steps": 3}))
    assert beside.recipe.sources == ("noise", "crops")
