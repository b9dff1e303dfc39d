"""What was measured so far: one JSON file, written after each cell, so that a run that was stopped goes on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.serving.processes import BenchError
from benchmarks.writing import write_whole

OURS = ("graftery", "torch", "onnxruntime", "onnx", "onnxscript", "numpy", "fastapi", "uvicorn")


class Kept:
    """The cells by name, and what they were measured with.

    Args:
        path: of the JSON file.
        command: that writes it.
        packages: of ours, whose versions are written down.
    """

    def __init__(self, path: Path, command: str, packages: Sequence[str] = OURS) -> None:
        self.path, self.packages = path, packages
        self.known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.known |= {"command": command}
        for part in ("cells", "versions", "left_out"):
            self.known.setdefault(part, {})

    def cell(self, name: str) -> dict[str, Any] | None:
        return self.known["cells"].get(name)

    def put(self, name: str, cell: dict[str, Any]) -> None:
        """Keep a cell, at once and whole."""
        self.known["cells"][name] = cell
        self.known["machine"] = machine()
        self.versions("ours", versions(self.packages))
        write_whole(self.path, json.dumps(self.known, indent=1, sort_keys=True) + "\n")

    def measure(self, name: str, cell: Callable[[], dict[str, Any]], rounds: int, console: Console) -> None:
        """Measure a cell and keep it; of one that fails, the reason: what one meets is not to cost the others."""
        began = time.monotonic()
        try:
            found = cell()
        except BenchError as error:
            found = {"reason": str(error)}
        except Exception as error:
            console.print(traceback.format_exc(limit=-6), markup=False)
            found = {"reason": f"{type(error).__name__}: {error}"}
        if "reason" in found:
            console.print(f"  {name} was not measured: {found['reason']}", markup=False)
        self.put(name, {**found, "seconds": round(time.monotonic() - began, 1), "rounds_wanted": rounds})

    def lacks(self, name: str) -> bool:
        """Whether a cell was not measured yet, or could not be."""
        return "reason" in (self.cell(name) or {"reason": "not yet"})

    def versions(self, name: str, found: dict[str, str]) -> None:
        self.known["versions"][name] = found
        self.known["left_out"].pop(name, None)

    def left_out(self, name: str, reason: str) -> None:
        self.known["left_out"][name] = reason


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of what our server runs on, as far as it is installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was with other work."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "model": model,
        "kernel": platform.release(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }
