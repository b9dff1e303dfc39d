"""What was measured so far: one JSON file, written after each cell, so that a run that was stopped goes on.

Several processes may share the file: each sees what the others put, and none loses it.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import torch
from pydantic import BaseModel

import graftery
from benchmarks.locks import held
from benchmarks.writing import write_whole


class Cells:
    """The cells of a benchmark.

    Args:
        path: of the JSON file.
        command: that writes it.
        defaults: of the recipe, as they were when the last cell was measured.
    """

    def __init__(self, path: Path, command: str, defaults: BaseModel) -> None:
        self.path, self._locks = path, path.with_suffix(".locks")
        self._command, self._defaults = command, defaults
        self._read: tuple[tuple[int, ...], dict[str, Any]] = ((), {})

    @property
    def _known(self) -> dict[str, Any]:
        """What the file has now, read again only if it is another one."""
        stamp = _stamp(self.path)
        if not stamp or stamp != self._read[0]:
            self._read = stamp, json.loads(self.path.read_text()) if stamp else {}
        return {"cells": {}, **self._read[1], "command": self._command}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """What the file has, to be changed; until then, no other process writes it."""
        with held(self._locks / ".write"):
            known = {**self._known, "cells": dict(self._known["cells"])}
            yield known
            write_whole(self.path, _lines(known))

    def has(self, key: str, where: Mapping[str, Any] = MappingProxyType({})) -> bool:
        """Whether a cell is there that is of the same: one of another protocol counts as not measured."""
        kept = self._known["cells"].get(key)
        return kept is not None and all(kept.get(name) == value for name, value in where.items())

    def claimed(self, key: str, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Whether what has this key is this process's to work at: until the end of the block it is then no other's.

        Args:
            wait: until no other process works at it.
        """
        return held(self._locks / quote(key, safe=""), wait=wait)

    def put(self, key: str, cell: dict[str, Any]) -> None:
        """Keep a cell, at once and whole."""
        with self._changing() as known:
            known["cells"][key] = cell
            known |= {"machine": machine(), "defaults": self._defaults.model_dump(mode="json")}

    def keep(self, name: str, fact: Any) -> None:
        """Keep something beside the cells, at once; of a dictionary that is there, what has other keys stays."""
        with self._changing() as known:
            known[name] = _merged(known.get(name), fact)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from self._known["cells"].values()

    @property
    def count(self) -> int:
        return len(self._known["cells"])

    @property
    def facts(self) -> dict[str, Any]:
        """All but the cells."""
        return {name: value for name, value in self._known.items() if name != "cells"}


def _stamp(path: Path) -> tuple[int, ...]:
    """What is another one for each file that takes the place of this one; nothing where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _merged(old: Any, new: Any) -> Any:
    """Dictionaries key by key, also within; of all else, the new."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}


def _lines(known: dict[str, Any]) -> str:
    """JSON with a cell a line, so that a difference shows which cells changed."""
    head = {name: value for name, value in known.items() if name != "cells"}
    cells = [f"  {json.dumps(key)}: {json.dumps(cell, sort_keys=True)}" for key, cell in sorted(known["cells"].items())]
    body = ",\n".join(cells)
    return f'{json.dumps(head, indent=1, sort_keys=True)[:-2]},\n "cells": {{\n{body}\n }}\n}}\n'


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "graftery": graftery.__version__,
        "threads": torch.get_num_threads(),
    }
