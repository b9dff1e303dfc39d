"""A consolidation at the worker: what the child gets and gives, what comes of it, and its way into a generic network."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from app.requests import consolidating
from graftery.errors import Conflict, GrafteryError
from graftery.module import ModuleFile, verify
from graftery.spec.generic import ConsolidateRequest
from graftery.spec.limits import Limits
from graftery.spec.manifest import Kind, json_of
from registry import catalogue, generics, jobs
from registry.models import Job, Version
from tests.support import cells
from tests.support.registry import blob_of, put_network
from tests.support.reports import Keeping
from tests.support.workplace import SQLITE, Workplace
from worker.bench import Bench
from worker.consolidating import run
from worker.consolidations import publish_consolidation
from worker.parent import run_next
from worker.prepare import prepare
from worker.process import CHILD_COMMAND
from worker.publish import Overtaken

SHORT = json_of(cells.SHORT)


@dataclass
class World:
    """The generic network `zoo`: the categories `lynx` and `owl`, each with a teacher, under the task `kind`."""

    place: Workplace
    bench: Bench
    scratch: Path

    def put(self, name: str, kind: Kind, file: ModuleFile, teacher: Version | None = None) -> Version:
        path = self.scratch / "file"
        file.save(path)
        blob = self.place.store.put_file(path)
        facts = json_of(verify(self.place.store.local_path(blob.digest), Limits()))
        with self.place.database.transaction() as session:
            parents = [] if teacher is None else [("teacher", teacher.id)]
            more: dict[str, Any] = {"manifest": json_of(file.manifest), "facts": facts, "parents": parents}
            return catalogue.publish(session, name=name, kind=kind, blob=blob, **more)[0]

    def fill(self) -> None:
        task = self.put("kind", "task", cells.task())
        for seed, name in enumerate(("lynx", "owl")):
            with self.place.database.transaction() as session:
                teacher = catalogue.publish(session, name=f"{name}-teacher", kind="teacher", blob=blob_of(name))[0]
            category = self.put(name, "category", cells.category(seed), teacher)
            self.put(f"{name}-kind", "task", cells.task(by=0.3 + 0.1 * seed), teacher)
            with self.place.database.transaction() as session:
                network = put_network(session, f"{name}-here", category, task)
                self.place.store.put_bytes(catalogue.compose_document(catalogue.network_parts(session, network).parts))
        with self.place.database.transaction() as session:
            generics.create(session, "zoo")
            generics.add(session, "zoo", [catalogue.resolve(session, ref) for ref in ("lynx", "owl", "kind")])

    def submit(self, **request: Any) -> str:
        asked = ConsolidateRequest.model_validate({"recipe": SHORT, **(request or {"task": "kind"})})
        with self.place.database.transaction() as session:
            return consolidating.submit(session, "zoo", asked).id

    def claim(self) -> jobs.Claim:
        with self.place.database.transaction() as session:
            found = jobs.claim(session, "tester", 60)
        assert found is not None
        return found

    def made(self, claim: jobs.Claim) -> dict[str, Any]:
        return run(prepare(self.bench, claim, self.scratch), Keeping(io.BytesIO()))

    def done(self, **request: Any) -> Job:
        """A consolidation from its request to its outcome."""
        self.submit(**request)
        claim = self.claim()
        publish_consolidation(self.place.database, self.place.store, claim, self.made(claim), 1.0)
        with self.place.database.read() as session:
            return jobs.get(session, claim.id)

    def promote(self, job: str, worst: float = 100.0) -> None:
        with self.place.database.transaction() as session:
            generics.promote(session, "zoo", [job], worst)

    def rollback(self, change: int | None = None) -> None:
        with self.place.database.transaction() as session:
            generics.rollback(session, "zoo", change)

    def served(self) -> dict[str, str]:
        """What every cell has, and what its network's name is served by."""
        with self.place.database.read() as session:
            there = generics.matrix(session, "zoo")
            return {
                cell.category: f"{cell.network} {catalogue.resolve(session, (cell.network or '').split(':')[0]).ref}"
                for cell in there.cells
            }

    def members(self) -> list[str]:
        with self.place.database.read() as session:
            there = generics.matrix(session, "zoo")
            return [member.ref for member in (*there.categories, *there.tasks)]


@pytest.fixture
def world(place: Workplace, bench: Bench, tmp_path: Path) -> Iterator[World]:
    torch.set_num_threads(1)
    made = World(place, bench, tmp_path)
    made.fill()
    yield made


