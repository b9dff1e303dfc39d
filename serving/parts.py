"""One module in memory, in the form that runs it best so far: eager PyTorch at first, a derived form when there is one.

Eager, on the same device, number of threads and batch, the numbers are those of the local module to the bit. A derived form
was compared with it before it came in: see `serving.derived`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from graftery.cloning.networks import whole
from graftery.errors import GrafteryError, Unavailable
from graftery.module import ModuleFile
from graftery.module.probes import PROBE_X
from graftery.spec.manifest import NetworkParts
from registry.catalogue import read_document
from registry.store import Store
from serving.memory import give_back
from serving.pace import Pace
from serving.pool import not_ready


class Form(Protocol):
    """A way to run a module. It is called in one thread at a time."""

    name: str
    """As statistics show it: eager, onnxruntime, compiled."""

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        """The outputs [N, ...] in the order of the module's manifest."""

    @property
    def size_bytes(self) -> int:
        """What its weights take."""

    def free(self) -> None:
        """Give the memory back at once."""


class Eager:
    """The module's own graph of operators."""

    name = "eager"

    def __init__(self, net: nn.Module) -> None:
        self._net = net

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        value = self._net(x)
        return tuple(value.values()) if isinstance(value, dict) else (value,)

    @property
    def size_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._weights())

    def free(self) -> None:
        # An fx module is part of a cycle, which would keep its weights until a collection.
        on_cuda = any(tensor.is_cuda for tensor in self._weights())
        for part in self._net.modules():
            part._buffers.clear()
            part._parameters.clear()
        if on_cuda:
            torch.cuda.empty_cache()

    def _weights(self) -> list[Tensor]:
        return [*self._net.buffers(), *self._net.parameters()]


class Part:
    """A module that several networks may share.

    Args:
        digest: of its file.
        outputs: names, in the order of its manifest.
        form: how it runs for now.
        sizes: of an input that it takes, without the batch: its probe's; None where it has none.
        whole: it is no module, but a network with clones; it has no file to derive a faster form of.
    """

    def __init__(
        self,
        digest: str,
        outputs: Sequence[str],
        form: Form,
        sizes: tuple[int, ...] | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self.digest, self.outputs, self.sizes, self.whole = digest, tuple(outputs), sizes, whole
        self._form: Form | None = form
        self._lock = threading.Lock()

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """Outputs by name, [N, ...]."""
        with self._lock:
            if self._form is None:
                raise Unavailable(f"the module sha256 {self.digest[:12]} was dropped from memory")
            return dict(zip(self.outputs, self._form(x), strict=True))

    @property
    def form(self) -> str:
        form = self._form
        return form.name if form is not None else "dropped"

    @property
    def pace(self) -> Pace | None:
        """Of the form as it runs now; None: it is not known."""
        return getattr(self._form, "pace", None)

    @property
    def size_bytes(self) -> int:
        form = self._form
        return form.size_bytes if form is not None else 0

    def swap(self, form: Form) -> bool:
        """Run in another form from the next call on; False, and the form is freed, where the part was dropped meanwhile."""
        with self._lock:
            before, dropped = self._form, self._form is None
            self._form = None if dropped else form
        (form if before is None else before).free()
        return not dropped

    def free(self) -> None:
        """Give the memory back. Nobody may use the part any more."""
        with self._lock:
            form, self._form = self._form, None
        if form is not None:
            form.free()
            give_back()


def device_of(setting: str) -> torch.device:
    """The device of a setting; `auto` is CUDA where there is one."""
    return torch.device(setting if setting != "auto" else "cuda" if torch.cuda.is_available() else "cpu")


def checked_path(store: Store, digest: str) -> Path:
    """A module's file, its bytes checked against the digest.

    Raises:
        Unavailable: they are damaged.
        StoreError: they are missing.
    """
    path = store.local_path(digest)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise Unavailable(f"its bytes have sha256 {found[:12]}, they are damaged")
    return path


def probe_sizes(file: ModuleFile) -> tuple[int, ...] | None:
    """Sizes of the file's probe, without the batch."""
    probe = file.extras.get(PROBE_X)
    return None if probe is None else tuple(probe.shape[1:])


def load(store: Store, digest: str, device: torch.device) -> Part:
    """A module, or a network with clones, from the store, eager, on its device.

    Raises:
        Unavailable: `not_ready`: the bytes are missing, damaged or unreadable.
    """
    try:
        file, is_whole = _read(store, digest)
        form = Eager(file.net().to(device))
        return Part(digest, list(file.manifest.outputs), form, probe_sizes(file), whole=is_whole)
    except (GrafteryError, OSError, RuntimeError) as error:
        raise not_ready(f"the module sha256 {digest[:12]}", error) from error


def file_of(store: Store, digest: str) -> ModuleFile:
    """A module's file, or that of a network with clones as one net.

    Raises:
        GrafteryError, OSError: the bytes are missing, damaged or unreadable.
    """
    return _read(store, digest)[0]


def _read(store: Store, digest: str) -> tuple[ModuleFile, bool]:
    """The file, and whether it is of a network with clones."""
    path = checked_path(store, digest)
    parts = read_document(path)
    return (ModuleFile.load(path), False) if parts is None else (_whole(store, parts), True)


def _whole(store: Store, parts: NetworkParts) -> ModuleFile:
    """All its modules as one net: the target's own steps give the target's own logits, to the bit."""
    return whole({place: ModuleFile.load(checked_path(store, digest)) for place, digest in parts.members().items()})
