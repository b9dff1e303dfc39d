"""A network of the registry as one file: its modules one behind the other, with its clones."""

from __future__ import annotations

from collections.abc import Mapping

from graftery.cloning.attaching import attach
from graftery.module import ModuleFile
from graftery.module.joining import join

CHAIN = ("category", "adapter", "task")


def whole(members: Mapping[str, ModuleFile]) -> ModuleFile:
    """What a source, a target, or a network with clones is to this package.

    Args:
        members: by role: `category`, perhaps `adapter`, `task`, then `clone.0`, `clone.1`, ... as far as there are any.

    Raises:
        Misfit: as `join` and `attach` do.
    """
    target = join({role: members[role] for role in CHAIN if role in members})
    clones = [members[f"clone.{index}"] for index in range(len(members)) if f"clone.{index}" in members]
    return attach(target, clones) if clones else target
