"""The client's verbs against a real service: API, worker and inference as `graftery serve` starts them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import graftery
from graftery.client.cli import run
from graftery.client.http import Client
from graftery.errors import Conflict, CutRefused, InferenceRefused, Misfit, ModuleFileError, NotFound, SamplesRefused
from graftery.spec.manifest import Facts
from graftery.spec.wire import JobOut, TeacherOut
from tests.support import files
from tests.support.service import Service

QUICK = {"sources": ["noise"], "steps": 30}
Prefix = Callable[[str], str]


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with service.client() as client:
        yield client


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Prefix:
    """Names of this test's own in the service that all tests share."""
    return lambda name: f"{request.node.name.split('[')[0]}-{name}"[-100:].lstrip("_-.")


@pytest.fixture(scope="module")
def transplanted(service: Service) -> JobOut:
    """Two teachers, and the network `joined` of one's category module and the other's task module."""
    with service.client() as client:
        client.push_teacher("cat", files.teacher(seed=1), cut=files.CUT)
        client.push_teacher("animals", files.teacher(seed=2), cut=files.CUT)
        x = np.random.default_rng(0).normal(size=(24, 1, 8, 8))
        client.push_samples("held-out", x, np.arange(24) % 2)
        job = client.transplant(
            "cat", "animals-is", name="joined", recipe=QUICK, evaluate_on="held-out", alias="stable"
        )
        return client.wait(job)


def test_a_transplant_from_push_to_answer(transplanted: JobOut, client: Client, tmp_path: Path) -> None:
    """The served network answers as f, h and gS do that were downloaded and composed here."""
    assert transplanted.result is not None
    assert transplanted.result["network"] == "joined:1"
    parts = [graftery.load(client.pull(ref, tmp_path)) for ref in ("cat", "joined-adapter", "animals-is")]
    local = graftery.compose(*parts)
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = local(x).numpy()
    for ref in ("joined", "joined@stable", "joined:1"):
        np.testing.assert_allclose(client.infer(ref, x), expected, atol=1e-5)


def test_what_was_measured_has_intervals(transplanted: JobOut) -> None:
    assert transplanted.result is not None
    metrics = transplanted.result["metrics"]
    low, high = metrics["adapter_interval"]["balanced_accuracy"]
    assert low <= metrics["adapter"]["balanced_accuracy"] <= high
    assert metrics["evaluated"]["samples"] == 24
    assert metrics["adapter_minus_teacher_interval"].keys() == metrics["teacher"].keys()


@pytest.mark.usefixtures("transplanted")
def test_a_precheck_comes_before_a_transplant_and_with_it(client: Client, own: Prefix) -> None:
    found = client.precheck("cat", "animals-is", seed=5)
    assert found.status == "ready"
    assert found.identity
    # Which version is the newest depends on what else this service was asked.
    assert found.neighbours[0].name.startswith("animals-is-teacher:")
    assert found.residual is not None and found.cka is not None
    job = client.transplant("cat", "animals-is", name=own("n"), recipe={**QUICK, "seed": 5})
    assert job.precheck is not None
    assert job.precheck.residual == found.residual
    client.cancel(job)
    with pytest.raises(Misfit):
        client.precheck("animals-is", "cat")


def test_what_a_network_says_of_itself(transplanted: JobOut, client: Client) -> None:
    network = client.inspect("joined@stable")
    assert network.kind == "network"
    assert network.metrics is not None
    assert 0 <= network.metrics["adapter"]["balanced_accuracy"] <= 1
    up = client.lineage("joined", "up")
    assert {node.kind for node in up.nodes} >= {"network", "adapter", "category", "task", "teacher"}
    assert "joined:1" in {node.ref for node in client.lineage("cat-teacher", "down").nodes}
    assert "joined" in {entry["name"] for entry in client.served()}


