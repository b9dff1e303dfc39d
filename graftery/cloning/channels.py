"""Which channels of a network hang together: what has to go with a channel when it is sliced away.

A value's channels are *atoms*: whole numbers along one of its dimensions. Where two values are added, their atoms become one; where
a convolution or a linear layer reads a value, atoms end and new ones begin. A *unit* is a set of joined atoms: they go together or
stay together. Units that reach something that no rule of `graftery.cloning.flows` knows are pinned: they always stay, so that slicing
is right for every network, and saves less where less is known.

Source: structured pruning by dependency; ours for op graphs (docs/methods/cloning.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from graftery.cloning.flows import RULES
from graftery.cloning.reading import pinned
from graftery.cloning.taps import shapes_of
from graftery.errors import CutRefused
from graftery.module import ModuleFile
from graftery.module.probes import PROBE_X

Atoms = tuple[int, ...]
Place = Literal["reads", "writes"]


@dataclass(frozen=True)
class Flow:
    """A value's channels: the atom of each position along its dimension `dim`."""

    dim: int
    atoms: Atoms


@dataclass(frozen=True)
class Use:
    """A weight's dimension that lies along atoms. `reads`: a value's channels meet it; without them it adds nothing."""

    weight: str
    dim: int
    atoms: Atoms
    place: Place


@dataclass(frozen=True)
class Count:
    """A number in the graph that counts atoms: the argument of `node` at `path`."""

    node: str
    path: tuple[int, ...]
    atoms: Atoms


@dataclass
class Channels:
    """The atoms of a network and what is known of them.

    Args:
        shapes, weight_shapes: of every value at the probe, and of every weight.
    """

    shapes: Mapping[str, tuple[int, ...]]
    weight_shapes: Mapping[str, tuple[int, ...]]
    flows: dict[str, Flow] = field(default_factory=dict)
    uses: dict[tuple[str, int], Use] = field(default_factory=dict)
    _followed: Counter[tuple[str, int]] = field(default_factory=Counter)
    counts: list[Count] = field(default_factory=list)
    _parent: list[int] = field(default_factory=list)
    _layer: list[int] = field(default_factory=list)
    _pinned: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, file: ModuleFile) -> Channels:
        """Follow the channels of a file with a probe. The input's own channels always stay.

        Raises:
            CutRefused: the file has no probe.
        """
        if PROBE_X not in file.extras:
            raise CutRefused(
                "the file has no probe, which gives the sizes of its values", hint="write it with graftery.trace"
            )
        found = cls(shapes_of(file), {name: tuple(weight.shape) for name, weight in file.weights.items()})
        for node in file.graph.nodes:
            flow = RULES.get(node.op, pinned)(found, node)
            if flow is not None:
                found.flows[node.id] = flow
        found._pin_half_followed(file)
        return found

    def fresh(self, dim: int, size: int) -> Flow:
        """New channels, those of one layer."""
        start = len(self._parent)
        self._parent.extend(range(start, start + size))
        self._layer.extend([start] * size)
        return Flow(dim, tuple(range(start, start + size)))

    def pin(self, flow: Flow | None) -> None:
        """These channels stay, whatever is wanted."""
        if flow is not None:
            self._pinned.update(flow.atoms)

    def join(self, ours: Atoms, theirs: Atoms) -> None:
        """They go together, position by position."""
        for a, b in zip(ours, theirs, strict=True):
            low, high = sorted((self.root(a), self.root(b)))
            self._parent[high] = low

    def use(self, weight: str, dim: int, atoms: Atoms, place: Place) -> None:
        """A weight lies along atoms; one that several nodes use lies along all of theirs."""
        self._followed[weight, dim] += 1
        known = self.uses.get((weight, dim))
        if known is None:
            self.uses[weight, dim] = Use(weight, dim, atoms, place)
        else:
            self.join(known.atoms, atoms)

    def _pin_half_followed(self, file: ModuleFile) -> None:
        """A weight that is read in several places, and followed in some of them only, stays as it is: the others need all of it."""
        read = Counter(weight for node in file.graph.nodes for weight in node.weights())
        for (weight, dim), use in self.uses.items():
            if self._followed[weight, dim] < read[weight]:
                self._pinned.update(use.atoms)

    def count(self, node: str, path: tuple[int, ...], atoms: Atoms) -> None:
        """A number in the graph is how many of these atoms there are."""
        self.counts.append(Count(node, path, atoms))

    def root(self, atom: int) -> int:
        while self._parent[atom] != atom:
            self._parent[atom] = self._parent[self._parent[atom]]
            atom = self._parent[atom]
        return atom

    def units(self, *, free: Sequence[int] = ()) -> dict[int, list[int]]:
        """What may go: the roots of the units that are not pinned, by layer; layers whose units are joined are one.

        Args:
            free: atoms that are not to be counted: those of an output, which are chosen otherwise.
        """
        stays = {self.root(atom) for atom in (*self._pinned, *free)}
        layers: dict[int, list[int]] = {}
        seen: dict[int, int] = {}
        for atom, layer in enumerate(self._layer):
            root = self.root(atom)
            if root not in stays and root not in seen:
                seen[root] = layer
                layers.setdefault(layer, []).append(root)
        return layers

    def never_empty(self, roots: Sequence[int]) -> list[frozenset[int]]:
        """Sets of these units of which one each has to stay: those of a layer all of whose channels may go.

        Layers whose units are joined are one for `units`; here two that lie side by side along a third are two.
        """
        may, layers = set(roots), dict[int, set[int]]()
        for atom, layer in enumerate(self._layer):
            layers.setdefault(layer, set()).add(self.root(atom))
        return list(dict.fromkeys(frozenset(layer) for layer in layers.values() if layer <= may))

    def index(self, atoms: Atoms, gone: frozenset[int]) -> Tensor:
        """Positions of what stays when the units with these roots go."""
        return torch.tensor([at for at, atom in enumerate(atoms) if self.root(atom) not in gone], dtype=torch.int64)

    def positions(self, use: Use, roots: Sequence[int]) -> Tensor:
        """For each position along a weight's dimension, where its unit is in `roots`; -1: it is none of them."""
        at = {root: index for index, root in enumerate(roots)}
        return torch.tensor([at.get(self.root(atom), -1) for atom in use.atoms], dtype=torch.int64)
