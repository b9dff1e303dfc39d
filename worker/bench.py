"""What a worker keeps between jobs: its settings, the database, the store and the warm child."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from graftery.errors import StoreError
from registry.db import Database
from registry.settings import Settings
from registry.staging import full_is_an_error, in_use, is_in_use, require_free
from registry.store import Store
from worker.capacity import device_bytes
from worker.process import CHILD_COMMAND, Child

SCRATCH_PREFIX = "graftery-job-"
# A child without work is let go after this long: it holds memory, and on a GPU a context.
_IDLE_S = 300.0
# How long the end of a worker waits for its job to be put back.
_CLEAR_S = 10.0

log = structlog.get_logger("graftery.worker")


@dataclass
class Bench:
    """One worker's bench: one job at a time is done on it."""

    settings: Settings
    database: Database
    store: Store
    worker: str
    child_command: Sequence[str] = CHILD_COMMAND
    # Of the device that jobs run on; None: not known, and any job is taken.
    device_bytes: int | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    child: Child | None = None
    used_at: float = 0.0
    busy: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, settings: Settings, child_command: Sequence[str] = CHILD_COMMAND) -> Bench:
        """The bench for these settings; also clears what workers that were killed have left here."""
        _sweep_scratch()
        worker = f"{socket.gethostname()}:{os.getpid()}"
        database, store, room = Database(settings.database), Store(settings), device_bytes(settings)
        return cls(settings, database, store, worker, child_command, room)

    def warm_child(self) -> Child:
        """The child that is there, or a new one."""
        self.used_at = time.monotonic()
        if self.child is None or not self.child.alive:
            self.dismiss()
            self.child = Child(self.child_command, threads=self.settings.threads)
        return self.child

    def dismiss(self) -> None:
        """End the child."""
        if self.child is not None:
            self.child.kill()
            self.child = None

    def rest(self) -> None:
        """Called when there is no job: end a child that has had none for long."""
        if self.child is not None and time.monotonic() - self.used_at > _IDLE_S:
            self.dismiss()

    def close(self) -> None:
        """Leave the bench: the running job is put back first, if it can be in time."""
        self.stopping.set()
        free = self.busy.acquire(timeout=_CLEAR_S)
        self.dismiss()
        self.database.dispose()
        if free:
            self.busy.release()


@contextmanager
def scratch(bench: Bench) -> Iterator[Path | None]:
    """The folder of a job that is about to be claimed, gone afterwards; None where this machine's disk has no room for one."""
    with ExitStack() as stack:
        folder: Path | None = None
        try:
            with full_is_an_error():
                made = tempfile.TemporaryDirectory(prefix=f"{SCRATCH_PREFIX}{os.getpid()}-")
                folder = Path(stack.enter_context(made))
                stack.enter_context(in_use(folder))
            require_free(folder, bench.settings.free_bytes)
            bench.store.check_room()
        except StoreError as error:
            log.warning("no_room", error=str(error))
            stack.close()
            folder = None
        yield folder


def _sweep_scratch() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*-*"):
        pid = folder.name.removeprefix(SCRATCH_PREFIX).split("-")[0]
        # In a container each worker has the same number as the one before it, and no folder yet: the lock tells them apart
        # from another container's on the same disk.
        gone = pid == str(os.getpid()) or not Path(f"/proc/{pid}").exists()
        if pid.isdigit() and gone and Path("/proc/self").exists() and not is_in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)