FIRST = {"lynx": "lynx-here:1 lynx-here:1", "owl": "owl-here:1 owl-here:1"}
SECOND = {"lynx": "lynx-here:2 lynx-here:2", "owl": "owl-here:2 owl-here:2"}


def test_a_task_learns_on_is_promoted_and_rolled_back(world: World) -> None:
    job = world.done()
    result = job.result or {}
    assert (result["module"], result["before"], result["unchanged"]) == ("kind:2", "kind:1", False)
    assert [cell["network"] for cell in result["cells"]] == ["lynx-here:2", "owl-here:2"]
    assert result["certificate"]["networks"] == 2 and result["certificate"]["different"] == []
    assert world.served() == FIRST
    assert world.members() == ["lynx:1", "owl:1", "kind:1"]
    world.promote(job.id)
    assert world.served() == SECOND
    assert world.members() == ["lynx:1", "owl:1", "kind:2"]
    with world.place.database.read() as session:
        network = catalogue.resolve(session, "lynx-here:2")
        parts = catalogue.network_parts(session, network)
        assert (parts.category.ref, parts.task.ref) == ("lynx:1", "kind:2")
        cell = generics.matrix(session, "zoo").cells[0]
        assert cell.job is not None and cell.job.id == job.id and cell.agreement is not None
        up = catalogue.lineage(session, "kind:2", "up")
        assert {"kind:1", "lynx:1", "owl:1", "lynx-kind:1", "owl-kind:1"} <= {node.ref for node in up.nodes}
    world.rollback()
    assert world.served() == FIRST
    assert world.members() == ["lynx:1", "owl:1", "kind:1"]


@SQLITE
def test_a_category_learns_on_with_the_gradients_of_its_tasks(world: World) -> None:
    job = world.done(category="lynx")
    result = job.result or {}
    assert (result["before"], [cell["category"] for cell in result["cells"]]) == ("lynx:1", ["lynx"])
    # The other cell shares nothing with it, and is asked again all the same.
    assert result["certificate"]["networks"] == 2
    if not result["unchanged"]:
        world.promote(job.id)
        assert world.members() == ["lynx:2", "owl:1", "kind:1"]
        assert world.served() == {**FIRST, "lynx": SECOND["lynx"]}


@SQLITE
def test_several_are_promoted_at_once_if_they_share_no_cell(world: World) -> None:
    both = world.done(category="lynx"), world.done(category="owl")
    made = [job for job in both if not (job.result or {})["unchanged"]]
    column = world.done()
    with world.place.database.transaction() as session, pytest.raises(Conflict, match="two of the jobs are about"):
        generics.promote(session, "zoo", [made[0].id, column.id], 100.0)
    assert world.served() == FIRST
    with world.place.database.transaction() as session:
        change = generics.promote(session, "zoo", [job.id for job in made], 100.0)
    assert len(change.details["members"]) == len(change.details["cells"]) == len(made) > 0
    world.rollback()
    assert world.served() == FIRST


@SQLITE
def test_promotion_is_refused_whole_where_a_cell_changed_meanwhile(world: World) -> None:
    job, other = world.done(), world.done(recipe={**SHORT, "seed": 7}, task="kind")
    world.promote(other.id)
    before = world.served()
    with pytest.raises(Conflict, match="another version in zoo by now"):
        world.promote(job.id)
    assert world.served() == before
    with world.place.database.transaction() as session:
        network = catalogue.resolve(session, "owl-here:2" if before["owl"].startswith("owl-here:3") else "owl-here:3")
        with pytest.raises(GrafteryError) as caught:
            generics.place(session, "zoo", network, replace=True)
        assert caught.value.code == "cells_differ"


@SQLITE
def test_a_cell_that_came_in_meanwhile_is_not_left_behind(world: World) -> None:
    job = world.done()
    category = world.put("dog", "category", cells.category(5))
    with world.place.database.transaction() as session:
        task = catalogue.resolve(session, "kind:1")
        put_network(session, "dog-here", category, task)
        generics.add(session, "zoo", [catalogue.resolve(session, "dog")])
    with pytest.raises(Conflict, match="cells came in after the consolidation began: dog x kind"):
        world.promote(job.id)
    assert {name: world.served()[name] for name in FIRST} == FIRST


