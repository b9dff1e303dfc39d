"""A member of a group: a trained network, its two components as files, and how well it does its own task."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from graftery.compat.groups import Group
from graftery.compat.recombination import above, accuracy, chance_of
from graftery.compat.tasks import Task
from graftery.errors import TrainingFailed
from graftery.module import ModuleFile, cut, trace
from graftery.spec.manifest import OutputMeaning, Parent


@dataclass(frozen=True)
class Member:
    """A network of a group.

    Args:
        net: the whole network; its parents name the group.
        extractor: category module, from images to features.
        head: task module, from features to logits.
        accuracy: on the task's test images, from 0 to 1; None where it has none.
    """

    net: ModuleFile
    extractor: ModuleFile
    head: ModuleFile
    accuracy: float | None = None


def member_of(task: Task, net: nn.Module, group: Group) -> Member:
    """A trained network as files that carry the group's digest.

    Raises:
        TrainingFailed: `at_chance`, with what it reached.
    """
    meaning = {task.name: OutputMeaning(semantics="classification", class_names=task.classes)}
    prepared = group.file.manifest.preprocessing
    traced = trace(net, task.train.x[:2].float(), outputs=meaning, preprocessing=prepared)
    parents = (Parent(role="group", digest=group.file.digest),)
    file = replace(traced, manifest=traced.manifest.model_copy(update={"parents": parents}))
    extractor, heads = cut(file, task.design.cut)
    member = Member(file, extractor, heads[task.name])
    return member if task.test is None else replace(member, accuracy=_own_accuracy(task, member))


def _own_accuracy(task: Task, member: Member) -> float:
    assert task.test is not None  # noqa: S101 - the caller has looked
    reached, chance = accuracy(member.extractor, member.head, task.test), chance_of(task.test)
    if not above(reached, chance, len(task.test)):
        raise TrainingFailed(
            f"the network of {task.name} is right on {reached:.1%} of its test images, chance is {chance:.1%}",
            code="at_chance",
            hint="train it longer, or at another learning rate",
        )
    return reached
