"""Processes that measure cells on one file: `python -m tests.support.measuring FOLDER cells SECONDS`, or `puts COUNT`.

They begin when FOLDER/go is there.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.cells import Cells
from benchmarks.running import watching
from graftery.spec.recipes import CloneRecipe

COUNT = 12


class Numbered:
    """A cell."""

    def __init__(self, number: int) -> None:
        self.key, self.where = f"{number}/some row", {"number": number}


def opened(folder: Path) -> Cells:
    return Cells(folder / "cells.json", "make it", CloneRecipe())


def measured(kept: Cells, seconds: float = 0.0, count: int = COUNT) -> list[int]:
    """Measure what is left; which cells this process did."""
    done = []

    def one(cell: Numbered, _tell: Any) -> dict[str, Any]:
        done.append(cell.where["number"])
        with (kept.path.parent / "log").open("a") as log:
            log.write(f"{cell.where['number']}\n")
        kept.keep("tuning", {"digits": {"trials": {str(cell.where["number"]): os.getpid()}}})
        time.sleep(seconds)
        return {"by": os.getpid()}

    with watching() as watch:
        watch.measure([Numbered(number) for number in range(count)], kept, one)
    return done


def main() -> None:
    folder, what, much = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    (folder / f"ready-{os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.001)
    if what == "cells":
        measured(opened(folder), much)
        return
    kept = opened(folder)
    for number in range(int(much)):
        kept.put(f"{os.getpid()}/{number}", {})


if __name__ == "__main__":
    main()
