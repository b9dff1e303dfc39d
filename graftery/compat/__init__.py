"""Compatible components: networks whose feature extractors and target task heads recombine with no training."""

from graftery.compat.checking import Checked, check_member
from graftery.compat.groups import Group, found
from graftery.compat.members import Member
from graftery.compat.recombination import Matrix, recombine
from graftery.compat.splitting import Design, Split, split_at
from graftery.compat.spread import Figures, Spread, spread
from graftery.compat.tasks import Task
from graftery.compat.training import AtChance, Trained, train
from graftery.nn.statistics import reestimated

__all__ = [
    "AtChance",
    "Checked",
    "Design",
    "Figures",
    "Group",
    "Matrix",
    "Member",
    "Split",
    "Spread",
    "Task",
    "Trained",
    "check_member",
    "found",
    "recombine",
    "reestimated",
    "split_at",
    "spread",
    "train",
]
