"""A member of a group: a trained network, its two components as files, and how well it does its own task."""

from __future__ import annotations

from dataclasses import dataclass, replace

from graftery.compat.groups import Group
from graftery.compat.recombination import accuracy, chance_of
from graftery.compat.splitting import Split, split_at
from graftery.compat.tasks import Task
from graftery.data import SampleSet
from graftery.errors import TrainingFailed
from graftery.module import ModuleFile, cut, trace
from graftery.spec.groups import above
from graftery.spec.manifest import OutputMeaning, Parent


@dataclass(frozen=True)
class Member:
    """A network of a group.

    Args:
        net: the whole network; its parents name the group. None where the task has no labels.
        extractor: category module, from images to features.
        head: task module, from features to logits. None where the task has no labels.
        accuracy: on the task's test images, from 0 to 1; None where it has none.
    """

    net: ModuleFile | None
    extractor: ModuleFile
    head: ModuleFile | None
    accuracy: float | None = None


def member_of(task: Task, split: Split, group: Group) -> Member:
    """A trained network as files that carry the group's digest.

    Raises:
        TrainingFailed: `at_chance`, with what it reached.
    """
    made = written(task, split, group)
    if task.test is None or made.head is None:
        return made
    return replace(made, accuracy=_own_accuracy(task.name, made.extractor, made.head, task.test))


def written(task: Task, split: Split, group: Group) -> Member:
    """A network as files that carry the group's digest, before it is measured.

    Raises:
        TraceRefused, ModuleFileError, CutRefused: what no file can hold.
    """
    images, prepared = task.train.x[:2].float(), group.file.manifest.preprocessing
    if not task.labelled:
        # Split anew: what a net asks of `self.training` was answered for training when it was split.
        lower = split_at(split.net.eval(), task.design.cut).extractor
        alone = trace(lower, images, kind="category", preprocessing=prepared)
        return Member(None, _of_group(alone, group), None)
    meaning = {task.name: OutputMeaning(semantics="classification", class_names=task.classes)}
    file = _of_group(trace(split.net, images, outputs=meaning, preprocessing=prepared), group)
    extractor, heads = cut(file, task.design.cut)
    return Member(file, extractor, heads[task.name])


def _of_group(file: ModuleFile, group: Group) -> ModuleFile:
    parents = (Parent(role="group", digest=group.file.digest),)
    return replace(file, manifest=file.manifest.model_copy(update={"parents": parents}))


def _own_accuracy(name: str, extractor: ModuleFile, head: ModuleFile, test: SampleSet) -> float:
    reached, chance = accuracy(extractor, head, test), chance_of(test)
    if not above(reached, chance, len(test)):
        raise TrainingFailed(
            f"the network of {name} is right on {reached:.1%} of its test images, chance is {chance:.1%}",
            code="at_chance",
            hint="train it longer, or at another learning rate",
        )
    return reached
