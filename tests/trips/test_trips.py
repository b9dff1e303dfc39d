"""The trips of docs/architecture.md from end to end, over real processes: one file, two settings (conftest.py).

upload   push -> verify -> publish -> pull          teacher  a whole net -> cut -> category, task, network
transplant + run   request -> job -> adapter -> network          infer   /v2 -> the composed network's answer
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graftery import ModuleFile, compose, load
from graftery.client.http import Client
from graftery.errors import Conflict, GrafteryError, TrainingFailed
from graftery.spec.wire import JobOut
from tests.support import tones
from tests.support.files import CUT, parts, teacher
from tests.support.service import Service
from tests.support.transplants import category_file, task_file, vector_category

pytestmark = pytest.mark.trips
FROM_NOISE = {"steps": 20, "batch": 8, "sources": ["noise"]}
QUICK = {"steps": 30, "batch": 8, "inversion": {"steps": 10, "images": 16}}


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    with service.client() as made:
        yield made


@pytest.fixture(scope="module")
def populated(client: Client) -> Client:
    """A generic net's parts and a network of them; a teacher of another category."""
    category, task = parts(seed=1)
    client.push("old", category)
    client.push("shared-is", task)
    client.compose("old-in-shared", "old", "shared-is")
    client.push_teacher("new", teacher(seed=2), cut=CUT)
    return client


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def transplanted(populated: Client, images: Tensor) -> JobOut:
    """A finished transplant of `new` into `shared-is`, with 0 labels, measured on a sample set."""
    populated.push_samples("measured-on", images, torch.arange(32) % 2)
    job = populated.transplant("new", "shared-is", name="new-in-shared", recipe=QUICK, evaluate_on="measured-on")
    return populated.wait(job)


def _pulled(client: Client, ref: str, folder: Path) -> ModuleFile:
    return ModuleFile.load(client.pull(ref, folder))


def test_upload(populated: Client, tmp_path: Path, images: Tensor) -> None:
    version = populated.inspect("old")
    assert (version.kind, version.version) == ("category", 1)
    net = load(populated.pull("old", tmp_path)).net()
    assert torch.equal(net(images), parts(seed=1)[0].net()(images))


def test_upload_of_the_same_bytes_is_the_same_version(populated: Client) -> None:
    assert populated.push("old", parts(seed=1)[0]).version == 1


def test_teacher(populated: Client, tmp_path: Path, images: Tensor) -> None:
    category, task = _pulled(populated, "new", tmp_path), _pulled(populated, "new-is", tmp_path)
    whole = teacher(seed=2).net()(images)
    whole = whole["is"] if isinstance(whole, dict) else whole
    torch.testing.assert_close(task.net()(category.net()(images)), whole)
    answer = populated.infer("new-is-teacher", images.numpy())
    np.testing.assert_allclose(answer, whole.detach().numpy(), atol=1e-5)


def test_transplant_and_run(populated: Client, transplanted: JobOut, tmp_path: Path) -> None:
    assert transplanted.state == "succeeded"
    assert transplanted.result is not None
    assert transplanted.recipe is not None
    assert transplanted.recipe["steps"] == 30
    assert set(transplanted.recipe["objectives"]) >= {"distillation", "back_distillation"}
    assert 0 <= transplanted.result["metrics"]["adapter"]["balanced_accuracy"] <= 1
    assert _pulled(populated, "new-in-shared-adapter", tmp_path).manifest.kind == "adapter"
    edges = populated.lineage("new-in-shared", direction="up").edges
    assert {(edge.child.split(":")[0], edge.role) for edge in edges} >= {
        ("new-in-shared", "adapter"),
        ("new-in-shared", "category"),
        ("new-in-shared", "task"),
        ("new-in-shared-adapter", "teacher_task"),
        ("new", "teacher"),
    }


def test_a_job_is_woken_and_told_live(populated: Client) -> None:
    """With Redis the worker's poll is hours away (conftest.py): a job that nothing wakes it for never ends."""
    job = populated.transplant("new", "shared-is", name="woken", recipe=QUICK)
    events = list(populated.watch(job))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.data["state"] for event in events if event.type == "state"][-1] == "succeeded"
    assert any(event.type == "progress" for event in events)


def test_infer(populated: Client, transplanted: JobOut, images: Tensor, tmp_path: Path) -> None:
    names = ("new", "new-in-shared-adapter", "shared-is")
    local = compose(*(_pulled(populated, name, tmp_path) for name in names))
    answer = populated.infer("new-in-shared", images.numpy())
    np.testing.assert_allclose(answer, local(images).detach().numpy(), atol=1e-5)
    populated.alias("new-in-shared", "stable", 1)
    np.testing.assert_array_equal(populated.infer("new-in-shared@stable", images.numpy()), answer)


def test_members_of_a_group_join_with_no_job_and_answer(client: Client, tmp_path: Path) -> None:
    ours, theirs, seen = tones.member(), tones.member(scale=2.0, shift=0.15), tones.images(40, seed=1)
    client.push("kin", tones.group())
    for name, file in {"a": ours.extractor, "b": theirs.extractor, "b-is": theirs.head}.items():
        assert file is not None
        client.push(name, file)
    client.push_samples("tones", seen.x, seen.y)
    before = len(list(client.jobs()))
    made = client.compose("b-is-on-a", "a", "b-is", evaluate_on="tones")
    assert len(list(client.jobs())) == before
    assert made.metrics is not None and made.metrics["recombined"]["accuracy"] > made.metrics["chance"]
    local = compose(_pulled(client, "a", tmp_path), None, _pulled(client, "b-is", tmp_path))
    answer = client.infer("b-is-on-a", seen.x.numpy())
    np.testing.assert_allclose(answer, local(seen.x).detach().numpy(), atol=1e-5)
    assert float((answer.argmax(1) == seen.y.numpy()).mean()) == made.metrics["recombined"]["accuracy"]


