"""Partial network cloning: a skill copied from one net into another, and taken out again without a trace."""

from graftery.cloning.attaching import attach, detach
from graftery.cloning.run import Cloned, clone

__all__ = ["Cloned", "attach", "clone", "detach"]
