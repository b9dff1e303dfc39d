"""What has to be run for a name under /v2, and what it is called there. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from graftery.errors import InferenceRefused
from graftery.spec.manifest import OutputSpec, Preprocessing
from serving.protocol import Declared

SEPARATOR = ".."
"""Between category, task, and output where the task has several. Names have single dots in them, for namespaces."""


@dataclass(frozen=True)
class Output:
    """An output as it is served, its name in the task module, and what its numbers mean."""

    declared: Declared
    inner: str
    spec: OutputSpec


@dataclass(frozen=True)
class Cell:
    """Of a generic network: whose answer a branch is, and what its category module, by digest, reads."""

    category: str
    task: str
    network: str
    first: str
    input: Declared
    preprocessing: Preprocessing | None


@dataclass(frozen=True)
class Branch:
    """The way from the features to outputs: h (None: the features as they are), then gS. Digests.

    A network with clones is one net, `task`, whose digest is the network's own: it reads the input, as its clones begin within f and gS.
    A branch of a generic network says which cell it is, as its features are its own category's.
    """

    adapter: str | None
    task: str
    outputs: tuple[Output, ...]
    whole: bool = False
    cell: Cell | None = None

    @property
    def names(self) -> frozenset[str]:
        return frozenset(output.declared.name for output in self.outputs)


@dataclass(frozen=True)
class Model:
    """What stands behind a name and version under /v2.

    Args:
        parts: file size of each part that is held in memory, by digest; of a network with clones, of all its files.
        files: digests of what the store needs to have for it.
        unready: of a generic network, why there is no such output yet, by the name that it will have; None: it is no generic network.
        made_of: by which one sees that it is still what a generic network is.
    """

    name: str
    number: int
    category: str
    input: Declared
    preprocessing: Preprocessing | None
    branches: tuple[Branch, ...]
    parts: Mapping[str, int] = field(repr=False)
    files: frozenset[str] = field(default=frozenset(), repr=False)
    unready: Mapping[str, str] | None = field(default=None, repr=False)
    made_of: object = field(default=None, repr=False)

    @property
    def version(self) -> str:
        return str(self.number)

    @property
    def key(self) -> str:
        """Under which its memory is kept, and whether it was unloaded. A generic network keeps both when a cell changes."""
        return f"{self.name}:{self.number}" if self.unready is None else self.name

    @cached_property
    def outputs(self) -> dict[str, Output]:
        return {output.declared.name: output for branch in self.branches for output in branch.outputs}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, branch in enumerate(self.branches) for name in branch.names}

    @cached_property
    def inputs(self) -> list[tuple[Declared, Preprocessing | None, list[str]]]:
        """Each form of the input, and the categories that read it, where they are not all the same."""
        found: list[tuple[Declared, Preprocessing | None, list[str]]] = []
        for cell in (branch.cell for branch in self.branches if branch.cell is not None):
            same = [names for *form, names in found if form == [cell.input, cell.preprocessing]]
            if not same:
                found.append((cell.input, cell.preprocessing, [cell.category]))
            elif cell.category not in same[0]:
                same[0].append(cell.category)
        return found if len(found) > 1 else [(self.input, self.preprocessing, [])]

    def why_unready(self, output: str) -> str | None:
        """Why an output is not there yet; None: there is none of this name. Of a task with several outputs, the cell stands for each."""
        cell, _, _ = output.rpartition(SEPARATOR)
        return None if self.unready is None else self.unready.get(output) or self.unready.get(cell)

    def answering(self, wanted: Collection[str]) -> list[Branch]:
        """The branches of which one of these outputs is."""
        return [branch for branch in self.branches if not branch.names.isdisjoint(wanted)]

    def first(self, branch: Branch) -> str:
        """The digest of the category module whose features a branch takes."""
        return self.category if branch.cell is None else branch.cell.first

    def asked(self, wanted: Collection[str]) -> Model:
        """What answers for these outputs: of a generic network, their cells alone, so that nothing else is held in memory.

        Raises:
            InferenceRefused: their categories read different inputs.
        """
        if self.unready is None:
            return self
        branches = tuple(self.branches[place] for place in sorted({self._places[name] for name in wanted}))
        cells = [branch.cell for branch in branches if branch.cell is not None]
        _check_same_input(cells)
        parts = {
            digest for branch in branches for digest in (self.first(branch), branch.adapter, branch.task) if digest
        }
        return replace(
            self,
            category=cells[0].first,
            input=cells[0].input,
            preprocessing=cells[0].preprocessing,
            branches=branches,
            parts={digest: self.parts[digest] for digest in sorted(parts)},
        )


def _check_same_input(cells: Collection[Cell]) -> None:
    first, *rest = cells
    for other in rest:
        if (other.input, other.preprocessing) == (first.input, first.preprocessing):
            continue
        what = _difference(first, other)
        raise InferenceRefused(
            f"the categories {first.category} and {other.category} read different inputs: {what}",
            hint="ask for outputs of one of them in a request, and of the other in another one",
        )


def _difference(one: Cell, other: Cell) -> str:
    if one.input.datatype != other.input.datatype:
        return f"datatype {one.input.datatype} against {other.input.datatype}"
    if one.input.shape != other.input.shape:
        return f"shape {one.input} against {other.input}"
    mine, theirs = (
        {} if each.preprocessing is None else each.preprocessing.model_dump(mode="json", exclude_none=True)
        for each in (one, other)
    )
    names = [name for name in (mine | theirs) if mine.get(name) != theirs.get(name)]
    return "; ".join(f"{name} {mine.get(name, 'unsaid')} against {theirs.get(name, 'unsaid')}" for name in names)
