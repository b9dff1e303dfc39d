"""Rows in bulk, through the catalogue's own tables: what publishing one by one would have left, without the bytes.

`fill` writes names, versions (with a real manifest and facts), tags, aliases with their history, and the blobs' rows. A
tenth of all versions belongs to one name, the newest; the others have ten each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from sqlalchemy import insert, select
from sqlalchemy.orm import Session
from torch import nn

from graftery.module import trace
from graftery.module.verification import verify
from graftery.spec.manifest import Kind, json_of
from registry.db import Database
from registry.models import Alias, AliasChange, BlobRow, Module, ModuleTag, Version

_Row = TypeVar("_Row")
PER_NAME = 10
BIG = "big"
ALIAS = "stable"
RARE = "rare"
"""The tag of the oldest name; `common` is that of all."""
BATCH = 2000
SIDE = 16
KINDS: tuple[Kind, Kind] = ("category", "adapter")


@dataclass(frozen=True)
class Population:
    """What `fill` wrote.

    Args:
        names: those with `PER_NAME` versions each, the oldest first.
        big: how many versions the one big name has; 0: there is none.
    """

    names: tuple[str, ...]
    big: int

    @property
    def versions(self) -> int:
        return PER_NAME * len(self.names) + self.big


def population(versions: int, with_big: bool = True) -> Population:
    """So many versions in all."""
    big = versions // 10 if with_big else 0
    return Population(tuple(f"net-{index:06d}" for index in range((versions - big) // PER_NAME)), big)


def fill(database: Database, wanted: Population) -> None:
    """Write it all into an empty registry."""
    known = {kind: documents(kind) for kind in KINDS}
    sizes = list(everything(wanted))
    with database.transaction() as session:
        ids = _names(session, sizes)
        digests = (f"{number:064x}" for number in range(1, wanted.versions + 1))
        rows = (
            {
                "module_id": ids[name],
                "number": number,
                "digest": next(digests),
                "manifest": known[kind_of(index)][0],
                "facts": known[kind_of(index)][1],
                "tags": ["common"],
                "created_by": "seed",
            }
            for index, (name, count) in enumerate(sizes)
            for number in range(1, count + 1)
        )
        for batch in _batches(rows):
            session.execute(insert(BlobRow), [{"digest": row["digest"], "size_bytes": 1024} for row in batch])
            session.execute(insert(Version), batch)
        _aliases(session)


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    left = iter(rows)
    while batch := list(islice(left, BATCH)):
        yield batch


def _names(session: Session, sizes: list[tuple[str, int]]) -> dict[str, int]:
    for batch in _batches(enumerate(sizes)):
        session.execute(
            insert(Module),
            [
                {
                    "name": name,
                    "kind": kind_of(index),
                    "description": f"Net number {index}",
                    **dict.fromkeys(("last_number", "version_count", "counted_to"), count),
                }
                for index, (name, count) in batch
            ],
        )
    ids = {name: id_ for id_, name in session.execute(select(Module.id, Module.name))}
    for batch in _batches(ids.values()):
        session.execute(insert(ModuleTag), [{"module_id": id_, "tag": "common"} for id_ in batch])
    session.execute(insert(ModuleTag), [{"module_id": min(ids.values()), "tag": RARE}])
    return ids


def _aliases(session: Session) -> None:
    found = session.execute(select(Version.id, Version.module_id).where(Version.number == 1)).all()
    for batch in _batches(found):
        aliases = [{"module_id": module, "alias": ALIAS, "version_id": id_} for id_, module in batch]
        session.execute(insert(Alias), aliases)
        changes = [{"module_id": module, "alias": ALIAS, "new": 1} for _, module in batch]
        session.execute(insert(AliasChange), changes)


def kind_of(index: int) -> Kind:
    """Of the name that was the so manieth to be written: one in ten is an adapter."""
    return KINDS[index % 10 == 0]


def documents(kind: Kind) -> tuple[dict[str, Any], dict[str, Any]]:
    """Manifest and facts of a small module, as the verifier finds them."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1))
    file = trace(net.eval(), torch.zeros(2, 3, SIDE, SIDE), kind=kind, description="a small net")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        file.save(path)
        return json_of(file.manifest), json_of(verify(path))


def everything(wanted: Population) -> Iterator[tuple[str, int]]:
    """Every name with its number of versions."""
    yield from ((name, PER_NAME) for name in wanted.names)
    if wanted.big:
        yield BIG, wanted.big


def first_of(name: str, wanted: Population) -> int:
    """The number behind the digest of a name's first version."""
    index = len(wanted.names) if name == BIG else int(name.removeprefix("net-"))
    return 1 + PER_NAME * index
