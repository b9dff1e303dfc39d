"""Images of inversions that are kept: the same adapter to the byte, whoever made them; and nothing but time is lost with them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from graftery.data import SampleSet
from graftery.module import ModuleFile
from graftery.spec.manifest import Preprocessing
from graftery.spec.recipes import InversionRecipe, NoiseRecipe, TransplantRecipe
from graftery.transplant import Checkpoint, InversionCache, Progress, Transplant, inverted, sketch, transplant
from graftery.transplant.given import Given
from graftery.transplant.inverted import inversion_key
from graftery.transplant.nets import Nets
from tests.support import transplants as t

Files = tuple[ModuleFile, ModuleFile, ModuleFile]
SHORT = InversionRecipe(images=8, steps=5, round_images=4, round_steps=3, rival_steps=4)
RECIPE = TransplantRecipe(steps=6, batch=8, sources=("inversion",), inversion=SHORT)
LATER = {
    "rounds": 1,
    "round_images": 5,
    "round_steps": 2,
    "round_learning_rate": 0.01,
    "rival_steps": 3,
    "rival_layers": 2,
    "rivalry_weight": 0.1,
}
"""What is about the rounds after the first images."""
GOLDEN = [(0.0407, 1.4057), (0.0814, 1.2956)]
"""Mean and deviation of the images of two inversions."""


def _run(files: Files, cache: InversionCache | None, recipe: TransplantRecipe = RECIPE, **more: Any) -> Transplant:
    category, task, teacher = files
    return transplant(category, task, teacher_task=teacher, recipe=recipe, inversions=cache, **more)


def _dense_files() -> Files:
    features = torch.rand(2, 4, 4, 4)
    tasks = (t.task_file(t.dense_task(seed=seed), features, "segmentation") for seed in (1, 0))
    return t.image_files()[0], *tasks  # type: ignore[return-value]


def _sketched(files: Files) -> Files:
    f, *tasks = files
    images = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return replace(f, extras={**f.extras, **sketch(f, images)}), *tasks  # type: ignore[return-value]


def _phases(files: Files, cache: InversionCache, recipe: TransplantRecipe = RECIPE, **more: Any) -> list[str]:
    seen: list[Progress] = []
    _run(files, cache, recipe, progress=seen.append, **more)
    return list(dict.fromkeys(progress.phase for progress in seen))


def test_kept_images_give_the_adapter_that_made_ones_give(tmp_path: Path) -> None:
    cache, files = InversionCache(tmp_path / "new" / "folder"), t.image_files()
    wanted = _run(files, None).adapter.content_digest
    assert _run(files, cache).adapter.content_digest == wanted and cache.taken == 0
    assert _run(files, cache).adapter.content_digest == wanted and cache.taken == 1
    assert _phases(files, cache) == ["train", "evaluate"]
    assert len(list(cache.folder.iterdir())) == 1


def test_they_are_taken_for_another_task_module_for_labels_and_for_other_losses(tmp_path: Path) -> None:
    cache, files = InversionCache(tmp_path), t.image_files()
    _run(files, cache)
    other = files[0], t.task_file(t.image_task(channels=3, seed=5), torch.rand(2, 3, 4, 4)), files[2]
    assert "inversion" not in _phases(other, cache)
    samples = SampleSet(torch.randn(8, 1, 8, 8), torch.arange(8) % 2)
    labelled = RECIPE.model_copy(update={"sources": ("inversion", "samples")})
    assert "inversion" not in _phases(files, cache, labelled, samples=samples)
    jacobian = RECIPE.model_copy(update={"objectives": {"back_distillation": 1.0}, "steps": 3})
    assert "inversion" not in _phases(files, cache, jacobian)
    assert cache.taken == 3


def test_what_goes_on_from_a_checkpoint_is_not_kept_for_others(tmp_path: Path) -> None:
    """It may have been begun on another device, or by another number of threads."""
    kept: list[Checkpoint] = []
    wanted = _run(t.image_files(), None, checkpoint=kept.append, checkpoint_s=0.0).adapter.content_digest
    (resume,) = (each for each in kept if (each.phase, each.step) == ("inversion", 3))
    cache = InversionCache(tmp_path)
    assert _run(t.image_files(), cache, resume=resume).adapter.content_digest == wanted
    assert not list(tmp_path.iterdir())


def test_the_format_is_of_what_makes_images() -> None:
    """Where this fails because they are made otherwise, raise `inverted._FORMAT`: kept ones must not be taken any more."""
    cache = Mock(spec=InversionCache, taken=0)
    made: list[torch.Tensor] = []
    for files in (t.image_files(), _sketched(_dense_files())):
        cache.images.side_effect = lambda _, make: made.append(make()) or made[-1]
        recipe = RECIPE.model_copy(update={"inversion": SHORT.model_copy(update={"rounds": 0, **SHORT.model_dump()})})
        _run(files, cache, recipe)
    told = [(float(images.mean()), float(images.std())) for images in made]
    assert inverted._FORMAT == 2
    assert told == [pytest.approx(each, abs=2e-3) for each in GOLDEN]


def test_rounds_go_on_from_kept_images(tmp_path: Path) -> None:
    cache, files = InversionCache(tmp_path), _dense_files()
    named = RECIPE.model_copy(update={"inversion": SHORT.model_copy(update={"rounds": 0, **SHORT.model_dump()})})
    _run(files, cache, named)
    rounds = named.model_copy(update={"inversion": named.inversion.model_copy(update={"rounds": 1})})
    made = _run(files, None, rounds)
    kept = _run(files, cache, rounds)
    assert cache.taken == 1 and kept.adapter.content_digest == made.adapter.content_digest


def _key(
    given: Given | None = None, recipe: TransplantRecipe = RECIPE, layout: torch.memory_format = torch.contiguous_format
) -> str:
    given = given or Given(*t.image_files())
    assert given.teacher_task is not None
    nets = Nets(given.category.net(), given.task.net(), given.teacher_task.net())
    for net in (nets.category, nets.teacher):
        net.to(memory_format=layout)  # type: ignore[union-attr, call-overload]
    return inversion_key(given, recipe, nets, torch.rand(2, 4, 4, 4))


@pytest.mark.parametrize("name", InversionRecipe.model_fields)
def test_the_key_is_of_all_but_the_rounds(name: str) -> None:
    value = getattr(SHORT, name)
    changed = LATER.get(name, value + 1 if isinstance(value, int) else (value or 0) / 2)
    assert changed != value
    recipe = RECIPE.model_copy(update={"inversion": SHORT.model_copy(update={name: changed})})
    assert (_key(recipe=recipe) == _key()) is (name in LATER)


@pytest.mark.parametrize(
    "fields",
    [{"seed": 1}, {"precision": "bfloat16"}, {"noise": NoiseRecipe(alpha_max=1.5)}, {"augment": {"shift": 3}}],
    ids=lambda fields: next(iter(fields)),
)
def test_another_recipe_makes_others(fields: dict[str, Any]) -> None:
    recipe = TransplantRecipe.model_validate({**RECIPE.model_dump(), **fields})
    assert _key(recipe=recipe) != _key()


def _given(change: Callable[[Files], Files]) -> Given:
    return Given(*change(t.image_files()))


def _prepared(file: ModuleFile) -> ModuleFile:
    preprocessing = Preprocessing(mean=(0.1,), std=(0.2,), colour_order="grey")
    return replace(file, manifest=file.manifest.model_copy(update={"preprocessing": preprocessing}))


def test_other_modules_make_others() -> None:
    category = t.category_file(t.image_category(seed=3), torch.randn(2, 1, 8, 8))
    teacher = t.task_file(t.image_task(seed=7), torch.rand(2, 4, 4, 4))
    wider = replace(t.image_files()[0], extras={"probe.x": torch.zeros(2, 1, 12, 12)})
    givens = [
        _given(lambda files: files),
        _given(lambda files: (category, files[1], files[2])),
        _given(lambda files: (files[0], files[1], teacher)),
        _given(lambda files: (_prepared(files[0]), files[1], files[2])),
        _given(lambda files: (wider, files[1], files[2])),
        Given(*_dense_files()),
    ]
    assert len({_key(given) for given in givens}) == len(givens)


def test_how_weights_lie_counts_and_the_number_of_threads() -> None:
    before = _key()
    assert _key(layout=torch.channels_last) != before
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert _key() != before
    finally:
        torch.set_num_threads(threads)
    assert _key() == before


def test_a_sketch_counts_where_it_guides() -> None:
    for files, guides in ((t.image_files(), False), (_dense_files(), True)):
        assert (_key(Given(*files)) != _key(Given(*_sketched(files)))) is guides


def _images(seed: int) -> torch.Tensor:
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))


def _never() -> torch.Tensor:
    raise AssertionError("they are kept")


def test_those_that_were_taken_longest_ago_go_first(tmp_path: Path) -> None:
    one = InversionCache(tmp_path / "one")
    one.images("a", lambda: _images(0))
    size = next(one.folder.iterdir()).stat().st_size
    cache = InversionCache(tmp_path / "two", most_bytes=2 * size)
    for age, key in enumerate("ab"):
        cache.images(key, lambda: _images(0))
        _aged(cache.folder / f"{key}.safetensors", 10 - age)
    cache.images("a", _never)
    cache.images("c", lambda: _images(0))
    assert sorted(path.stem for path in cache.folder.iterdir()) == ["a", "c"]


def test_a_draft_of_a_process_that_died_goes_too(tmp_path: Path) -> None:
    cache = InversionCache(tmp_path, most_bytes=1000)
    draft = tmp_path / "k.123.draft"
    draft.write_bytes(bytes(900))
    _aged(draft, 10)
    cache.images("a", lambda: _images(0))
    assert [path.stem for path in tmp_path.iterdir()] == ["a"]


def test_images_that_have_no_room_are_not_kept(tmp_path: Path) -> None:
    cache = InversionCache(tmp_path / "cache", most_bytes=100)
    assert torch.equal(cache.images("a", lambda: _images(0)), _images(0))
    assert not cache.folder.exists()


def test_the_last_of_a_disk_is_left_to_others(tmp_path: Path) -> None:
    cache = InversionCache(tmp_path, free_bytes=2**62)
    assert torch.equal(cache.images("a", lambda: _images(0)), _images(0))
    assert not list(tmp_path.iterdir())


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "broken",
    [_flipped, lambda data: data[:-1], lambda _: b"", lambda _: b"\xff" * 64],
    ids=["bit", "cut", "empty", "no"],
)
def test_a_file_that_is_not_whole_is_made_again(tmp_path: Path, broken: Callable[[bytes], bytes]) -> None:
    cache = InversionCache(tmp_path)
    cache.images("a", lambda: _images(0))
    (path,) = tmp_path.iterdir()
    path.write_bytes(broken(path.read_bytes()))
    assert torch.equal(cache.images("a", lambda: _images(1)), _images(1)) and cache.taken == 0
    assert torch.equal(cache.images("a", _never), _images(1)) and cache.taken == 1


def test_a_folder_that_cannot_be_written_costs_no_transplant(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = InversionCache(tmp_path / "file" / "cache")
    assert torch.equal(cache.images("a", lambda: _images(0)), _images(0))


def _aged(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
