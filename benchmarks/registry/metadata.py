"""Metadata requests a second, beside MLflow's model registry on the same PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.registry import ours, peer, seed
from benchmarks.registry.backing import new_database, vacuumed
from benchmarks.registry.measuring import Ask, Bench, Result, closed
from benchmarks.serving.contenders import Running
from benchmarks.serving.processes import ending
from registry.db import Database

VERSIONS, VERSIONS_QUICK = 10_000, 1_000
CONNECTIONS = 16
SECONDS = 3.0
ASKED = 400
"""So many different requests, sent again and again; a change is another one than the last of its name."""


@dataclass(frozen=True)
class Operation:
    """The same thing asked of both: of a name, and of the number of a version of it."""

    title: str
    ours: Callable[[str, int], Ask]
    theirs: Callable[[str, int], Ask]


def _version(name: str, number: int) -> Ask:
    return Ask("GET", f"/v1/versions/{name}:{number}", (f'"ref":"{name}:{number}"',))


def _alias(name: str, _number: int) -> Ask:
    return Ask("GET", f"/v1/versions/{name}@{seed.ALIAS}", (f'"ref":"{name}:1"',))


def _versions(name: str, _number: int) -> Ask:
    every = tuple(f'"version":{number},' for number in range(1, seed.PER_NAME + 1))
    return Ask("GET", f"/v1/modules/{name}/versions?limit=50", every)


def _names(_name: str, _number: int) -> Ask:
    return Ask("GET", "/v1/modules?limit=50", ('"name":"net-',))


def _set_alias(name: str, number: int) -> Ask:
    path = f"/v1/modules/{name}/aliases/moved"
    return Ask("PUT", path, (f'"version":{number},',), {"version": number})


def _describe(name: str, number: int) -> Ask:
    return Ask("PATCH", f"/v1/modules/{name}", (f'"name":"{name}"',), {"description": f"described {number}"})


OPERATIONS = {
    "version": Operation("a version by its number", _version, peer.get_version),
    "alias": Operation("a version by an alias", _alias, lambda name, _: peer.get_alias(name)),
    "versions": Operation("the ten versions of a name", _versions, lambda name, _: peer.list_versions(name)),
    "names": Operation("a page of 50 names", _names, lambda name, _: peer.list_names(name)),
    "set-alias": Operation("move an alias", _set_alias, peer.set_alias),
    "describe": Operation("change a name's description", _describe, peer.describe),
}


def metadata(bench: Bench) -> Result:
    """Metadata requests a second beside MLflow's"""
    wanted = seed.population(VERSIONS_QUICK if bench.quick else VERSIONS, with_big=False)
    with new_database(bench.server) as mine, new_database(bench.server) as theirs:
        chosen = ours.settings(bench.folder("metadata"), mine)
        ours.prepare(chosen)
        database = Database(chosen.database)
        seed.fill(database, wanted)
        database.dispose()
        peer.fill(bench.scratch, theirs, wanted.names)
        vacuumed(mine)
        vacuumed(theirs)
        with contextlib.ExitStack() as stack:
            running = ours.api(chosen, ours.server_core())
            stack.enter_context(ending([running.tree]))
            running.freeze()
            screened = _screen(bench, wanted.names, lambda setting: peer.serve(bench.scratch, theirs, setting))
            other = peer.serve(bench.scratch, theirs, peer.setting(screened[0]["setting"]))
            stack.enter_context(ending([other.tree]))
            ours.settle(other.tree)
            other.freeze()
            found = {name: _rounds(bench, running, other, name, wanted.names) for name in OPERATIONS}
    return {"versions": wanted.versions, "screened": screened, "operations": found}


def asked(name: str, names: Sequence[str], whose: str) -> list[Ask]:
    """The requests of an operation: over many names, and for each of them a version that follows another one."""
    operation = OPERATIONS[name]
    make = operation.ours if whose == "ours" else operation.theirs
    few = names[: ASKED // seed.PER_NAME]
    return [make(one, number) for number in range(1, seed.PER_NAME + 1) for one in few]


def _screen(bench: Bench, names: Sequence[str], serve: Callable[[peer.Setting], Running]) -> list[Result]:
    """The peer with each of its settings, once; the one with the most requests a second comes first."""
    found: list[Result] = []
    for setting in peer.SETTINGS:
        running = serve(setting)
        with ending([running.tree]):
            ours.settle(running.tree)
            run = closed(bench, running, asked("version", names, "theirs"), connections=CONNECTIONS, seconds=SECONDS)
        bench.say(f"mlflow ({setting.title}): {run['per_s']:.0f}/s")
        found.append({"setting": setting.title, **run})
    return sorted(found, key=lambda one: -one["per_s"])


def _rounds(bench: Bench, mine: Running, theirs: Running, name: str, names: Sequence[str]) -> list[Result]:
    """Ours, then the peer, in every round; who is not asked is frozen."""
    rounds = []
    for _ in range(bench.rounds):
        pair: Result = {}
        for whose, server in (("ours", mine), ("theirs", theirs)):
            server.thaw()
            try:
                asks = asked(name, names, whose)
                pair[whose] = closed(bench, server, asks, connections=CONNECTIONS, seconds=SECONDS)
            finally:
                server.freeze()
        rounds.append(pair)
    said = ", ".join(f"{pair['ours']['per_s']:.0f}/s to {pair['theirs']['per_s']:.0f}/s" for pair in rounds)
    bench.say(f"{OPERATIONS[name].title}: {said}")
    return rounds
