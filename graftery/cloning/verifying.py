"""What a child that looks at strangers' files can say of clones: whether they go into a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftery.cloning.networks import whole
from graftery.module import ModuleFile
from graftery.module.protocol import Action
from graftery.spec.limits import Limits


def attachment(request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """What a network is with its clones.

    Args:
        request: `path` is the category module's file; `files` has the network's other modules by role, and its clones as
            `clone.0`, `clone.1`, ...

    Raises:
        Misfit: as `graftery.cloning.attach` does.
    """
    paths = {"category": request["path"], **request["files"]}
    made = whole({role: ModuleFile.load(path, limits) for role, path in paths.items()})
    return {"content_digest": made.content_digest}


ACTIONS: Mapping[str, Action] = {"attachment": attachment}
