from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graftery.data import SampleSet
from graftery.errors import GrafteryError, Misfit, RecipeRefused, SamplesRefused, TrainingFailed
from graftery.learning.loop import Loop
from graftery.module import ModuleFile
from graftery.nn.freezing import state_digest
from graftery.spec.recipes import NoiseRecipe, TransplantRecipe
from graftery.transplant import Checkpoint, Progress, Transplant, compose, sketch, transplant
from tests.support import tones
from tests.support import transplants as t

Files = tuple[ModuleFile, ModuleFile, ModuleFile]
SHORT = TransplantRecipe.model_validate(
    {"steps": 10, "batch": 8, "sources": ["inversion", "noise"], "inversion": {"images": 8, "steps": 5}}
)

ONE_CLASS = SampleSet(torch.randn(4, 1, 8, 8), torch.ones(4))


def _run(files: Files, recipe: TransplantRecipe = SHORT, **options: Any) -> Transplant:
    category, task, teacher = files
    return transplant(category, task, teacher_task=teacher, recipe=recipe, **options)


def _judged(files: Files, x: torch.Tensor) -> SampleSet:
    """Samples with the labels that the teacher gives."""
    with torch.no_grad():
        logits = compose(files[0], None, files[2])(x)
    return SampleSet(x, (logits[:, 0] > logits[:, 0].median()).long() if logits.shape[1] == 1 else logits.argmax(1))


def test_the_composed_network_learns_what_the_teacher_does(tmp_path: Path) -> None:
    files = t.image_files(outputs=3)
    samples = _judged(files, torch.randn(200, 1, 8, 8))
    recipe = TransplantRecipe(steps=300, sources=("noise",), learning_rate=1e-2)
    done = _run(files, recipe, evaluate_on=samples)
    found = done.metrics
    assert found["adapter"]["accuracy"] > found["identity"]["accuracy"] + 0.1
    assert found["teacher"]["accuracy"] == 1
    low, high = found["adapter_interval"]["accuracy"]
    assert low <= found["adapter"]["accuracy"] <= high
    assert found["evaluated"]["samples"] == 200
    assert 0.3 < found["agreement"]["kappa"] <= 1
    done.adapter.save(tmp_path / "adapter")
    again = ModuleFile.load(tmp_path / "adapter")
    net = compose(files[0], again, files[1])
    with torch.no_grad():
        decided = net(samples.x).argmax(1)
    assert float((decided == samples.y).float().mean()) == pytest.approx(found["adapter"]["accuracy"])


def test_the_adapter_tells_where_it_came_from() -> None:
    files = t.image_files()
    done = _run(files)
    manifest = done.adapter.manifest
    assert manifest.kind == "adapter"
    assert {p.role: p.digest for p in manifest.parents} == dict(
        zip(("category", "task", "teacher_task"), (file.content_digest for file in files), strict=True)
    )
    assert TransplantRecipe.model_validate_json(manifest.metadata["recipe"]) == done.recipe
    assert done.recipe.adapter.final_relu is True
    assert {entry["phase"] for entry in done.history} == {"inversion", "train", "evaluate"}


@pytest.mark.parametrize(
    "objectives, last",
    [({}, 12), ({"distillation": 1}, 12), ({"back_distillation": 1}, 40), ({"pseudo_gradient": 1}, 40)],
)
def test_it_ends_when_outputs_come_no_nearer_if_outputs_are_what_it_learns(
    objectives: dict[str, float], last: int
) -> None:
    stop = {"every": 4, "patience": 1, "tolerance": 1.0, "cooling": 0.5}  # no rise is enough
    fields = {"objectives": objectives, "sources": ["noise"], "steps": 40, "batch": 8, "stop": stop}
    done = _run(t.image_files(), TransplantRecipe.model_validate(fields))
    assert max(int(entry["step"]) for entry in done.history if entry["phase"] == "train") == last
    looks = done.metrics.get("watched", [])
    assert [step for step, _ in looks] == ([4, 8] if last == 12 else [])
    assert all(share <= 1 for _, share in looks)


