"""`inspect` of a file on this machine: its header and its graph, without torch and without a service."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from graftery.client.commands.options import say_json
from graftery.client.render import card, manifest_entries, shape, size
from graftery.client.transfer import sha256_of
from graftery.errors import ModuleFileError
from graftery.module.check import EXTRA_PREFIXES, read_document
from graftery.module.container import Header, read_header
from graftery.module.graph import Graph
from graftery.spec.limits import Limits
from graftery.spec.manifest import Manifest

METADATA_KEY = "graftery"


def inspect_file(path: Path, *, as_json: bool) -> None:
    """Print a card, or JSON, about a module file or a sample set.

    Raises:
        ModuleFileError: the file's header or graph breaks a rule.
    """
    header, module = _read(path)
    facts: dict[str, Any] = {"path": str(path), "size_bytes": path.stat().st_size, "digest": sha256_of(path)}
    if module is None:
        facts["arrays"] = {name: f"{entry.dtype} {list(entry.shape)}" for name, entry in header.entries.items()}
    else:
        facts |= {"parameters": _parameters(header), "manifest": module[0]}
    if as_json:
        say_json(facts)
        return
    entries = [("digest", f"sha256:{facts['digest']}"), ("size", size(facts["size_bytes"]))]
    card(str(path), entries + ([*facts["arrays"].items()] if module is None else _module_entries(module[0], facts)))


def layers_of(path: Path) -> list[str]:
    """The layers of a module file, in the order of the net: what a cut may name."""
    _, module = _read(path)
    if module is None:
        raise ModuleFileError(f"{path} is no module file")
    return [*module[1].names]


def _read(path: Path) -> tuple[Header, tuple[Manifest, Graph] | None]:
    """The header, and what a module file says of itself; None for other safetensors files."""
    limits = Limits()
    with path.open("rb") as file:
        header = read_header(file, limits)
    text = header.metadata.get(METADATA_KEY)
    return header, None if text is None else read_document(text, header.entries.keys(), limits)


def _module_entries(manifest: Manifest, facts: dict[str, Any]) -> list[tuple[str, object]]:
    return [
        ("kind", manifest.kind),
        ("input", shape(manifest.input)),
        *((f"output {name}", shape(output)) for name, output in manifest.outputs.items()),
        ("parameters", f"{facts['parameters']:,}"),
        *manifest_entries(manifest.model_dump(exclude_none=True)),
        ("made from", ", ".join(f"sha256:{parent.digest[:12]} (as {parent.role})" for parent in manifest.parents)),
    ]


def _parameters(header: Header) -> int:
    """Numbers in the weights; the probe and the sketch are none."""
    return sum(prod(entry.shape) for name, entry in header.entries.items() if not name.startswith(EXTRA_PREFIXES))
