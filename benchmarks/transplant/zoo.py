"""Trained nets, each trained once and kept: a table that resumes does not train again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.locks import held
from benchmarks.transplant.worlds.base import Trained, World
from benchmarks.writing import write_whole
from graftery.module import ModuleFile


class Zoo:
    """The nets of a world, in a folder.

    Args:
        world: trains what is not there yet.
        folder: one module file and one JSON a net; a net whose JSON is there is whole.
        say: told before a net is trained.
    """

    def __init__(self, world: World, folder: Path, say: Callable[[str], None] = print) -> None:
        self.world, self._folder, self._say = world, folder / world.name, say

    def teacher(self, category: str, seed: int, tasks: Sequence[str] | None = None) -> Trained:
        tasks = tasks or (self.world.tasks[0].output,)
        name = f"teacher-{category}-{'+'.join(tasks)}-{seed}"
        return self._kept(name, lambda: self.world.teacher(category, seed, tasks))

    def generic(self, categories: Sequence[str], seed: int, depth: str, tasks: Sequence[str] | None = None) -> Trained:
        tasks = tasks or (self.world.tasks[0].output,)
        name = f"generic-{'+'.join(categories)}-{'+'.join(tasks)}-{depth}-{seed}"
        return self._kept(name, lambda: self.world.generic_net(categories, seed, depth, tasks))

    def _kept(self, name: str, train: Callable[[], Trained]) -> Trained:
        file, facts = self._folder / f"{name}.safetensors", self._folder / f"{name}.json"
        with held(self._folder / f"{name}.lock"):  # another process that trains it is waited for
            if not facts.exists():
                self._say(f"training {name}")
                net = train()
                net.file.save(file)
                told = {"seconds": net.seconds, "curve": net.curve, "threads": net.threads}
                write_whole(facts, json.dumps(told))  # last: a net that was cut short is trained again
        known = json.loads(facts.read_text())
        return Trained(ModuleFile.load(file), known["seconds"], tuple(known["curve"]), known["threads"])
