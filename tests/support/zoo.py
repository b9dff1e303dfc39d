"""A generic network over small networks: two categories by two tasks, one cell of them missing."""

from __future__ import annotations

from functools import cache

from graftery.module import ModuleFile
from graftery.spec.manifest import NetworkParts
from registry import catalogue, generics
from tests.support import files
from tests.support.world import PHOTO, World, adapter

ZOO = "zoo"
CELLS = {
    "eight..even-is": "eight-even",
    "nine..even-is": "nine-even",
    "eight..even-odd": "eight-odd",
}
"""The networks of its cells, by their outputs; `nine..even-odd` has none."""


@cache
def _modules() -> dict[str, ModuleFile]:
    _, even, odd = files.parts(("is", "odd"), 6, 1)
    return {"eight": files.parts()[0], "nine": files.parts(seed=9)[0], "even-is": even, "even-odd": odd}


def put_network(world: World, name: str, category: str, seed: int, task: str) -> None:
    """A network of modules by their names, with an adapter of its own."""
    made = _modules()
    with world.database.transaction() as session:
        of = {
            "category": world.put(session, category, made[category]),
            "adapter": world.put(session, f"{name}-adapter", adapter(seed)),
            "task": world.put(session, task, made[task]),
        }
        parts = NetworkParts.model_validate({role: row.digest for role, row in of.items()})
        blob = world.store.put_bytes(catalogue.compose_document(parts))
        parents = [(role, row.id) for role, row in of.items()]
        version, _ = catalogue.publish(session, name=name, kind="network", blob=blob, parts=parts, parents=parents)
    world.networks[version.ref] = (made[category], adapter(seed), made[task])


def make_zoo(world: World) -> None:
    """Publish the networks, and the generic network whose cells they are."""
    for seed, (cell, name) in enumerate(CELLS.items(), 3):
        category, task = cell.split("..")
        put_network(world, name, category, seed, task)
    with world.database.transaction() as session:
        generics.create(session, ZOO)
        modules = [catalogue.resolve(session, name) for name in ("eight", "nine", "even-is", "even-odd")]
        generics.add(session, ZOO, modules)
        # `eight` under `even-is` is the one of several networks that is meant here.
        network = catalogue.resolve(session, CELLS["eight..even-is"])
        generics.place(session, ZOO, network, replace=True)


def add_photos(world: World) -> None:
    """A row and a column whose cell reads colour images, not the numbers of the others."""
    with world.database.transaction() as session:
        members = [catalogue.resolve(session, f"{PHOTO}-{part}") for part in ("c", "t")]
        generics.add(session, ZOO, members)
