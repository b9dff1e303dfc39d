"""How much memory the device of this worker has. It is asked once, by a process of its own: this one never loads torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import structlog

from registry.settings import Settings

_PATIENCE_S = 120.0

log = structlog.get_logger("graftery.worker")


def device_bytes(settings: Settings) -> int | None:
    """As the settings say it, else as the GPU does; None without one: a CPU has no fixed share of its memory."""
    if settings.device_bytes is not None or settings.device == "cpu" or not any(Path("/dev").glob("nvidia[0-9]*")):
        return settings.device_bytes
    command = [sys.executable, "-m", "worker.device", settings.device]
    try:
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PATIENCE_S).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("device_not_asked", error=str(error), hint="set GRAFTERY_DEVICE_BYTES; until then any job is taken")
        return None
    return int(said) if said else None