def test_the_same_recipe_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    digests = [
        _run(t.image_files(), SHORT.model_copy(update={"seed": seed})).adapter.save(tmp_path / "a")
        for seed in (3, 3, 4)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_resumed_run_gives_the_bytes_of_an_unbroken_one(tmp_path: Path) -> None:
    kept: list[Checkpoint] = []
    samples = _judged(t.image_files(), torch.randn(20, 1, 8, 8))
    recipe = SHORT.model_copy(update={"sources": ("samples", "inversion", "noise")})
    unbroken = _run(t.image_files(), recipe, samples=samples, checkpoint=kept.append, checkpoint_s=0.0)
    wanted = unbroken.adapter.save(tmp_path / "unbroken")
    assert [(c.phase, c.step) for c in kept] == [("inversion", s + 1) for s in range(5)] + [
        ("train", s + 1) for s in range(10)
    ]
    for checkpoint in [*random.Random(1).sample(kept[:5], 2), *random.Random(2).sample(kept[5:], 3)]:
        checkpoint.save(tmp_path / "checkpoint")
        told: list[Progress] = []
        resumed = _run(
            t.image_files(),
            recipe,
            samples=samples,
            resume=Checkpoint.load(tmp_path / "checkpoint"),
            progress=told.append,
        )
        assert resumed.adapter.save(tmp_path / "resumed") == wanted, (checkpoint.phase, checkpoint.step)
        assert told[0].phase == "evaluate" or (told[0].phase, told[0].step) > (checkpoint.phase, checkpoint.step)


def test_a_checkpoint_of_another_transplant_is_refused() -> None:
    kept: list[Checkpoint] = []
    _run(t.image_files(), checkpoint=kept.append, checkpoint_s=0.0)
    with pytest.raises(RecipeRefused, match="another recipe"):
        _run(t.image_files(), SHORT.model_copy(update={"seed": 1}), resume=kept[-1])


def _dense_files() -> Files:
    f = t.image_files()[0]
    features = torch.rand(2, 4, 4, 4)
    return f, *(t.task_file(t.dense_task(seed=s), features, "segmentation") for s in (1, 0))  # type: ignore[return-value]


@pytest.mark.slow
def test_noise_for_dense_outputs_is_matched_to_the_batch_norms_of_f() -> None:
    matched = _run(_dense_files())
    assert matched.recipe.noise.matched is True
    plain = _run(_dense_files(), SHORT.model_copy(update={"noise": NoiseRecipe(matched=False)}))
    assert matched.history != plain.history


@pytest.mark.slow
def test_a_sketch_guides_the_inversion_of_dense_features() -> None:
    _, task, teacher = _dense_files()
    net, images = t.image_category(), torch.randn(40, 1, 8, 8)
    plain = t.category_file(net, images[:2])
    sketched = t.category_file(net, images[:2], sketch=sketch(plain, images))
    recipe = SHORT.model_copy(update={"sources": (), "steps": 0})
    guided, alone = (_run((f, task, teacher), recipe) for f in (sketched, plain))
    assert guided.recipe.sources == alone.recipe.sources == ("inversion", "noise")
    assert guided.history[0]["phase"] == "inversion"
    assert guided.history[0]["loss"] > alone.history[0]["loss"]  # type: ignore[operator]


def _token_files() -> Files:
    f = t.category_file(t.token_category(), torch.randn(2, 3, 3))
    return f, *(t.task_file(t.token_task(seed=s), torch.randn(2, 3, 4)) for s in (1, 0))  # type: ignore[return-value]


def _other_sizes() -> Files:
    f, _, teacher = t.image_files()
    return f, t.task_file(t.image_task(channels=6, seed=1), torch.rand(2, 6, 4, 4)), teacher


@pytest.mark.parametrize(
    "files, shape",
    [(_dense_files, (1, 8, 8)), (_token_files, (3, 3)), (_other_sizes, (1, 8, 8)), (t.vector_files, (3,))],
)
def test_every_kind_of_feature_and_output(files: Callable[[], Files], shape: tuple[int, ...]) -> None:
    parts = files()
    recipe = TransplantRecipe(steps=60, batch=8, sources=("noise",), learning_rate=1e-2)
    done = _run(parts, recipe)
    losses = [entry["loss"] for entry in done.history if entry["phase"] == "train"]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])  # type: ignore[arg-type]
    output = compose(parts[0], done.adapter, parts[1])(torch.randn(3, *shape))
    assert output.shape == compose(parts[0], None, parts[2])(torch.randn(3, *shape)).shape
    semantics = parts[1].manifest.outputs["is"].semantics
    assert (done.metrics["agreement"] is None) == (semantics != "classification")
    assert len(list(compose(parts[0], done.adapter, parts[1]).adapter.buffers())) == (  # type: ignore[union-attr, operator]
        2 * (done.recipe.adapter.layers or 0) + 2 * (files is _other_sizes)
    )


def test_a_sketch_stands_in_for_images() -> None:
    net = t.image_category()
    plain = t.category_file(net, torch.randn(2, 1, 8, 8))
    sketched = t.category_file(net, torch.randn(2, 1, 8, 8), sketch=sketch(plain, torch.randn(40, 1, 8, 8)))
    done = _run((sketched, *t.image_files()[1:]), TransplantRecipe(steps=5))
    assert "moments" in done.recipe.sources
    assert sketched.content_digest == plain.content_digest


def test_a_sketch_of_features_of_another_size_is_left_out_or_refused_by_name() -> None:
    """Sizes are free, and the images are not of the size that the owner's were."""
    files = t.sketched_files()
    plain = SHORT.model_copy(update={"sources": ()})
    for shape in ((1, 8, 8), (1, 6, 6)):
        images = SampleSet(torch.randn(8, *shape))
        sources = _run(files, plain, unlabelled=images).recipe.sources
        assert sources == (
            ("unlabelled", "inversion", "moments") if shape == (1, 8, 8) else ("unlabelled", "inversion")
        )
    named = SHORT.model_copy(update={"sources": ("unlabelled", "moments")})
    with pytest.raises(RecipeRefused, match=r"features \[4, 4, 4\], inputs of \[1, 6, 6\] give \[4, 3, 3\]") as caught:
        _run(files, named, unlabelled=images)
    assert "without moments" in str(caught.value.hint)


def test_a_checkpoint_of_another_sketch_is_refused() -> None:
    net, x = t.image_category(), torch.randn(40, 1, 8, 8)
    plain = t.category_file(net, x[:2])
    recipe = SHORT.model_copy(update={"sources": ("moments", "noise")})
    files = [t.category_file(net, x[:2], sketch=sketch(plain, images)) for images in (x, x + 1)]
    kept: list[Checkpoint] = []
    _run((files[0], *t.image_files()[1:]), recipe, checkpoint=kept.append, checkpoint_s=0.0)
    with pytest.raises(RecipeRefused, match="another recipe"):
        _run((files[1], *t.image_files()[1:]), recipe, resume=kept[-1])


def test_without_the_teacher_only_labels_teach() -> None:
    files = t.image_files()
    samples = _judged(files, torch.randn(40, 1, 8, 8))
    recipe = TransplantRecipe(steps=150, learning_rate=2e-2)
    done = transplant(files[0], files[1], samples=samples, evaluate_on=samples, recipe=recipe)
    assert done.recipe.objectives.keys() == {"direct"}
    assert done.metrics["teacher"] is None
    assert done.metrics["agreement"] is None
    assert done.metrics["adapter"]["auc"] > done.metrics["identity"]["auc"]


def test_zero_steps_give_the_identity_adapter() -> None:
    recipe = TransplantRecipe.model_validate({"steps": 0, "sources": ["noise"], "adapter": {"noise": 0}})
    done = _run(t.image_files(), recipe)
    x = torch.rand(3, 4, 4, 4)
    assert torch.equal(done.adapter.net()(x), x)


def test_divergence_tells_the_last_finite_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graftery.learning.loop.GROWTH_LIMIT", 1.0)
    recipe = TransplantRecipe(steps=200, sources=("noise",), learning_rate=10.0, objectives={"distillation": 10.0})
    with pytest.raises(TrainingFailed, match=r"the last finite loss was [\d.e+]+ at step \d+") as caught:
        _run(t.vector_files(), recipe)
    assert caught.value.code == "diverged"


def test_progress_is_told_by_phase_and_may_stop_the_run() -> None:
    told: list[Progress] = []
    _run(t.image_files(), progress=told.append)
    assert [(p.phase, p.step) for p in told if p.step == p.steps] == [("inversion", 5), ("train", 10), ("evaluate", 1)]
    assert set(told[0].losses) == {"statistics", "class", "variation"}
    assert told[0].loss == pytest.approx(sum(told[0].losses.values()))

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(t.image_files(), progress=stop)


