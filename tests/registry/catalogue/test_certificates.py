"""Certificates as rows: who shares a module, what is kept for how long, and what is shown of it."""

from __future__ import annotations

import pytest

from graftery.errors import Conflict
from graftery.spec.certificate import DeviceClass, Replayed
from registry import catalogue, jobs
from registry.db import Database
from registry.models import ProbesRow, ReplayRow
from tests.support.registry import blob_of, put, put_network

HERE = DeviceClass(device="cpu", model="m", kernels="k", torch="2", threads=1)
SAME = Replayed(compared="bitwise", same=True, identical=True)
OTHER = Replayed(compared="bitwise", same=False, identical=False, reason="the outputs differ")


def _two_networks(database: Database) -> tuple[int, int]:
    """`one` of cat and is, `two` of dog and is; gives their version ids."""
    with database.transaction() as session:
        task = put(session, "is", "task", "task")
        made = [
            put_network(session, name, put(session, category, category), task)
            for name, category in (("one", "cat"), ("two", "dog"))
        ]
        return made[0].id, made[1].id


def test_networks_that_share_a_module_newest_first(database: Database) -> None:
    _two_networks(database)
    with database.transaction() as session:
        cat, task = catalogue.resolve(session, "cat"), catalogue.resolve(session, "is")
        put_network(session, "stranger", put(session, "fox", "fox"), put(session, "was", "other", "task"))

        def found(*digests: str, limit: int = 10) -> tuple[list[str], int]:
            networks, left_out = catalogue.sharing(session, digests, limit)
            return [network.ref for network in networks], left_out

        assert found(task.digest) == (["two:1", "one:1"], 0)
        assert found(cat.digest) == (["one:1"], 0)
        assert found(cat.digest, task.digest, limit=1) == (["two:1"], 1)
        assert found(task.digest, limit=0) == ([], 2)
        catalogue.yank(session, "two:1", "no")
        assert found(task.digest) == (["one:1"], 0)


def test_the_same_bytes_under_another_name_are_shared(database: Database) -> None:
    _two_networks(database)
    with database.transaction() as session:
        again = put(session, "cat-of-another", "cat")
        assert [network.ref for network in catalogue.sharing(session, {again.digest}, 9).networks] == ["one:1"]


def test_the_first_record_of_a_network_stays(database: Database) -> None:
    one, _ = _two_networks(database)
    for text in ("first", "second"):
        with database.transaction() as session:
            catalogue.keep_probes(session, one, blob_of(text), HERE, f"job {text}")
    with database.read() as session:
        found = catalogue.certificate_out(session, catalogue.resolve(session, "one"))
    assert found.probes is not None
    assert (found.probes.digest, found.probes.size_bytes) == (blob_of("first").digest, 5)
    assert (found.probes.made_by, found.probes.device_class) == ("job first", HERE)


def test_a_certificate_names_all_that_a_replay_needs(database: Database) -> None:
    one, two = _two_networks(database)
    with database.transaction() as session:
        for replays in ({one: SAME, two: OTHER}, {one: OTHER}):
            job = jobs.submit(session, kind="transplant", request={}, pinned={})
            catalogue.keep_replays(session, job.id, replays)
    with database.read() as session:
        found = catalogue.certificate_out(session, catalogue.resolve(session, "one"))
        parts = {role: catalogue.resolve(session, ref).ref for role, ref in found.parts.items()}
    assert parts == {"category": "cat:1", "task": "is:1"}
    assert found.probes is None
    assert sorted((replay.same, replay.reason) for replay in found.replays) == [
        (False, "the outputs differ"),
        (True, None),
    ]


def test_only_a_network_has_a_certificate(database: Database) -> None:
    with database.transaction() as session, pytest.raises(Conflict) as caught:
        catalogue.certificate_out(session, put(session, "cat"))
    assert caught.value.code == "kind_mismatch"


@pytest.mark.parametrize("what", ["version", "module"])
def test_it_goes_with_its_network(database: Database, what: str) -> None:
    one, two = _two_networks(database)
    with database.transaction() as session:
        job = jobs.submit(session, kind="transplant", request={}, pinned={})
        catalogue.keep_replays(session, job.id, {one: SAME, two: SAME})
        catalogue.keep_probes(session, one, blob_of("record"), HERE, "job x")
    with database.transaction() as session:
        catalogue.delete_version(session, "one:1") if what == "version" else catalogue.delete_module(session, "one")
    with database.transaction() as session:
        assert session.get(ProbesRow, one) is None
        assert session.get(ReplayRow, (one, job.id)) is None
        assert session.get(ReplayRow, (two, job.id)) is not None
        assert catalogue.still_there(session, [one, two]) == {two}


def test_the_networks_that_are_named_are_all_given(database: Database) -> None:
    with database.transaction() as session:
        category, other = put(session, "cat", "f"), put(session, "dog", "g")
        tasks = [put(session, f"is-{number}", str(number), "task") for number in range(6)]
        named = [put_network(session, f"net-{number}", category, task).id for number, task in enumerate(tasks[:4])]
        put_network(session, "beside", other, tasks[4])
        found = catalogue.sharing(session, {tasks[4].digest}, 2, named)
    assert {network.id for network in found.networks} == {*named}
    assert found.left_out == 1