@SQLITE
def test_a_rollback_raced_by_another_change_does_nothing(world: World) -> None:
    world.promote(world.done().id)
    with world.place.database.transaction() as session:
        parts = catalogue.network_parts(session, catalogue.resolve(session, "lynx-here:2"))
        other = put_network(session, "lynx-otherwise", parts.category, parts.task)
        generics.place(session, "zoo", other, replace=True)
        change = next(each for each in _changes(session) if each.action == "promote")
    before = world.served()
    with pytest.raises(Conflict, match="has lynx-otherwise:1 by now"):
        world.rollback(change.id)
    assert world.served() == before
    world.rollback()  # what was done last
    world.rollback(change.id)
    assert world.served() == FIRST


def _changes(session: Any) -> list[Any]:
    return generics.list_changes(session, generics.find(session, "zoo")).items


@SQLITE
def test_no_cell_may_be_worse_than_is_allowed(world: World) -> None:
    job = world.done()
    with world.place.database.transaction() as session:
        row = jobs.get(session, job.id)
        told = dict(row.result or {})
        worse = {**told["cells"][0]["report"], "semantics": "classification"}
        worse |= {"before": {**worse["before"], "agreement": 0.9}, "after": {**worse["after"], "agreement": 0.88}}
        told["cells"] = [{**told["cells"][0], "report": worse}, *told["cells"][1:]]
        row.result = told
    with pytest.raises(Conflict, match=r"lynx x kind: agreement 0\.9000 to 0\.8800") as caught:
        world.promote(job.id, worst=1.5)
    assert caught.value.code == "cells_worse"
    assert world.served() == FIRST


@SQLITE
def test_only_a_consolidation_of_this_network_that_succeeded_is_promoted(world: World) -> None:
    job = world.submit()
    with pytest.raises(Conflict, match="is queued") as caught:
        world.promote(job)
    assert caught.value.code == "job_state"
    with world.place.database.transaction() as session:
        generics.create(session, "other")
        with pytest.raises(Conflict, match="is no consolidation of other"):
            generics.promote(session, "other", [job], 1.0)


@SQLITE
@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        ({"task": "lynx"}, "not_found", "zoo has no task lynx"),
        ({"category": "dog"}, "not_found", "zoo has no category dog"),
        ({"task": "kind", "samples": {"dog": "few"}}, "request_invalid", "samples names dog"),
        ({"task": "kind", "samples": "kind"}, "kind_mismatch", "kind is of kind task"),
        ({"task": "kind", "evaluate_on": {"lynx": "none"}}, "not_found", "none"),
    ],
)
def test_what_cannot_be_is_refused_before_there_is_a_job(
    world: World, request_: dict[str, Any], code: str, said: str
) -> None:
    with pytest.raises(GrafteryError) as caught:
        world.submit(**request_)
    assert (caught.value.code, said in caught.value.message) == (code, True), caught.value.message
    with world.place.database.read() as session:
        assert jobs.list_jobs(session).items == []


@SQLITE
def test_without_a_teacher_or_labels_there_is_nothing_to_learn(world: World) -> None:
    with world.place.database.transaction() as session:
        generics.remove(session, "zoo", "owl")
        generics.remove(session, "zoo", "lynx")
    with pytest.raises(Conflict, match="no cell of kind in zoo has a network"):
        world.submit()
    category = world.put("dog", "category", cells.category(5))
    with world.place.database.transaction() as session:
        put_network(session, "dog-here", category, catalogue.resolve(session, "kind:1"))
        generics.add(session, "zoo", [category])
    with pytest.raises(GrafteryError, match="there is nothing to learn"):
        world.submit()


@SQLITE
def test_an_attempt_that_was_overtaken_leaves_nothing(world: World) -> None:
    world.submit()
    claim = world.claim()
    made = world.made(claim)
    with world.place.database.transaction() as session:
        jobs.requeue(session, claim.id, claim.attempt)
    with pytest.raises(Overtaken):
        publish_consolidation(world.place.database, world.place.store, claim, made, 1.0)
    with world.place.database.read() as session, pytest.raises(GrafteryError):
        catalogue.resolve(session, "kind:2")


@SQLITE
def test_the_worker_runs_it_as_any_other_job(world: World) -> None:
    world.bench.child_command = CHILD_COMMAND
    job = world.submit()
    assert run_next(world.bench)
    assert world.place.job(job).state == "succeeded"
    with world.place.database.read() as session:
        assert catalogue.resolve(session, "kind:2").module.kind == "task"