@pytest.mark.parametrize(
    "options, error, code",
    [
        ({"samples": SampleSet(torch.randn(4, 1, 7, 8), torch.ones(4))}, SamplesRefused, "samples_invalid"),
        ({"samples": SampleSet(torch.randn(4, 1, 8, 8), torch.ones(4) * 3)}, SamplesRefused, "samples_invalid"),
        ({"samples": ONE_CLASS, "recipe": TransplantRecipe()}, SamplesRefused, "samples_invalid"),
        ({"evaluate_on": ONE_CLASS}, SamplesRefused, "samples_invalid"),
        ({"evaluate_on": SampleSet(torch.randn(4, 1, 8, 8), torch.ones(4, 8, 8))}, SamplesRefused, "samples_invalid"),
        ({"evaluate_on": SampleSet(torch.randn(4, 1, 8, 8))}, SamplesRefused, "samples_missing"),
        ({"unlabelled": SampleSet(torch.randn(4, 1, 8, 8, dtype=torch.float64))}, SamplesRefused, "samples_invalid"),
        ({"recipe": TransplantRecipe(labels=3)}, RecipeRefused, "samples_missing"),
        ({"recipe": TransplantRecipe(sources=("moments",))}, RecipeRefused, "recipe_invalid"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_step(
    options: dict[str, Any], error: type[GrafteryError], code: str
) -> None:
    def never(_: Progress) -> None:
        raise AssertionError("a step was taken")

    with pytest.raises(error) as caught:
        _run(t.image_files(), **{"recipe": SHORT, **options}, progress=never)
    assert caught.value.code == code


@pytest.mark.parametrize("role", ["samples", "evaluate_on"])
def test_masks_of_another_resolution_are_refused_before_any_step(role: str) -> None:
    """Height and width of the output are free: only the nets tell it."""
    told: list[Progress] = []
    masks = torch.arange(96).view(6, 4, 4) % 2  # the output is as large as the image
    sets = {role: SampleSet(torch.randn(6, 1, 8, 8), masks)}
    with pytest.raises(SamplesRefused, match=rf"{role} are of \[4, 4\] pixels, the output of \[8, 8\]") as caught:
        _run(_dense_files(), SHORT.model_copy(update={"sources": ()}), progress=told.append, **sets)
    assert caught.value.code == "samples_invalid"
    assert not told
    if role == "samples":  # Their masks teach nothing here.
        unused = SHORT.model_copy(update={"labels": 0, "steps": 1})
        assert _run(_dense_files(), unused, **sets).recipe.labels == 0


def test_what_an_adapter_is_measured_on_does_not_make_its_noise() -> None:
    """Sizes are free: those of the probe count, and other ones are only measured on."""
    torch.manual_seed(0)
    task, teacher = (
        t.task_file(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 1)), torch.rand(2, 4, 4, 4))
        for _ in range(2)
    )
    files = t.image_files()[0], task, teacher
    larger = SampleSet(torch.randn(8, 1, 12, 12), torch.arange(8) % 2)
    alone, measured = _run(files), _run(files, evaluate_on=larger)
    assert measured.metrics["adapter"] is not None
    assert measured.adapter.content_digest == alone.adapter.content_digest
    fixed = files[0], *t.image_files()[1:]
    with pytest.raises(SamplesRefused, match=r"evaluate_on have inputs of \[1, 12, 12\]; an adapter for \[1, 8, 8\]"):
        _run(fixed, evaluate_on=larger)


def test_modules_that_do_not_fit_are_refused() -> None:
    images, vectors = t.image_files(), t.vector_files()
    with pytest.raises(Misfit):
        transplant(images[0], images[0])
    with pytest.raises(Misfit):
        transplant(images[0], images[1], teacher_task=vectors[2])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_that_runs_out_has_its_own_code(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    def full(*_: object) -> None:
        if device == "cpu":
            torch.empty(2**50, dtype=torch.uint8)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Loop, "tell", full)
    with pytest.raises(TrainingFailed) as caught:
        _run(t.image_files())
    assert caught.value.code == "out_of_memory"


def test_files_are_as_they_were() -> None:
    files = t.image_files()
    before = [state_digest(file.net()) for file in files]
    _run(files)
    assert [state_digest(file.net()) for file in files] == before
    assert replace(files[0]).content_digest == files[0].content_digest


def test_modules_of_one_group_start_from_nothing_but_the_identity() -> None:
    ours, theirs = tones.member(), tones.member(scale=2.0, shift=0.15)
    recipe = TransplantRecipe(steps=0, sources=("noise",))
    test = tones.images(40, seed=1)

    def made(*files: ModuleFile) -> Transplant:
        return _run(files, recipe, evaluate_on=test)  # type: ignore[arg-type]

    shared = made(ours.extractor, theirs.head, ours.head)
    assert shared.recipe.adapter.noise == 0.0
    net = shared.adapter.net()
    x = torch.rand(3, 2, 8, 8)  # never negative, as these features are
    assert torch.equal(net(x), x)
    assert shared.metrics["adapter"] == shared.metrics["identity"]
    alone = made(*(tones.stating(file, parents=()) for file in (ours.extractor, theirs.head, ours.head)))
    assert alone.recipe.adapter.noise == 0.1
    assert not torch.equal(alone.adapter.net()(x), x)


def test_the_steps_that_were_done_are_told() -> None:
    """They end by themselves; a resumed training counts those before the break."""
    recipe = TransplantRecipe.model_validate(
        {"steps": 400, "sources": ["noise"], "batch": 8, "stop": {"every": 2, "patience": 2}}
    )
    kept: list[Checkpoint] = []
    done = _run(t.image_files(outputs=3), recipe, checkpoint=kept.append, checkpoint_s=0.0)
    steps = done.metrics["steps"]
    assert 0 < steps < 400
    assert steps == max(int(entry["step"]) for entry in done.history if entry["phase"] == "train")
    again = _run(t.image_files(outputs=3), recipe, resume=kept[len(kept) // 2])
    assert again.metrics["steps"] == steps
    assert _run(t.image_files(), SHORT).metrics["steps"] == 10