def test_events_can_be_read_again_and_from_the_middle(transplanted: JobOut, client: Client) -> None:
    events = [*client.watch(transplanted)]
    assert [event.seq for event in events] == [*range(1, len(events) + 1)]
    assert events[-1].data["state"] == "succeeded"
    assert [event.seq for event in client.watch(transplanted, after=3)] == [event.seq for event in events[3:]]
    assert [*client.watch(transplanted, after=len(events))] == []
    assert transplanted.id in {job.id for job in client.jobs(state="succeeded", kind="transplant")}


def test_what_is_there_is_not_sent_again(client: Client, own: Prefix) -> None:
    category, *_ = files.parts(seed=7)
    sent: list[int] = []
    first = client.push(own("f"), category, progress=lambda done, _: sent.append(done), tags=["a"])
    assert sent
    sent.clear()
    again = client.push(own("f"), category, progress=lambda done, _: sent.append(done), tags=["b"], description="new")
    assert (again.ref, sent) == (first.ref, [])
    module = client.module(own("f"))
    assert (module.tags, module.description) == (["a", "b"], "new")


def test_a_teacher_that_is_there_is_not_sent_again(client: Client, own: Prefix) -> None:
    sent: list[int] = []

    def push(cut: str) -> TeacherOut:
        sent.clear()
        return client.push_teacher(own("t"), net, cut=cut, progress=lambda done, _: sent.append(done))

    net = files.teacher(outputs=("is", "was"), seed=11)
    first = push(files.CUT)
    assert sent
    assert push(files.CUT) == first
    assert not sent
    lower = push("features.2")  # another cut of bytes that are there
    assert not sent
    assert (lower.teacher, lower.category.version) == (first.teacher, 2)
    assert push("features.2") == lower
    assert push(files.CUT) == first
    assert not sent
    client.yank(first.networks["was"].ref, "broken")
    with pytest.raises(Conflict, match="yanked"):
        push(files.CUT)


def test_pages(client: Client, own: Prefix) -> None:
    for seed in range(3):
        client.push_samples(own("s"), np.full((2, 1), seed))
    assert [version.version for version in client.versions(own("s"))] == [3, 2, 1]
    assert [version.version for version in client.versions(own("s"), limit=2)] == [3, 2]
    assert [module.name for module in client.list("samples", q=own("s"))] == [own("s")]


def test_aliases_yanks_and_deletes(client: Client, own: Prefix) -> None:
    name = own("s")
    for seed in range(2):
        client.push_samples(name, np.full((2, 1), seed))
    client.alias(name, "stable", 1)
    client.alias(name, "stable", 2)
    assert client.rollback(name, "stable").version == 1
    assert [(event.old, event.new) for event in client.alias_history(name, "stable")][-1] == (None, 1)
    assert client.inspect(f"{name}@stable").version == 1
    assert client.yank(f"{name}:2", "mislabelled").yank_reason == "mislabelled"
    assert client.inspect(name).version == 1
    assert client.unyank(f"{name}:2").yanked is False
    with pytest.raises(Conflict) as caught:
        client.delete(f"{name}:1")
    assert caught.value.code == "has_dependents"
    client.unalias(name, "stable")
    client.delete(name)
    with pytest.raises(NotFound) as gone:
        client.inspect(name)
    assert gone.value.code == "not_found"


def test_refusals_keep_their_class_code_and_hint(client: Client, own: Prefix, tmp_path: Path) -> None:
    with pytest.raises(CutRefused) as cut:
        client.push_teacher(own("t"), files.teacher(), cut="featurez")
    assert cut.value.code == "cut_not_found"
    assert cut.value.hint is not None
    assert "features" in cut.value.hint
    (tmp_path / "m.safetensors").write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(ModuleFileError):
        client.push(own("m"), tmp_path / "m.safetensors")
    with pytest.raises(SamplesRefused):
        client.push_samples(own("s"), np.full((2, 2), np.nan))
    with pytest.raises(NotFound) as missing:
        client.module("held-ou")
    assert missing.value.details["status"] == 404


