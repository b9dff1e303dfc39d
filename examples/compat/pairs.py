"""Two plain nets, of two teams with other images, that learned together: in a group, or with no method."""

from __future__ import annotations

from collections.abc import Mapping

from examples.compat.worlds import World
from graftery.compat import Member, Task, found, train
from graftery.spec.manifest import CompatMethod

COMPATIBLE: tuple[CompatMethod, ...] = ("RP", "DCC", "IIW")


def pair(
    world: World,
    methods: tuple[CompatMethod, ...],
    teams: Mapping[str, tuple[str, ...]],
    common: tuple[str, ...],
    seed: int,
) -> tuple[Member, Member]:
    """Train both jointly.

    Args:
        methods: of the group; none: the two learn apart.
        teams: the classes of each of the two, by its name.
        common: classes that both have, for DCC.
    """
    tasks = [
        Task(name, classes, world.samples("train", classes, share, seed), world.plain)
        for share, (name, classes) in enumerate(teams.items())
    ]
    image, said = tasks[0].train.x[:2], world.preprocessing
    same = {name: (name,) for name in common}
    group = found(world.plain, methods, image, common=same, preprocessing=said, seed=seed)
    first, second = train(tasks, group, world.recipe.model_copy(update={"seed": seed})).members.values()
    return first, second
