"""Writing what was measured: files that are never half written, and the lines of tables."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write, which then takes the place of this one; its name is this process's own. The folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Replace a file by this text."""
    with replacing(path) as part:
        part.write_text(text)


def line(cells: Sequence[str]) -> str:
    """A line of a markdown table."""
    return f"| {' | '.join(cells)} |"


def spread(values: Iterable[float]) -> str:
    """The mean, and the standard deviation where there are several values."""
    known = list(values)
    deviation = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.1f}{deviation}"


def machine_line(on: dict[str, Any]) -> str:
    """What cells were measured on, as a sentence of their page."""
    return (
        f"One machine with {on['cores']} cores ({on['processor']}), accelerator: {on['accelerator']}, {on['threads']} thread a process, which"
        f" had other work beside it; Python {on['python']}, torch {on['torch']}, Graftery {on['graftery']}."
    )


def missing_line(count: int) -> str:
    """That so many cells of a protocol have no figures."""
    return f"**{count} cells of the protocol are not measured yet**: the command goes on where it was stopped."
