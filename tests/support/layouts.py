"""Layouts for tests: a registry with everything in it, and a changed copy of what it exports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graftery.spec.certificate import DeviceClass
from registry import catalogue
from registry.db import Database
from registry.settings import Settings
from tests.support import world
from tests.support.registry import put, put_network

DEVICE = DeviceClass(device="cpu", model="m", kernels="k", torch="2", threads=1)


def fill(settings: Settings) -> world.World:
    """Networks with adapters and clones, lineage, aliases that moved, a yank, a deleted number, probes, descriptions and tags."""
    made = world.build(settings)
    with made.database.transaction() as session:
        catalogue.set_alias(session, world.NETWORK, "default", 2, "somebody")
        catalogue.set_alias(session, world.NETWORK, "stable", 2)
        catalogue.rollback_alias(session, world.NETWORK, "stable")
        adapter = catalogue.resolve(session, f"{world.NETWORK}-adapter:2")
        parents = [
            ("category", catalogue.resolve(session, "eight:1")),
            ("task", catalogue.resolve(session, "even-is:1")),
        ]
        blob = made.store.put_bytes(b"an adapter")
        catalogue.publish(
            session,
            name="learned",
            kind="adapter",
            blob=blob,
            parents=[(role, each.id) for role, each in parents],  # type: ignore[misc]
            metrics={"adapter": {"accuracy": 0.5}},
            manifest=adapter.manifest,
            description="**bold**",
            tags=["b", "a"],
            by="job 1",
        )
        target = catalogue.resolve(session, "eight-teacher")
        clone = put(
            session, "more", made.store.put_bytes(b"a clone") and "a clone", "clone", parents=[("target", target.id)]
        )
        parts = catalogue.network_parts(session, target)._replace(clones=(clone,))
        made.store.put_bytes(catalogue.compose_document(parts.parts))
        put_network(session, "eight-and-more", parts.category, parts.task, parts.adapter, parts.clones)
        put(session, "gone", made.store.put_bytes(b"one") and "one")
        put(session, "gone", made.store.put_bytes(b"two") and "two")
        put(session, "gone", made.store.put_bytes(b"three") and "three")
        catalogue.delete_version(session, "gone:3")
        catalogue.yank(session, "gone:1", "it is wrong")
        probes = made.store.put_bytes(b"probes")
        network = catalogue.resolve(session, f"{world.NETWORK}:1")
        catalogue.keep_probes(session, network.id, probes, DEVICE, "job 2")
    return made


def rows(database: Database) -> dict[str, Any]:
    """All that readers see of names and versions, whatever their ids."""
    found: dict[str, Any] = {}
    with database.read() as session:
        for module in catalogue.list_modules(session, limit=200).items:
            aliases = {alias.alias: alias for alias in catalogue.list_aliases(session, module.name)}
            found[module.name] = (
                module,
                catalogue.list_versions(session, module.name, limit=200).items,
                aliases,
                {alias: catalogue.alias_history(session, module.name, alias) for alias in aliases},
            )
            for version in found[module.name][1]:
                found[version.ref] = catalogue.lineage(session, version.ref, "up").model_dump()
                for part in ("nodes", "edges"):
                    found[version.ref][part].sort(key=str)
                row = catalogue.probes_of(session, catalogue.resolve(session, version.ref))
                found[f"probes of {version.ref}"] = row and (row.digest, row.device_class, row.made_at, row.made_by)
    return found


def documents(folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The manifests that the index names, and their configs."""
    index = json.loads((folder / "index.json").read_text())
    manifests = [_read(folder, each["digest"]) for each in index["manifests"]]
    return [(manifest, _read(folder, manifest["config"]["digest"])) for manifest in manifests]


def _read(folder: Path, digest: str) -> Any:
    return json.loads((folder / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes())


def write(folder: Path, document: Any) -> dict[str, Any]:
    """A document as a blob; gives what a descriptor says of it."""
    data = json.dumps(document).encode()
    digest = hashlib.sha256(data).hexdigest()
    (folder / "blobs/sha256" / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def change(folder: Path, which: str, edit: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Edit manifest and config of a name or version; digests are made to fit, as an attacker would."""
    index = json.loads((folder / "index.json").read_text())
    for entry in index["manifests"]:
        if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == which:
            manifest = _read(folder, entry["digest"])
            config = _read(folder, manifest["config"]["digest"])
            edit(manifest, config)
            manifest["config"] |= write(folder, config)
            entry |= write(folder, manifest)
    (folder / "index.json").write_text(json.dumps(index))
