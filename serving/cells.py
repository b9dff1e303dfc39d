"""A generic network as one model: its outputs are its cells, each run as the network in it is. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from graftery.errors import Unavailable
from registry.generics import Now
from registry.models import Version
from serving.branches import SEPARATOR, Branch, Cell, Model, Output

MOST_TOLD = 5


def model(now: Now, network: Callable[[Version], Model]) -> Model:
    """A generic network as it is now.

    Args:
        network: the model of a cell's network.

    Raises:
        Unavailable: no cell has a network, with their states.
    """
    served = {f"{each.category}{SEPARATOR}{each.task}": each for each in now.cells}
    unready = {name: f"{each.state}{_because(each.reason)}" for name, each in served.items() if each.network is None}
    ready = [(each, network(each.network)) for each in now.cells if each.network is not None]
    branches, taken = _distinct([_branch(each.category, each.task, found) for each, found in ready])
    if not branches:
        told = "; ".join(f"{name} is {why}" for name, why in list((unready | taken).items())[:MOST_TOLD])
        raise Unavailable(
            f"no cell of {now.stamp.name} has a network yet{_because(told)}",
            code="not_ready",
            hint=f"`graftery grow {now.stamp.name} CATEGORY` adds a teacher",
        )
    first = ready[0][1]
    return Model(
        name=now.stamp.name,
        number=now.stamp.number,
        category=first.category,
        input=first.input,
        preprocessing=first.preprocessing,
        branches=tuple(branches),
        parts={digest: size for _, found in ready for digest, size in found.parts.items()},
        files=frozenset(digest for _, found in ready for digest in found.files),
        unready=unready | taken,
        made_of=now.stamp,
    )


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _branch(category: str, task: str, network: Model) -> Branch:
    (only,) = network.branches
    plain = f"{category}{SEPARATOR}{task}"
    outputs = tuple(
        _renamed(output, plain if len(only.outputs) == 1 else f"{plain}{SEPARATOR}{output.inner}")
        for output in only.outputs
    )
    cell = Cell(category, task, network.key, network.category, network.input, network.preprocessing)
    return replace(only, outputs=outputs, cell=cell)


def _renamed(output: Output, name: str) -> Output:
    return replace(output, declared=replace(output.declared, name=name))


def _distinct(branches: Sequence[Branch]) -> tuple[list[Branch], dict[str, str]]:
    """The branches whose names are theirs alone; and the other names. A name may have the separator in it: `a..b` x `c` and `a` x `b..c`."""
    counts = Counter(name for branch in branches for name in branch.names)
    shared = {name: "the name of more than one cell: ask their own networks" for name in counts if counts[name] > 1}
    return [branch for branch in branches if shared.keys().isdisjoint(branch.names)], shared
