"""Trained nets, each trained once and kept: a table that resumes does not train again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.locks import held
from benchmarks.transplant.worlds.base import Trained, World
from benchmarks.writing import write_whole
from graftery.module import ModuleFile


@dataclass(frozen=True)
class Nets:
    """The two nets that a cell is of.

    Args:
        target: what the teacher knows.
        categories: what the generic net knows.
        outputs: of both: the tasks that they learn together.
        depth: of the cut, a key of the world's cuts.
        seed: of both.
    """

    target: str
    categories: tuple[str, ...]
    outputs: tuple[str, ...]
    depth: str
    seed: int

    def learned_by(self, world: World) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the teacher and the generic net of the world as it is learn by."""
        return world.learned_by(1, self.outputs), world.learned_by(len(self.categories), self.outputs)


class Zoo:
    """The nets of a world, in a folder.

    Args:
        world: trains what is not there yet.
        folder: one module file and one JSON a net; a net whose JSON is there is whole. It says what the net learned by: one that learned
            by something else is trained again.
        say: told before a net is trained.
    """

    def __init__(self, world: World, folder: Path, say: Callable[[str], None] = print) -> None:
        self.world, self._folder, self._say = world, folder / world.name, say

    def teacher(self, category: str, seed: int, tasks: Sequence[str] | None = None) -> Trained:
        tasks = tasks or (self.world.tasks[0].output,)
        return self._kept(
            _teacher(category, seed, tasks),
            self.world.learned_by(1, tasks),
            lambda: self.world.teacher(category, seed, tasks),
        )

    def generic(self, categories: Sequence[str], seed: int, depth: str, tasks: Sequence[str] | None = None) -> Trained:
        tasks = tasks or (self.world.tasks[0].output,)
        return self._kept(
            _generic(categories, seed, depth, tasks),
            self.world.learned_by(len(categories), tasks),
            lambda: self.world.generic_net(categories, seed, depth, tasks),
        )

    def has(self, nets: Nets) -> bool:
        """Whether both of them are there."""
        own, shared = nets.learned_by(self.world)
        teacher = _teacher(nets.target, nets.seed, nets.outputs)
        generic = _generic(nets.categories, nets.seed, nets.depth, nets.outputs)
        return self._facts(teacher, own) is not None and self._facts(generic, shared) is not None

    def pair(self, nets: Nets) -> tuple[Trained, Trained]:
        """The teacher and the generic net."""
        own = self.teacher(nets.target, nets.seed, nets.outputs)
        return own, self.generic(nets.categories, nets.seed, nets.depth, nets.outputs)

    def _kept(self, name: str, learned: Mapping[str, Any], train: Callable[[], Trained]) -> Trained:
        file = self._folder / f"{name}.safetensors"
        with held(self._folder / f"{name}.lock"):  # another process that trains it is waited for
            known = self._facts(name, learned)
            if known is None:
                self._say(f"training {name}")
                net = train()
                facts = self._path(name)
                facts.unlink(missing_ok=True)  # of the file that is replaced now
                net.file.save(file)
                known = {"seconds": net.seconds, "curve": net.curve, "threads": net.threads, "learned_by": learned}
                write_whole(facts, json.dumps(known))  # last: a net that was cut short is trained again
        return Trained(ModuleFile.load(file), known["seconds"], tuple(known["curve"]), known["threads"])

    def _facts(self, name: str, learned: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is kept of a net that learned by this."""
        facts = self._path(name)
        known: dict[str, Any] = json.loads(facts.read_text()) if facts.exists() else {}
        return known if known.get("learned_by") == json.loads(json.dumps(learned)) else None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _teacher(category: str, seed: int, tasks: Sequence[str]) -> str:
    return f"teacher-{category}-{'+'.join(tasks)}-{seed}"


def _generic(categories: Sequence[str], seed: int, depth: str, tasks: Sequence[str]) -> str:
    return f"generic-{'+'.join(categories)}-{'+'.join(tasks)}-{depth}-{seed}"
