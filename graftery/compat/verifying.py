"""The child that checks uploads: all that the verifier's child does, and whether a module is a member of its group."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graftery.compat.checking import check_group, check_member
from graftery.errors import StoreError
from graftery.module import ModuleFile
from graftery.module.protocol import ACTIONS, Action, serve
from graftery.spec.groups import group_of
from graftery.spec.limits import Limits


def verify(request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """What the verifier finds; a group's own tensors are looked at, too."""
    found = ACTIONS["verify"](request, limits)
    if found["manifest"]["kind"] == "group":
        check_group(ModuleFile.load(request["path"], limits))
    return found


def member(request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """What the group's heads reach on a module's features.

    Args:
        request: `path` is the module's file; `files` has its group's as `group`, which was looked up by the digest that
            the module names.

    Raises:
        GrafteryError: as `check_member` does; `store_corrupt`, the group's bytes are not those of the digest.
    """
    module = ModuleFile.load(request["path"], limits)
    path = Path(request["files"]["group"])
    said = group_of(module.manifest)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if said is not None and found != said:
        raise StoreError(f"the stored file of the group {said[:12]} is damaged", hint="restore it from a backup")
    return asdict(check_member(module, ModuleFile.load(path, limits)))


def main(more: Mapping[str, Action] | None = None) -> None:
    """Answer until stdin ends.

    Args:
        more: other actions.
    """
    serve({**ACTIONS, "verify": verify, "member": member, **(more or {})})
