"""ModuleFile: a manifest, a graph and weights in memory, and the way to and from a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Self

import torch
from torch import Tensor

from graftery.errors import ModuleFileError
from graftery.module.build import build
from graftery.module.check import EXTRA_PREFIXES, read_document
from graftery.module.container import Entry, Raw, blocks, canonical_json, read_header, write
from graftery.module.graph import FORMAT, VERSION, Graph
from graftery.module.ops import STORED, STORED_NAMES
from graftery.spec.limits import Limits
from graftery.spec.manifest import Manifest, json_of

METADATA_KEY = "graftery"


@dataclass(frozen=True, eq=False)
class ModuleFile:
    """A neural module as data.

    Args:
        weights: the tensors that the graph names; not to be changed in place.
        extras: `probe.x` and `probe.y` (`probe.y.NAME` with several outputs), and `sketch.*`, `group.*`.
    """

    manifest: Manifest
    graph: Graph
    weights: Mapping[str, Tensor]
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def net(self) -> torch.fx.GraphModule:
        """A net in eval mode whose weights are buffers without grad; they share memory with `weights`.

        `net(x)` gives a tensor, with several outputs a dict of tensors by name.
        """
        return build(self.graph, self.weights)

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write the file, atomically and always in the same bytes.

        Returns:
            The sha256 of the file in hex.
        """
        return write(Path(path), *self._content())

    @cached_property
    def digest(self) -> str:
        """sha256 in hex of the file that `save` writes."""
        found = hashlib.sha256()
        for block in blocks(*self._content()):
            found.update(block)
        return found.hexdigest()

    def _content(self) -> tuple[dict[str, str], dict[str, Raw]]:
        document = {"format": FORMAT, "version": VERSION, "manifest": json_of(self.manifest), **self.graph.document()}
        tensors = {name: raw(tensor) for name, tensor in {**self.weights, **self.extras}.items()}
        return {METADATA_KEY: canonical_json(document)}, tensors

    @classmethod
    def load(cls, path: str | os.PathLike[str], limits: Limits = Limits()) -> Self:  # noqa: B008
        """Read a file and check its header and graph; shapes and values are not checked, see `verify`.

        Raises:
            ModuleFileError: with the code of the first rule that is broken.
        """
        with Path(path).open("rb") as file:
            header = read_header(file, limits)
            text = header.metadata.get(METADATA_KEY)
            if text is None or len(header.metadata) != 1:
                raise ModuleFileError(
                    f"the file's metadata has {sorted(header.metadata)[:5]}, not {METADATA_KEY!r} alone",
                    hint="write the file with graftery.save(net, path, example_x); a sample set is no module (`push --samples`)",
                )
            manifest, graph = read_document(text, header.entries.keys(), limits)
            tensors = read_tensors(file, header.entries)
        extras = {name: tensor for name, tensor in tensors.items() if name.startswith(EXTRA_PREFIXES)}
        weights = {name: tensor for name, tensor in tensors.items() if name not in extras}
        return cls(manifest, graph, weights, extras)

    @cached_property
    def content_digest(self) -> str:
        """sha256 in hex over the graph and the weights: what the module computes, whatever its manifest says."""
        digest = hashlib.sha256(self.graph.digest().encode())
        for name in sorted(self.weights):
            stored = raw(self.weights[name])
            digest.update(canonical_json([name, stored.dtype, list(stored.shape)]).encode())
            digest.update(stored.data)
        return digest.hexdigest()


def load(path: str | os.PathLike[str]) -> ModuleFile:
    """Read a module file; see `ModuleFile.load`."""
    return ModuleFile.load(path)


def raw(tensor: Tensor) -> Raw:
    """A tensor as bytes, without a copy where it lies contiguous on the CPU."""
    flat = tensor.detach().cpu().contiguous()
    data = memoryview(flat.reshape(-1).view(torch.uint8).numpy().data)
    return Raw(STORED_NAMES[tensor.dtype], tuple(tensor.shape), data)


def read_tensors(file: BinaryIO, entries: Mapping[str, Entry]) -> dict[str, Tensor]:
    """Read the tensors of a header that was checked.

    Raises:
        ModuleFileError: `file_truncated`, if the file became shorter meanwhile.
    """
    found: dict[str, Tensor] = {}
    for name, entry in entries.items():
        flat = torch.empty(entry.end - entry.start, dtype=torch.uint8)
        file.seek(entry.start)
        if file.readinto(flat.numpy().data) != len(flat):  # type: ignore[attr-defined]
            raise ModuleFileError(f"tensor {name} could not be read whole", code="file_truncated")
        found[name] = flat.view(STORED[entry.dtype]).reshape(entry.shape)
    return found
