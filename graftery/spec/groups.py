"""Whether modules are of one compatibility group, from manifests alone; and how well they recombine, as a number. Torch-free."""

from __future__ import annotations

import math
from typing import Any

from graftery.errors import Misfit
from graftery.spec.manifest import Digest, Manifest

ERRORS = 2.0
"""Standard errors above chance, to be called better than chance."""


def group_of(manifest: Manifest) -> Digest | None:
    """The digest of the group that a module was trained against, as its owner states it.

    Raises:
        Misfit: `group_mismatch`; it names two.
    """
    named = [parent.digest for parent in manifest.parents if parent.role == "group"]
    if len(named) > 1:
        raise Misfit("a module is trained against one group; this one names two", code="group_mismatch")
    return named[0] if named else None


def check_one_group(category: Manifest, task: Manifest, *, force: bool = False) -> bool:
    """Refuse two components that were not trained against one group.

    Args:
        force: let them join all the same.

    Returns:
        Whether they are of one group.

    Raises:
        Misfit: `group_mismatch`.
    """
    ours, theirs = group_of(category), group_of(task)
    same = ours is not None and ours == theirs
    if not same and not force:
        says = ["of no group" if each is None else f"of group {each[:12]}" for each in (ours, theirs)]
        raise Misfit(
            f"the feature extractor is {says[0]}, the head {says[1]}",
            code="group_mismatch",
            hint="transplant to learn an adapter between them, or force the composition",
        )
    return same


def joined_metrics(category: Manifest, task: Manifest, *, force: bool = False) -> dict[str, Any] | None:
    """What a network that two modules make without an adapter says of their groups; None where both have none.

    Every version of a network says it anew, from its modules: it cannot get lost on the way from one version to the next.

    Args:
        force: let them be of two groups, or one of none; the network then says so.

    Raises:
        Misfit: `group_mismatch`.
    """
    group = group_of(category)
    if group is None and group_of(task) is None:
        return None
    return {"group": group} if check_one_group(category, task, force=force) else {"across_groups": True}


def above(reached: float, chance: float, count: int) -> bool:
    """Whether a share of so many samples is more than chance would give.

    Args:
        reached: accuracy, from 0 to 1.
        chance: of deciding for the most frequent class.
        count: of samples, at least 1.
    """
    return reached > chance + ERRORS * math.sqrt(chance * (1 - chance) / count)


def normalised(reached: float, own: float, chance: float, count: int) -> float | None:
    """100 where a recombination is as good as the head's own network, 0 at chance, below 0 under it.

    Math: 100 (reached - chance) / (own - chance); None where the head's own network is not above chance: there is nothing
    to hold it against, and below chance the sign would turn over.

    Args:
        reached: accuracy of h_b o f_a, from 0 to 1, on b's samples.
        own: of h_b o f_b.
        chance: of deciding for the most frequent class.
        count: of b's samples.
    """
    return 100 * (reached - chance) / (own - chance) if above(own, chance, count) else None
