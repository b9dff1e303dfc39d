"""List and resolve where there are many versions, beside the same where there are few, over HTTP."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import URL

from benchmarks.registry import ours, seed
from benchmarks.registry.backing import new_database, vacuumed
from benchmarks.registry.measuring import Ask, Bench, Result, closed
from benchmarks.registry.seed import Population
from benchmarks.serving.contenders import Running
from benchmarks.serving.processes import ending
from registry.db import Database

FEW, MANY, MANY_QUICK = 1_000, 100_000, 20_000
CONNECTIONS = 2
SECONDS = 1.5
ASKED = 500


@dataclass(frozen=True)
class Operation:
    """What is asked where there are few and where there are many.

    Args:
        kind: `list` and `resolve` have a goal; `search` is told.
        make: a request for a name with so many versions, of a population.
    """

    title: str
    kind: str
    make: Callable[[str, int, Population], Ask]


def _number(name: str, count: int, _: Population) -> Ask:
    number = count // 2
    return Ask("GET", f"/v1/versions/{name}:{number}", (f'"ref":"{name}:{number}"',))


def _newest(name: str, count: int, _: Population) -> Ask:
    return Ask("GET", f"/v1/versions/{name}", (f'"ref":"{name}:{count}"',))


def _alias(name: str, _count: int, __: Population) -> Ask:
    return Ask("GET", f"/v1/versions/{name}@{seed.ALIAS}", (f'"ref":"{name}:1"',))


def _digest(name: str, count: int, wanted: Population) -> Ask:
    digest = f"{seed.first_of(name, wanted) + count // 2:064x}"
    return Ask("GET", f"/v1/versions/{name}@sha256:{digest}", (digest,))


def _module(name: str, count: int, _: Population) -> Ask:
    return Ask("GET", f"/v1/modules/{name}", (f'"versions":{count},',))


def _versions(name: str, count: int, _: Population) -> Ask:
    return Ask("GET", f"/v1/modules/{name}/versions", (f'"ref":"{name}:{count}"',))


def _names(_name: str, _count: int, wanted: Population) -> Ask:
    return Ask("GET", "/v1/modules", (f'"name":"{seed.BIG}"', f'"versions":{wanted.big},'))


def _kind(_name: str, _count: int, _: Population) -> Ask:
    return Ask("GET", "/v1/modules?kind=adapter&limit=9", ('"kind":"adapter"',))


def _tag(_name: str, _count: int, wanted: Population) -> Ask:
    return Ask("GET", f"/v1/modules?tag={seed.RARE}", (f'"name":"{wanted.names[0]}"',))


def _common(_name: str, _count: int, _: Population) -> Ask:
    return Ask("GET", "/v1/modules?tag=common", (f'"name":"{seed.BIG}"',))


def _search(name: str, _count: int, _: Population) -> Ask:
    return Ask("GET", f"/v1/modules?q={name[-5:]}", ('"items":[{',))


OPERATIONS = {
    "number": Operation("resolve NAME:3", "resolve", _number),
    "newest": Operation("resolve NAME, its newest version", "resolve", _newest),
    "alias": Operation("resolve NAME@alias", "resolve", _alias),
    "digest": Operation("resolve NAME@sha256:...", "resolve", _digest),
    "module": Operation("a name, with its count of versions", "resolve", _module),
    "versions": Operation("list the versions of a name", "list", _versions),
    "names": Operation("list names, the newest 50", "list", _names),
    "kind": Operation("list names of a kind", "list", _kind),
    "common": Operation("list names with a tag that all have", "list", _common),
    "tag": Operation("list names with a rare tag", "list", _tag),
    "search": Operation("search by a part of the name", "search", _search),
}


def sqlite(bench: Bench) -> Result:
    """List and resolve at 1 000 versions and at many, on SQLite"""
    return _measured(bench, (None, None))


def postgresql(bench: Bench) -> Result:
    """List and resolve at 1 000 versions and at many, on PostgreSQL"""
    with new_database(bench.server) as few, new_database(bench.server) as many:
        return _measured(bench, (few, many))


def _measured(bench: Bench, databases: tuple[URL | None, URL | None]) -> Result:
    wanted = [seed.population(count) for count in (FEW, MANY_QUICK if bench.quick else MANY)]
    with contextlib.ExitStack() as stack:
        servers = []
        for database, population in zip(databases, wanted, strict=True):
            servers.append(_filled(bench, database, population))
            stack.enter_context(ending([servers[-1].tree]))
            servers[-1].freeze()
        found = {name: _rounds(bench, servers, wanted, name) for name in OPERATIONS}
    return {"few": wanted[0].versions, "many": wanted[1].versions, "big": wanted[1].big, "operations": found}


def _filled(bench: Bench, url: URL | None, wanted: Population) -> Running:
    """Our API over so many versions."""
    chosen = ours.settings(bench.folder(f"scaling-{wanted.versions}"), url)
    ours.prepare(chosen)
    database = Database(chosen.database)
    seed.fill(database, wanted)
    database.dispose()
    if url is not None:
        vacuumed(url)
    bench.say(f"{wanted.versions} versions are there")
    return ours.api(chosen, ours.server_core())


def asked(name: str, wanted: Population) -> list[Ask]:
    """Requests over names that are drawn; each tenth is about the name with a tenth of all versions."""
    drawn = random.Random(0).choices(wanted.names, k=ASKED)
    make = OPERATIONS[name].make
    every = [(seed.BIG, wanted.big) if at % 10 == 9 else (one, seed.PER_NAME) for at, one in enumerate(drawn)]
    return [make(one, count, wanted) for one, count in every]


def _rounds(bench: Bench, servers: Sequence[Running], wanted: Sequence[Population], name: str) -> list[Result]:
    """Few, then many, in every round; who is not asked is frozen."""
    rounds = []
    for _ in range(bench.rounds):
        pair: Result = {}
        for which, server, population in zip(("few", "many"), servers, wanted, strict=True):
            server.thaw()
            try:
                run = closed(bench, server, asked(name, population), connections=CONNECTIONS, seconds=SECONDS)
            finally:
                server.freeze()
            pair[which] = run
        rounds.append(pair)
    said = ", ".join(f"p99 {one['few']['p99_ms']:.1f} ms and {one['many']['p99_ms']:.1f} ms" for one in rounds)
    bench.say(f"{OPERATIONS[name].title}: {said}")
    return rounds