@pytest.mark.usefixtures("transplanted")
def test_misfits_are_named_before_a_job_exists(client: Client) -> None:
    with pytest.raises(Misfit) as caught:
        client.transplant("cat", "held-out", name="never")
    assert caught.value.code == "kind_mismatch"
    with pytest.raises(NotFound):
        client.transplant("cat", "animals-was", name="never")
    with pytest.raises(InferenceRefused):
        client.infer("joined", np.zeros((1, 3, 8, 8)))


def test_cancel_and_retry(client: Client, own: Prefix) -> None:
    client.push_teacher(own("t"), files.teacher(seed=3), cut=files.CUT)
    endless = {"sources": ["noise"], "steps": 100_000, "stop": {"patience": 0}}
    job = client.transplant(own("t"), own("t-is"), name=own("n"), recipe=endless)
    for event in client.watch(job):
        if event.type == "progress":
            client.cancel(job)
            break
    with pytest.raises(Conflict, match="was cancelled"):
        client.wait(job)
    again = client.retry(job)
    assert again.retry_of == job.id
    client.cancel(again)


def test_a_sketch_goes_along_and_no_image(client: Client, own: Prefix) -> None:
    images = np.random.default_rng(1).normal(size=(8, 1, 8, 8)).astype(np.float32)
    out = client.push_teacher(own("t"), files.teacher(seed=4), cut=files.CUT, sketch_images=images)
    assert isinstance(out.category.facts, Facts)
    assert out.category.facts.has_sketch


@pytest.mark.usefixtures("transplanted")
def test_the_command_line(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("GRAFTERY_URL", service.url)

    def graftery(*arguments: str) -> str:
        code = run(arguments)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    np.save(tmp_path / "x.npy", np.zeros((2, 1, 8, 8)))
    assert np.shape(
        json.loads(graftery("infer", "joined", "--input", str(tmp_path / "x.npy"), "--json"))["output"]
    ) == (2, 1)
    card = graftery("inspect", "joined")
    for text in ("network", "stable", "made from", "cat:", "(as category)", "balanced_accuracy"):
        assert text in card
    assert "joined-adapter:1" in graftery("lineage", "joined")
    drawn = graftery("lineage", "cat", "--both", "--dot")
    assert (
        drawn.startswith("digraph lineage {") and re.search(r'"cat-teacher:\d', drawn) and "@default @stable" in drawn
    )
    assert "joined@stable -> joined:1  network  no longer resolved" in graftery("impact", "joined:1")
    part = graftery("yank", "joined-adapter:1", "--reason", "bad", "--dry-run")
    assert "would break" not in part and "joined -> joined:1  network  still served" in part
    files.teacher(seed=9).save(tmp_path / "net.safetensors")
    assert files.CUT in graftery("layers", str(tmp_path / "net.safetensors")).split()
    assert "teacher" in graftery("inspect", str(tmp_path / "net.safetensors"))
    pushed = graftery("push", "cli-net", str(tmp_path / "net.safetensors"), "--cut", files.CUT)
    assert "cli-net-is:1  task" in pushed
    made = graftery(
        *("transplant", "cli-net", "animals-is", "--name", "cli-joined", "--source", "noise", "--steps", "5", "--json")
    )
    assert json.loads(made)["result"]["network"] == "cli-joined:1"
    assert "freed_bytes" in graftery("collect", "--dry-run")
    assert graftery("health").startswith("ok")


def test_the_command_line_pushes_the_owner_s_net(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("GRAFTERY_URL", service.url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "nets_of_the_owner.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1))\n"
    )
    np.save("images.npy", np.random.default_rng(0).normal(size=(4, 1, 4, 4)))
    arguments = ["--net", "nets_of_the_owner:build", "--example", "1x4x4", "--cut", "1", "--sketch", "images.npy"]
    assert run(["push", "cli-own", *arguments, "--outputs", "is=classification", "--classes", "is=cat"]) == 0
    assert "cli-own-is:1  task" in capsys.readouterr().out
    with service.client() as client:
        task, category = client.inspect("cli-own-is"), client.inspect("cli-own")
    assert task.manifest is not None
    assert task.manifest.outputs["is"].class_names == ("cat",)
    assert isinstance(category.facts, Facts)
    assert category.facts.has_sketch
