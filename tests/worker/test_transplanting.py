"""The child's real work: files in, an adapter out; and a killed one goes on to the same bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from graftery.data import SampleSet
from graftery.errors import RecipeRefused
from graftery.module import ModuleFile
from graftery.spec.limits import Limits
from graftery.spec.manifest import Facts, Manifest
from graftery.transplant import compose
from registry import catalogue, jobs
from tests.support.processes import meanwhile
from tests.support.reports import Keeping
from tests.support.transplants import image_files, strided_files, vector_files
from tests.support.workplace import SQLITE, Workplace
from worker.bench import Bench
from worker.parent import run_next
from worker.reports import KeptIn, Order, Saved, decode_report
from worker.transplanting import run

RECIPE: dict[str, Any] = {"objectives": {"back_distillation": 1.0}, "sources": ["noise"], "steps": 40, "batch": 8}


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """The order of a transplant of small vector modules, without samples."""
    names = ("category", "task", "teacher_task")
    for name, file in zip(names, vector_files(), strict=True):
        file.save(tmp_path / name)
    return Order(
        job="1",
        kind="transplant",
        request={},
        recipe=RECIPE,
        files={name: str(tmp_path / name) for name in names},
        scratch=str(tmp_path),
        device="cpu",
        threads=1,
        checkpoint_s=0.0,
        limits=Limits(),
    )


def test_it_makes_a_module_file_with_its_facts(order: Order) -> None:
    pipe = io.BytesIO()
    result = run(order, Keeping(pipe))
    adapter = ModuleFile.load(result["adapter"])
    assert Manifest.model_validate(result["manifest"]) == adapter.manifest and adapter.manifest.kind == "adapter"
    assert Facts.model_validate(result["facts"]).content_digest == adapter.content_digest
    assert result["labels"] == 0 and {"adapter", "identity", "teacher", "agreement"} <= result["metrics"].keys()
    reports = [decode_report(line) for line in pipe.getvalue().splitlines()]
    assert any(isinstance(report, Saved) and report.step > 0 for report in reports)


def test_images_of_an_inversion_are_kept_for_the_next_job(order: Order, tmp_path: Path) -> None:
    for name, file in zip(order.files, image_files(), strict=True):
        file.save(tmp_path / name)
    recipe = {"sources": ["inversion"], "steps": 2, "batch": 8, "inversion": {"images": 8, "steps": 3}}
    kept = {"inversions": KeptIn(folder=str(tmp_path / "inversions"), most_bytes=2**20, free_bytes=0)}
    orders = [order.model_copy(update={"recipe": recipe, **more}) for more in ({}, kept, kept)]
    results = [run(each, Keeping(io.BytesIO())) for each in orders]
    assert [result["inversion_kept"] for result in results] == [False, False, True]
    assert len({result["facts"]["content_digest"] for result in results}) == 1


def test_its_adapter_makes_masks_of_the_teachers_size(order: Order, tmp_path: Path) -> None:
    """f and gS of different strides, as a job has them: files in, and a file that was verified out."""
    names, modules = ("category", "task", "teacher_task"), strided_files()
    for name, file in zip(names, modules, strict=True):
        file.save(tmp_path / name)
    recipe = {**RECIPE, "objectives": {"distillation": 1.0}, "steps": 2}
    result = run(order.model_copy(update={"recipe": recipe}), Keeping(io.BytesIO()))
    assert Facts.model_validate(result["facts"]).outputs["features"].shape == ("N", 4, "H", "W")
    f, task, _ = modules
    for size in ((8, 8), (16, 24)):
        assert compose(f, ModuleFile.load(result["adapter"]), task)(torch.randn(2, 1, *size)).shape == (2, 1, *size)


def test_it_goes_on_from_a_checkpoint_to_the_same_bytes(order: Order) -> None:
    pipe = io.BytesIO()
    unbroken = Path(run(order, Keeping(pipe))["adapter"]).read_bytes()
    saved = [r for r in map(decode_report, pipe.getvalue().splitlines()) if isinstance(r, Saved)]
    middle = saved[len(saved) // 2]
    again = io.BytesIO()
    broken = Path(run(order.model_copy(update={"resume": middle.path}), Keeping(again))["adapter"]).read_bytes()
    assert broken == unbroken
    steps = [r.step for r in map(decode_report, again.getvalue().splitlines()) if isinstance(r, Saved)]
    assert min(steps) > middle.step, "nothing is learned twice"


def test_a_killed_attempt_goes_on_in_every_phase(order: Order, tmp_path: Path) -> None:
    """From the first and the last checkpoint of each phase that writes any: the adapter is that of an unbroken run."""
    for name, file in zip(order.files, image_files(), strict=True):
        file.save(tmp_path / name)
    recipe = {"steps": 12, "batch": 8, "sources": ["inversion", "noise"], "inversion": {"steps": 4, "images": 8}}
    whole = order.model_copy(update={"recipe": recipe})
    pipe = io.BytesIO()
    unbroken = Path(run(whole, Keeping(pipe))["adapter"]).read_bytes()
    phases: dict[str, list[str]] = {}
    for report in map(decode_report, pipe.getvalue().splitlines()):
        if isinstance(report, Saved):
            phases.setdefault(Path(report.path).name.split("-")[0], []).append(report.path)
    assert {"inversion", "train"} <= phases.keys()
    for path in [path for paths in phases.values() for path in (paths[0], paths[-1])]:
        kept = tmp_path / "kept"
        kept.write_bytes(Path(path).read_bytes())
        result = run(whole.model_copy(update={"resume": str(kept)}), Keeping(io.BytesIO()))
        assert Path(result["adapter"]).read_bytes() == unbroken, Path(path).name


def test_a_checkpoint_that_is_not_its_own_costs_time_and_not_the_job(order: Order, tmp_path: Path) -> None:
    """As after an upgrade: another version completes the same recipe in another way."""
    unbroken = Path(run(order, Keeping(io.BytesIO()))["adapter"]).read_bytes()
    others = order.model_copy(update={"recipe": {**RECIPE, "seed": 1}})
    pipe = io.BytesIO()
    run(others, Keeping(pipe))
    (first, *_) = [report for report in map(decode_report, pipe.getvalue().splitlines()) if isinstance(report, Saved)]
    broken = tmp_path / "broken"
    broken.write_bytes(Path(first.path).read_bytes()[:-1])
    for path in (Path(first.path), broken):
        result = run(order.model_copy(update={"resume": str(path)}), Keeping(io.BytesIO()))
        assert Path(result["adapter"]).read_bytes() == unbroken
    refused = order.model_copy(update={"recipe": {**RECIPE, "sources": ["samples"]}, "resume": first.path})
    with pytest.raises(RecipeRefused) as caught:
        run(refused, Keeping(io.BytesIO()))
    assert caught.value.code == "samples_missing", "other refusals stay what they are"


def test_samples_are_read_by_their_roles(order: Order, tmp_path: Path) -> None:
    x = torch.randn(12, 3)
    SampleSet(x, torch.randn(12, 1)).save(tmp_path / "samples")
    SampleSet(x).save(tmp_path / "unlabelled")
    files = {**order.files, "samples": str(tmp_path / "samples"), "evaluate_on": str(tmp_path / "samples")}
    recipe = {"objectives": {"direct": 1.0, "distillation": 1.0}, "sources": ["samples", "unlabelled"], "steps": 2}
    both = order.model_copy(
        update={"files": {**files, "unlabelled": str(tmp_path / "unlabelled")}, "recipe": {**recipe, "batch": 8}}
    )
    result = run(both, Keeping(io.BytesIO()))
    assert result["labels"] == 12 and result["metrics"]["adapter"] is not None
    without = both.model_copy(update={"files": files})
    with pytest.raises(RecipeRefused):
        run(without, Keeping(io.BytesIO()))


@pytest.mark.slow
@SQLITE
def test_a_killed_transplant_gives_the_digest_of_an_unbroken_one(place: Workplace) -> None:
    """The whole way: real module files, real children, one of them killed after a checkpoint."""
    for name, kind, file in zip(("f", "gS", "gT"), ("category", "task", "task"), vector_files(), strict=True):
        place.put(name, kind, file)  # type: ignore[arg-type]
    bench = Bench(place.settings.model_copy(update={"threads": 1}), place.database, place.store, "tester")
    recipe = {**RECIPE, "steps": 400}
    names = {"category": "f", "task": "gS", "teacher_task": "gT"}
    try:
        unbroken = place.submit_pinned("unbroken", names, recipe)
        run_next(bench)
        killed = place.submit_pinned("killed", names, recipe)
        worker = meanwhile(lambda: run_next(bench))
        assert place.reaches_step(killed, 1)
        assert bench.child is not None
        psutil.Process(bench.child.pid).kill()
        worker.join(timeout=20)
        assert place.job(killed).state == "queued"
        run_next(bench)
    finally:
        bench.dismiss()
    assert [place.job(job_id).state for job_id in (unbroken, killed)] == ["succeeded", "succeeded"]
    with place.database.read() as session:
        digests = {catalogue.resolve(session, f"{name}-adapter").digest for name in ("unbroken", "killed")}
        assert jobs.get(session, killed).attempt == 2
    assert len(digests) == 1
