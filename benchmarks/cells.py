"""What was measured so far: one JSON file, written after each cell, so that a run that was stopped goes on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from pydantic import BaseModel

import graftery
from benchmarks.writing import write_whole


class Cells:
    """The cells of a benchmark.

    Args:
        path: of the JSON file.
        command: that writes it.
        defaults: of the recipe, as they were when the last cell was measured.
    """

    def __init__(self, path: Path, command: str, defaults: BaseModel) -> None:
        self.path = path
        self._defaults = defaults
        self._known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self._known.setdefault("cells", {})
        self._known["command"] = command

    def has(self, key: str, where: Mapping[str, Any] = MappingProxyType({})) -> bool:
        """Whether a cell is there that is of the same: one of another protocol counts as not measured."""
        kept = self._known["cells"].get(key)
        return kept is not None and all(kept.get(name) == value for name, value in where.items())

    def put(self, key: str, cell: dict[str, Any]) -> None:
        """Keep a cell, at once and whole."""
        self._known["cells"][key] = cell
        self._known |= {"machine": machine(), "defaults": self._defaults.model_dump(mode="json")}
        write_whole(self.path, _lines(self._known))

    def keep(self, name: str, fact: Any) -> None:
        """Keep something beside the cells, at once."""
        self._known[name] = fact
        write_whole(self.path, _lines(self._known))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from self._known["cells"].values()

    @property
    def count(self) -> int:
        return len(self._known["cells"])

    @property
    def facts(self) -> dict[str, Any]:
        """All but the cells."""
        return {name: value for name, value in self._known.items() if name != "cells"}


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
