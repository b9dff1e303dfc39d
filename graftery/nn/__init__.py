"""Adapters and freezing."""

from graftery.nn.adapters import Adapter, joinable, make_adapter
from graftery.nn.freezing import freeze, state_digest, unchanged

__all__ = ["Adapter", "freeze", "joinable", "make_adapter", "state_digest", "unchanged"]
