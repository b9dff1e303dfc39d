"""Faster forms of modules, made in the background: ONNX Runtime on a CPU, torch.compile on CUDA.

A network is ready before any of this. Each module is derived once a machine and kept as a file by digest and versions, compared
with eager at several sizes, and swapped in between two runs; its eager weights are dropped then. What cannot be derived
stays eager, and statistics say why.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import structlog
import torch
from torch import Tensor

from graftery.errors import GrafteryError, first_line
from graftery.module import ModuleFile
from graftery.spec.limits import GIB, Limits
from registry.children import Children
from registry.settings import Settings
from registry.store import Store
from serving import pace
from serving.compiled import compiled
from serving.memory import give_back
from serving.parts import Form, Part, checked_path, probe_sizes

log = structlog.get_logger("graftery.inference")

# The lifeline first: loading torch takes seconds, in which nobody looks at stdin.
_PROGRAM = """
from graftery.module.verify import end_with_parent
end_with_parent()
from serving.derive import main
main()
"""
COMMAND = (sys.executable, "-c", _PROGRAM)
LIMITS = Limits(cpu_s=600, wall_s=1200, memory_base_bytes=8 * GIB, memory_per_file_byte=24)
REST_S = 30.0
"""The child is ended when it had nothing to do for so long: it holds torch in memory."""
WARM_BATCHES = (1, 2, 8)
FORMAT = 2
"""Of what we keep in a form's file: one of another format is made again."""


class OnnxForm:
    """A module in ONNX Runtime, on the CPU."""

    name = "onnxruntime"

    def __init__(self, path: Path, threads: int) -> None:
        _share_memory()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common class but this
            raise RuntimeError(first_line(error)) from error
        self.pace = pace.read(session.get_modelmeta().custom_metadata_map.get(pace.KEY))
        self._session: onnxruntime.InferenceSession | None = session
        # ONNX Runtime's own description of the input would hold the session, and its weights, after `free`.
        declared = session.get_inputs()[0]
        self._input, self._sizes, self._type = declared.name, tuple(declared.shape[1:]), declared.type
        self.size_bytes = path.stat().st_size

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        if self._session is None:
            raise RuntimeError("the form was freed")
        try:
            found = self._session.run(None, {self._input: x.contiguous().numpy()})
        except Exception as error:
            raise RuntimeError(first_line(error)) from error
        return [torch.from_numpy(array) for array in found]

    def warm_up(self, sizes: Sequence[int] | None = None) -> None:
        """Run on zeros of the declared sizes.

        Args:
            sizes: of an input without its batch, where the declared ones are free; None: nobody knows which will come.
        """
        sizes = self._sizes if all(isinstance(size, int) for size in self._sizes) else sizes
        if sizes is not None and self._type == "tensor(float)":
            for batch in WARM_BATCHES:
                self(torch.from_numpy(np.zeros([batch, *sizes], np.float32)))

    def free(self) -> None:
        self._session = None


class Deriver:
    """Makes faster forms of parts, one at a time, in a thread of its own.

    Args:
        store: has the modules' files.
        device: where the parts run.
        resized: called with a digest and the bytes that the part takes in its new form.
    """

    def __init__(
        self, settings: Settings, store: Store, device: torch.device, resized: Callable[[str, int], None]
    ) -> None:
        self.enabled = settings.fast_forms == "auto"
        self.folder = settings.home / "derived"
        self.reasons: dict[str, str] = {}
        """Why a module stays eager, by digest."""
        self._settings, self._store, self._device, self._resized = settings, store, device, resized
        self._children = Children(LIMITS, 1, COMMAND, "the derivation of a faster form")
        self._wanted: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._pending = 0

    @property
    def pending(self) -> int:
        """Parts whose faster form is waited for."""
        return self._pending

    def kept(self, digest: str) -> Part | None:
        """A part in its derived form, where one was made before on this machine; its eager weights are never built."""
        path = self.path(digest)
        if not self.enabled or self._device.type == "cuda" or not path.exists():
            return None
        try:
            file = ModuleFile.load(checked_path(self._store, digest))
            sizes = probe_sizes(file)
            form = self._warmed(path, sizes)
        except (GrafteryError, OSError, RuntimeError):
            return None
        path.touch()
        return Part(digest, list(file.manifest.outputs), form, sizes)

    def want(self, part: Part) -> None:
        """Have a faster form made; the part is usable meanwhile."""
        if not self.enabled or part.digest in self.reasons:
            return
        with self._lock:
            self._pending += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="deriver", daemon=True)
                self._thread.start()
        self._wanted.put(part)

    def close(self) -> None:
        """End the thread and its child."""
        self._children.close()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._wanted.put(None)
            thread.join()

    def path(self, digest: str) -> Path:
        """Of the derived form: it depends on the module and on what made it."""
        versions = f"torch{torch.__version__}-ort{onnxruntime.__version__}-{FORMAT}"
        return self.folder / f"{digest}-{versions.replace('+', '.')}.onnx"

    def _work(self) -> None:
        while True:
            try:
                part = self._wanted.get(timeout=REST_S)
            except queue.Empty:
                self._children.rest()
                continue
            if part is None:
                return
            try:
                self._derive(part)
            except Exception as error:
                self._stays_eager(part, first_line(error))
            finally:
                with self._lock:
                    self._pending -= 1

    def _derive(self, part: Part) -> None:
        if part.form != "eager":
            return
        form = self._compiled(part) if self._device.type == "cuda" else self._onnx(part)
        swapped = part.swap(form)
        give_back()
        if swapped:
            self._resized(part.digest, part.size_bytes)
            log.info("derived", digest=part.digest, form=form.name)

    def _onnx(self, part: Part) -> Form:
        path = self.path(part.digest)
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._children.ask(
                "derive", str(self._store.local_path(part.digest)), out=str(path), threads=self._settings.threads
            )
            self._sweep()
        return self._warmed(path, part.sizes)

    def _compiled(self, part: Part) -> Form:
        file = ModuleFile.load(checked_path(self._store, part.digest))
        return compiled(file, self._device, self._settings.infer_merge)

    def _warmed(self, path: Path, sizes: tuple[int, ...] | None) -> OnnxForm:
        """The form, run once at a few sizes: the first requests find its memory there."""
        form = OnnxForm(path, self._settings.threads)
        form.warm_up(sizes)
        give_back()
        return form

    def _sweep(self) -> None:
        """Keep the cache within its bytes: the least recently used forms go."""
        files = sorted(self.folder.glob("*.onnx"), key=lambda path: path.stat().st_mtime)
        over = sum(path.stat().st_size for path in files) - self._settings.derived_bytes
        for path in files[:-1]:
            if over <= 0:
                break
            over -= path.stat().st_size
            path.unlink(missing_ok=True)

    def _stays_eager(self, part: Part, reason: str) -> None:
        self.reasons[part.digest] = reason
        log.info("stays_eager", digest=part.digest, reason=reason)


_sharing = threading.Lock()
_shared = False


def _share_memory() -> None:
    """One arena for all sessions of the process: with one each, 20 modules would hold 20 arenas for one thread."""
    global _shared  # noqa: PLW0603
    with _sharing:
        if not _shared:
            memory = onnxruntime.OrtMemoryInfo(
                "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
            )
            onnxruntime.create_and_register_allocator(memory, None)
            _shared = True