def test_what_was_served_before_answers_the_same_bits(populated: Client, transplanted: JobOut, images: Tensor) -> None:
    before = populated.infer("old-in-shared", images.numpy())
    again = populated.wait(populated.transplant("new", "shared-is", name="again", recipe=QUICK))
    assert again.result is not None and again.result["inversion_kept"], "the images of the first one were taken"
    adapters = {populated.inspect(f"{name}-adapter").digest for name in ("again", "new-in-shared")}
    assert len(adapters) == 1
    assert np.array_equal(populated.infer("old-in-shared", images.numpy()), before)


def test_a_misfit_is_told_before_a_job_exists(populated: Client) -> None:
    narrow = parts(channels=3, seed=3)[1]
    populated.push("narrow-is", narrow)
    jobs = len(list(populated.jobs()))
    with pytest.raises(GrafteryError) as refusal:
        populated.compose("wrong", "old", "narrow-is")
    assert refusal.value.code == "shape_mismatch"
    with pytest.raises(GrafteryError) as refusal:
        populated.transplant("old", "shared-i", name="wrong")
    assert refusal.value.code == "not_found"
    assert "shared-is" in str(refusal.value.details)
    assert len(list(populated.jobs())) == jobs


def _linear_task(scale: float) -> ModuleFile:
    layer = nn.Linear(5, 1, bias=False)
    nn.init.constant_(layer.weight, scale)
    return task_file(layer, torch.rand(2, 5), "regression")


def test_a_job_that_diverges_says_so(populated: Client) -> None:
    """Almost flat under gT, and so steep under gS that the first step leaves the range of floats."""
    populated.push("vector", category_file(vector_category(), torch.randn(2, 3)))
    populated.push("flat", _linear_task(1e-7))
    populated.push("steep", _linear_task(8e9))
    recipe = {"steps": 50, "learning_rate": 10.0, "objectives": {"distillation": 1e6}, "sources": ["noise"]}
    job = populated.transplant("vector", "steep", name="diverging", teacher_task="flat", recipe=recipe)
    with pytest.raises(TrainingFailed, match=r"the last finite loss was [\d.e+]+ at step \d+") as failure:
        populated.wait(job)
    assert failure.value.code == "diverged"
    assert populated.job(job).state == "failed"


def test_cancel(populated: Client) -> None:
    job = populated.transplant(
        "new", "shared-is", name="long", recipe={**QUICK, "steps": 1_000_000, "stop": {"patience": 0}}
    )
    for event in populated.watch(job):
        if event.type == "progress":
            populated.cancel(job)
    assert populated.job(job).state == "cancelled"
    with pytest.raises(GrafteryError):
        populated.inspect("long")


@pytest.mark.slow
def test_one_category_under_two_tasks(service: Service, client: Client, images: Tensor) -> None:
    """Asked for at once: both jobs done, both networks answer."""
    client.push_teacher("all", teacher(("is", "size"), seed=1), cut=CUT)
    client.push_teacher("cat", teacher(("is", "size"), seed=12), cut=CUT)
    client.push_teacher("cow", teacher(("is",), seed=3), cut=CUT)
    client.push_samples("two-measured-on", images, torch.arange(32) % 2)
    before = len([*client.jobs()])

    with pytest.raises(Conflict) as refusal:
        client.transplant("cow", ["all-is", "all-size"], name="never")
    assert refusal.value.details["choices"] == ["cow-is:1"]
    assert len([*client.jobs()]) == before

    asked = {"name": "cat-here", "category": "cat", "task": ["all-is", "all-size"], "recipe": FROM_NOISE}
    once = {"Idempotency-Key": "two-tasks"}
    answers = [httpx.post(f"{service.url}/v1/transplants", json=asked, headers=once, timeout=60) for _ in range(2)]
    assert [each.status_code for each in answers] == [202, 202]
    assert answers[0].content == answers[1].content
    assert len([*client.jobs()]) == before + 2

    jobs = client.wait_all([job["id"] for job in answers[0].json()["jobs"]])
    assert [job.result and job.result["network"] for job in jobs] == ["cat-here-is:1", "cat-here-size:1"]
    assert [job.pinned["teacher_task"].split("@")[0] for job in jobs] == ["cat-is", "cat-size"]
    values = [client.infer(f"cat-here-{output}", images.numpy()) for output in ("is", "size")]
    assert [value.shape for value in values] == [(32, 1), (32, 1)]
    assert not np.allclose(*values)

    said = {"all-size": "two-measured-on"}
    more = client.transplant("cat", ["all-size"], name="more", evaluate_on=said, recipe=FROM_NOISE)
    (measured,) = client.wait_all(more)
    assert measured.result is not None
    assert 0 <= measured.result["metrics"]["adapter"]["balanced_accuracy"] <= 1
