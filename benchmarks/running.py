"""How long benchmarks run: the arguments that all have, and the walk over the cells that are not measured yet."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.cells import Cells
from graftery.learning.loop import Progress as Step

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
SHOWN = 78
"""Characters of a cell's key that the bar has room for."""


def parser(name: str, text: str) -> argparse.ArgumentParser:
    """The arguments that every benchmark on data has; it adds those that choose among its own cells."""
    made = argparse.ArgumentParser(name, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("GRAFTERY_DATA")
    made.add_argument("--data", type=Path, default=data and Path(data), help="folder of the archives; GRAFTERY_DATA")
    made.add_argument("--quick", action="store_true", help="a small one in minutes, to see that it works")
    made.add_argument("--report", action="store_true", help="measure nothing, write document and plots")
    made.add_argument("--scratch", type=Path, default=Path(".bench"), help="decoded data and trained nets")
    made.add_argument("--out", type=Path, default=RESULTS)
    return made


class Keyed(Protocol):
    """A cell of a protocol."""

    @property
    def key(self) -> str:
        """Where it is kept."""
        ...

    @property
    def where(self) -> dict[str, Any]:
        """What it is a cell of, as it is kept beside its figures."""
        ...


C = TypeVar("C", bound=Keyed)


@dataclass(frozen=True)
class Watch:
    """What is shown while cells are measured: a bar of them, and one of the steps of what learns."""

    bar: Progress

    def say(self, text: str) -> None:
        """A line of its own."""
        self.bar.console.print(f"  {text}")

    def measure(
        self,
        cells: Iterable[C],
        kept: Cells,
        measure: Callable[[C, Callable[[Step], None]], dict[str, Any]],
        *,
        again: bool = False,
    ) -> None:
        """Measure and keep, one by one, what is not kept yet, and what no other process is at: several divide the work.

        Args:
            measure: the figures of a cell; told what to call with the progress of its training.
            again: also what is kept.
        """
        todo = [cell for cell in cells if again or not kept.has(cell.key, cell.where)]
        line = self.bar.add_task("cells", total=len(todo))
        steps = self.bar.add_task("steps", total=None, visible=False)  # until something tells of its own

        def tell(now: Step) -> None:
            said = f"{now.phase}, loss {now.loss:.3f}"
            self.bar.update(steps, completed=now.step, total=now.steps, description=said, visible=True)

        for cell in todo:
            self.bar.update(line, description=cell.key[:SHOWN])
            with kept.claimed(cell.key) as ours:
                if ours and (again or not kept.has(cell.key, cell.where)):
                    kept.put(cell.key, {**cell.where, **measure(cell, tell)})
                    if not self.bar.console.is_terminal:
                        self.bar.console.print(f"{cell.key}: {kept.count} cells")
            self.bar.advance(line)


@contextmanager
def watching() -> Iterator[Watch]:
    """Bars on the terminal; elsewhere a line a cell."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console()) as bar:
        yield Watch(bar)
