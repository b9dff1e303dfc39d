"""Uploads that say that they were trained against a compatibility group: it has to be here, and they have to be its members."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.deps import Service
from app.files.verifier import Split
from app.requests.parts import manifest_of
from graftery.spec.groups import group_of, joined_metrics
from graftery.spec.manifest import Manifest
from registry import catalogue
from registry.models import Version


def metrics_of(service: Service, manifest: Mapping[str, Any], path: Path) -> dict[str, Any] | None:
    """What a member's group sees in it, as the `metrics` of its version; None for a module of no group.

    Args:
        manifest: the verifier's, as JSON.
        path: the module's file.

    Raises:
        Misfit: `group_mismatch`; it names a group that is not here, or two.
        ModuleFileError: with the code of `graftery.compat.check_member`.
        StoreError: the group's bytes are missing.
    """
    group = _group(service, manifest)
    return None if group is None else {"group": service.verifier.member(path, group)}


def metrics_of_parts(service: Service, split: Split) -> dict[Path, dict[str, Any] | None]:
    """The same of each part that a teacher was cut into, by its path."""
    parts = [split.category, *split.tasks.values()]
    return {part.path: metrics_of(service, part.manifest, part.path) for part in parts}


def group_metrics(category: Version, task: Version, *, force: bool = False) -> dict[str, Any] | None:
    """`graftery.spec.groups.joined_metrics` of two versions.

    Raises:
        Misfit: `group_mismatch`.
    """
    return joined_metrics(manifest_of(category), manifest_of(task), force=force)


def _group(service: Service, manifest: Mapping[str, Any]) -> Path | None:
    digest = group_of(Manifest.model_validate(manifest))
    if digest is None:
        return None
    with service.database.read() as session:
        catalogue.group_version(session, digest)
    return service.store.local_path(digest)
