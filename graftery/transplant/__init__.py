"""Network transplanting: learning the adapter between a frozen category module and a frozen task module."""

from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Progress
from graftery.transplant.evaluation import evaluate
from graftery.transplant.inverted import InversionCache
from graftery.transplant.moments import sketch
from graftery.transplant.nets import compose
from graftery.transplant.precheck import Neighbour, Precheck, precheck
from graftery.transplant.run import Transplant, transplant

__all__ = [
    "Checkpoint",
    "InversionCache",
    "Neighbour",
    "Precheck",
    "Progress",
    "Transplant",
    "compose",
    "evaluate",
    "precheck",
    "sketch",
    "transplant",
]
