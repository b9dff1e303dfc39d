"""A cloning at the worker: what the child gets and gives, what comes of it, and the certificate of the target's kin."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from graftery.cloning import attach
from graftery.module import ModuleFile
from graftery.spec.manifest import Facts, Parent, json_of
from graftery.transplant.certificate import Probes
from registry import catalogue, jobs
from registry.models import Version
from tests.support import clones, tones
from tests.support.registry import put_network
from tests.support.reports import Keeping
from tests.support.workplace import SQLITE, Workplace
from worker.bench import Bench
from worker.clones import publish_clone
from worker.cloning import run
from worker.parent import run_next
from worker.prepare import prepare
from worker.publish import Overtaken
from worker.reports import Advanced, Order, Saved, decode_report

ASKED: dict[str, Any] = {"name": "owl", "source": "birds", "target": "animals", "want": ["owl"], "samples": "few"}
RECIPE = {**clones.QUICK, "positions": ["category.features.3", "task.block"]}


@dataclass
class World:
    """A registry with a source and a target, and the job of a clone, which is claimed."""

    place: Workplace
    bench: Bench
    scratch: Path
    told: io.BytesIO

    def submit(self, **more: Any) -> str:
        roles = ("source", "target", "samples", "evaluate_on", "source_evaluate_on")
        request = {**ASKED, **more}
        with self.place.database.transaction() as session:
            pinned = {role: catalogue.resolve(session, request[role]).pin for role in roles if role in request}
            return jobs.submit(session, kind="clone", request=request, pinned=pinned, recipe=RECIPE).id

    def claim(self, **more: Any) -> jobs.Claim:
        self.submit(**more)
        with self.place.database.transaction() as session:
            found = jobs.claim(session, "tester", 60)
        assert found is not None
        return found

    def made(self, claim: jobs.Claim) -> tuple[Order, dict[str, Any]]:
        order = prepare(self.bench, claim, self.scratch)
        return order, run(order, Keeping(self.told))

    def publish(self, claim: jobs.Claim, made: dict[str, Any]) -> dict[str, Any]:
        publish_clone(self.place.database, self.place.store, claim, made, 1.0)
        result = self.place.job(claim.id).result
        assert result is not None
        return result

    def put_network(self, name: str, modules: tuple[ModuleFile, ModuleFile], added: tuple[str, ...] = ()) -> Version:
        self.place.put(f"{name}-f", "category", modules[0])
        self.place.put(f"{name}-is", "task", modules[1])
        with self.place.database.transaction() as session:
            f, task, *more = (catalogue.resolve(session, ref) for ref in (f"{name}-f", f"{name}-is", *added))
            network = put_network(session, name, f, task, None, tuple(more))
            self.place.store.put_bytes(catalogue.compose_document(catalogue.network_parts(session, network).parts))
            return network


@pytest.fixture
def world(place: Workplace, tmp_path: Path) -> Iterator[World]:
    made = World(place, Bench(place.settings, place.database, place.store, "tester"), tmp_path, io.BytesIO())
    made.put_network("animals", clones.animals())
    made.put_network("birds", clones.birds())
    for name, classes in (("few", 3), ("all-birds", 3)):
        blob = place.store.put_bytes(clones.samples(classes))
        with place.database.transaction() as session:
            catalogue.publish(session, name=name, kind="samples", blob=blob)
    yield made
    made.bench.dismiss()


@SQLITE
def test_a_network_comes_as_its_modules(world: World) -> None:
    order = prepare(world.bench, world.claim(), world.scratch)
    assert set(order.files) == {"source.category", "source.task", "target.category", "target.task", "samples"}
    assert [network.ref for network in order.sharing.networks] == ["animals:1"], "the target's kin, not the source's"


@SQLITE
def test_a_home_keeps_what_inversions_made_unless_it_is_told_not_to(world: World) -> None:
    claim, settings = world.claim(), world.bench.settings
    kept = prepare(world.bench, claim, world.scratch).inversions
    assert kept is not None
    assert (kept.folder, kept.most_bytes) == (str(settings.home / "inversions"), settings.inversions_bytes)
    world.bench.settings = settings.model_copy(update={"inversions_bytes": 0})
    assert prepare(world.bench, claim, world.scratch).inversions is None


@SQLITE
def test_the_child_gives_the_clone_that_a_researcher_gets(world: World) -> None:
    claim = world.claim(evaluate_on="few", source_evaluate_on="all-birds")
    _, result = world.made(claim)
    clone = ModuleFile.load(result["clone"])
    spec = clone.manifest.clone
    target = clones.network(clones.animals())
    assert spec is not None and (spec.classes, spec.target) == (("owl",), target.content_digest)
    assert result["manifest"] == json_of(clone.manifest)
    assert Facts.model_validate(result["facts"]).content_digest == clone.content_digest
    assert {"position", "positions", "kept", "added", "original", "wanted", "changed", "masked_unwanted"} <= set(
        result["metrics"]
    )
    reports = [decode_report(line) for line in world.told.getvalue().splitlines()]
    phases = [report.data["phase"] for report in reports if isinstance(report, Advanced)]
    assert list(dict.fromkeys(phases)) == ["record", "localize", "heal", "search", "train", "certify"]
    assert result["certified"]["probes"] is None, "no network was asked for"
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(attach(target, [clone]).net()(x)[:, :2], target.net()(x))


def test_what_comes_of_it(world: World) -> None:
    claim = world.claim(network="animals-and-owl", alias="stable", evaluate_on="few")
    _, made = world.made(claim)
    result = world.publish(claim, made)
    assert {key: result[key] for key in ("clone", "network")} == {"clone": "owl:1", "network": "animals-and-owl:1"}
    assert result["certificate"]["networks"] == result["certificate"]["identical"] == 1
    with world.place.database.read() as session:
        clone, network = (catalogue.resolve(session, ref) for ref in ("owl", "animals-and-owl@stable"))
        assert (clone.module.kind, clone.created_by) == ("clone", f"job {claim.id}")
        assert clone.metrics == network.metrics == json.loads(json.dumps(made["metrics"]))
        parts = catalogue.network_parts(session, network)
        target = catalogue.network_parts(session, catalogue.resolve(session, "animals"))
        assert parts == target._replace(clones=(clone,))
        edges = {(edge.parent, edge.role) for edge in catalogue.lineage(session, "owl", "up", 1).edges}
        assert edges == {
            ("birds:1", "source"),
            ("animals:1", "target"),
            ("few:1", "samples"),
            ("few:1", "evaluation_samples"),
        }
        probes = catalogue.probes_of(session, network)
    assert probes is not None
    record = Probes.load(world.place.store.local_path(probes.digest))
    file = attach(clones.network(clones.animals()), [ModuleFile.load(made["clone"])])
    assert torch.equal(next(iter(record.outputs.values())), file.net()(record.x))


@SQLITE
def test_what_the_target_says_of_groups_its_clone_says_too(world: World) -> None:
    for name, of in zip("ab", clones.groups(), strict=True):
        world.place.put(f"kin-{name}", "group", of)
    parents = [(Parent(role="group", digest=of.digest),) for of in clones.groups()]
    category, task = (tones.stating(part, parents=named) for part, named in zip(clones.animals(), parents, strict=True))
    world.put_network("odd", (category, task))
    claim = world.claim(target="odd", network="odd-and-owl")
    _, made = world.made(claim)
    world.publish(claim, made)
    with world.place.database.read() as session:
        metrics = catalogue.resolve(session, "odd-and-owl").metrics
    assert metrics == {"across_groups": True, **json.loads(json.dumps(made["metrics"]))}


@pytest.mark.slow
@SQLITE
def test_the_same_clone_is_measured_on_other_samples_later(world: World) -> None:
    for sets in ({}, {"evaluate_on": "few"}, {"source_evaluate_on": "all-birds"}):
        claim = world.claim(network="animals-and-owl", **sets)
        _, made = world.made(claim)
        result = world.publish(claim, made)
        assert result["clone"] == "owl:1", "the samples that it is measured on change no byte"
    with world.place.database.read() as session:
        found = [catalogue.resolve(session, ref).metrics for ref in ("owl", "animals-and-owl")]
    for metrics in found:
        assert (
            metrics is not None and {"position", "original", "wanted", "changed", "masked_unwanted"} <= metrics.keys()
        )


@SQLITE
def test_a_target_that_has_clones_gets_one_more(world: World) -> None:
    world.place.put("jay", "clone", clones.made(("jay",)))
    world.put_network("both", clones.animals(), ("jay",))
    blob = world.place.store.put_bytes(clones.samples(4))
    with world.place.database.transaction() as session:
        catalogue.publish(session, name="four", kind="samples", blob=blob)
    claim = world.claim(target="both", samples="four", network="three")
    order, made = world.made(claim)
    assert "target.clone.0" in order.files
    assert {network.ref for network in order.sharing.networks} == {"animals:1", "both:1"}
    assert all(replay["identical"] for replay in made["certified"]["replays"].values())
    world.publish(claim, made)
    with world.place.database.read() as session:
        parts = catalogue.network_parts(session, catalogue.resolve(session, "three"))
    assert [clone.ref for clone in parts.clones] == ["jay:1", "owl:1"]


@SQLITE
def test_an_outcome_that_comes_too_late_is_rolled_back(world: World) -> None:
    claim = world.claim(network="animals-and-owl")
    _, made = world.made(claim)
    with world.place.database.transaction() as session:
        jobs.requeue(session, claim.id, claim.attempt)
    with pytest.raises(Overtaken):
        publish_clone(world.place.database, world.place.store, claim, made, 1.0)
    assert world.place.versions_of("owl") == [] == world.place.versions_of("animals-and-owl")


@SQLITE
def test_an_attempt_goes_on_behind_the_last_whole_stage(world: World) -> None:
    order, made = world.made(world.claim())
    first = ModuleFile.load(made["clone"]).digest
    saved = [report for line in world.told.getvalue().splitlines() if isinstance(report := decode_report(line), Saved)]
    assert [report.step for report in saved] == list(range(1, len(saved) + 1))
    told = io.BytesIO()
    again = run(order.model_copy(update={"resume": saved[-2].path}), Keeping(told))
    assert ModuleFile.load(again["clone"]).digest == first
    reports = [decode_report(line) for line in told.getvalue().splitlines()]
    phases = {report.data["phase"] for report in reports if isinstance(report, Advanced)}
    assert phases == {"record", "train", "certify"}


@pytest.mark.slow
@SQLITE
def test_the_whole_way_through_a_real_child(world: World) -> None:
    done = world.submit(network="animals-and-owl")
    bad = world.submit(name="sphinx", want=["sphinx"])
    run_next(world.bench)
    run_next(world.bench)
    assert world.place.job(done).state == "succeeded", world.place.job(done).error
    failed = world.place.job(bad)
    assert failed.error is not None and (failed.state, failed.error.code) == ("failed", "class_unknown")
    assert world.place.versions_of("owl") == ["owl:1"] and world.place.versions_of("sphinx") == []
