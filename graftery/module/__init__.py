"""The module file: write a net as data, read it, cut it, check it. docs/module-file.md is the norm.

The names are loaded on first use, so that the torch-free files of this room stay torch-free.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graftery.module.cutting import cut
    from graftery.module.file import ModuleFile, load
    from graftery.module.tracing import save, trace
    from graftery.module.verification import verify

_HOME = {
    "ModuleFile": "graftery.module.file",
    "cut": "graftery.module.cutting",
    "load": "graftery.module.file",
    "save": "graftery.module.tracing",
    "trace": "graftery.module.tracing",
    "verify": "graftery.module.verification",
}

__all__ = ["ModuleFile", "cut", "load", "save", "trace", "verify"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'graftery.module' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
