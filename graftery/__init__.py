"""Graftery: neural modules that are cut from trained nets, kept as safe files, and joined by small adapters.

The names below are loaded on first use, so that `import graftery` costs nothing and never loads torch by itself. The
call `transplant` is in the room of the same name: `from graftery.transplant import transplant`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from graftery.client.http import Client
    from graftery.module import ModuleFile, cut, load, save, trace, verify
    from graftery.spec.recipes import TransplantRecipe
    from graftery.transplant import compose, evaluate

_HOME = {
    "Client": "graftery.client.http",
    "ModuleFile": "graftery.module",
    "TransplantRecipe": "graftery.spec.recipes",
    "compose": "graftery.transplant",
    "cut": "graftery.module",
    "evaluate": "graftery.transplant",
    "load": "graftery.module",
    "save": "graftery.module",
    "trace": "graftery.module",
    "verify": "graftery.module",
}

__all__ = [
    "Client",
    "ModuleFile",
    "TransplantRecipe",
    "__version__",
    "compose",
    "cut",
    "evaluate",
    "load",
    "save",
    "trace",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'graftery' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
