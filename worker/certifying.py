"""The child's part of a certificate: networks that share a module answer after a transplant as they did before it.

A network that nobody has recorded yet is recorded before the training, so that this very transplant is certified too.
Modules are read again after it, from the store's files, each compared with its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import nn

from graftery.cloning.networks import whole
from graftery.errors import GrafteryError, StoreError, first_line
from graftery.module import ModuleFile
from graftery.spec.certificate import Replayed
from graftery.spec.manifest import json_of
from graftery.transplant import compose
from graftery.transplant.certificate import Probes, device_class, probe_inputs, record, replay
from worker.child import Reporter
from worker.reports import FileOf, Order, SharedNetwork

PROBES = "probes"
# Modules in memory at once. In the order of `_grouped` each is read once, or a few times where there are many.
_HELD = 4

log = structlog.get_logger("graftery.child")


@dataclass
class Certifier:
    """Asks the networks of an order for their outputs: `before` the training and `after` it."""

    order: Order
    device: torch.device
    reporter: Reporter
    _first_seen: dict[int, Path] = field(default_factory=dict)
    _refused: dict[int, str] = field(default_factory=dict)

    def before(self) -> None:
        """Record the networks that have no record."""
        asked = _Asked(self.order, self.device)
        new = [network for network in self._grouped() if PROBES not in network.files]
        for step, network in enumerate(new, 1):
            try:
                self._first_seen[network.id] = self._recorded(asked, network.files, f"first-{network.id}")
            except (GrafteryError, OSError, RuntimeError) as error:
                self._refused[network.id] = f"it could not be recorded: {first_line(error)}"
            self._tell("record", step, len(new))

    def after(self, own: Mapping[str, FileOf] | None) -> dict[str, Any]:
        """Replay all of them, and record the network that the job makes, if it makes one.

        Args:
            own: its modules, by role.
        """
        asked = _Asked(self.order, self.device)
        networks = self._grouped()
        replays = {}
        for step, network in enumerate(networks, 1):
            replays[str(network.id)] = {"ref": network.ref, **json_of(self._replayed(asked, network))}
            self._tell("certify", step, len(networks))
        return {
            "device_class": json_of(device_class(self.device)),
            "replays": replays,
            "first_seen": {str(id_): str(path) for id_, path in self._first_seen.items()},
            "left_out": self.order.sharing.left_out,
            "probes": str(path) if own and (path := self._own_record(asked, own)) else None,
        }

    def _grouped(self) -> list[SharedNetwork]:
        """The networks in an order in which those of the same modules are neighbours."""

        def place(network: SharedNetwork) -> tuple[str | None, str | None, int]:
            return network.files["task"].digest, network.files["category"].digest, network.id

        return sorted(self.order.sharing.networks, key=place)

    def _replayed(self, asked: _Asked, network: SharedNetwork) -> Replayed:
        try:
            if network.id in self._refused:
                raise StoreError(self._refused[network.id])
            probes = Probes.load(self._first_seen.get(network.id) or _sound(network.files[PROBES]))
            found = replay(asked.net(network.files), probes, self.device)
        except (GrafteryError, OSError, RuntimeError) as error:
            return Replayed(compared="bitwise", same=False, identical=False, reason=first_line(error))
        return Replayed(compared=found.compared, same=found.same, identical=found.identical, reason=found.reason)

    def _own_record(self, asked: _Asked, own: Mapping[str, FileOf]) -> Path | None:
        """The record of the new network. Without one it is made by the next job: what was learned is worth more than that."""
        try:
            return self._recorded(asked, own, "own")
        except (GrafteryError, OSError, RuntimeError) as error:
            log.warning("not_recorded", error=str(error))
            return None

    def _recorded(self, asked: _Asked, files: Mapping[str, FileOf], name: str) -> Path:
        path = Path(self.order.scratch) / f"{name}.probes.safetensors"
        record(asked.net(files), probe_inputs(asked.module(files["category"])), self.device).save(path)
        return path

    def _tell(self, phase: str, step: int, steps: int) -> None:
        self.reporter.advanced({"phase": phase, "step": step, "steps": steps})


class _Asked:
    """Networks composed of files; a module that neighbours share is read once."""

    def __init__(self, order: Order, device: torch.device) -> None:
        self._device = device
        self.module = lru_cache(maxsize=_HELD)(lambda file: ModuleFile.load(_sound(file), order.limits))

    def net(self, files: Mapping[str, FileOf]) -> nn.Module:
        """The composed network.

        Raises:
            StoreError: `store_corrupt`: the bytes of a module are missing, or are others than its digest says.
        """
        parts = {role: self.module(file) for role, file in files.items() if role != PROBES}
        if "clone.0" in parts:
            return whole(parts).net().to(self._device)
        return compose(parts["category"], parts.get("adapter"), parts["task"]).to(self._device)


def _sound(file: FileOf) -> str:
    """The path of a file, whose bytes are those of its digest if that is known."""
    what = f"the file sha256 {(file.digest or '')[:12]}"
    if file.path is None:
        raise StoreError(f"{what} is missing in the store")
    if file.digest is None:
        return file.path
    with Path(file.path).open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.digest:
        raise StoreError(f"{what} is damaged: its bytes have sha256 {found[:12]}")
    return file.path
