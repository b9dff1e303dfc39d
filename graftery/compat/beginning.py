"""Before the first step: whether tasks fit their group, and the networks that they begin with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graftery.compat.checking import check_weights
from graftery.compat.groups import Group, weights_of
from graftery.compat.members import written
from graftery.compat.recombination import chance_of
from graftery.compat.splitting import Split
from graftery.compat.tasks import Task, check_apart, check_common, check_shared
from graftery.errors import Misfit, RecipeRefused, SamplesRefused, refusing
from graftery.module import ModuleFile
from graftery.module.meaning import COMMON, ROTATION
from graftery.spec.groups import above
from graftery.spec.recipes import CompatRecipe


def check(tasks: Sequence[Task], group: Group, incremental: bool | None = None) -> None:
    """Refuse tasks that overlap, or do not fit the group.

    Raises:
        Misfit: `shape_mismatch`.
        RecipeRefused: `common_classes`, `group_untrained`.
        SamplesRefused: `samples_overlap`; `samples_missing`, no loss would learn from images without labels;
            `samples_invalid`, on the test images no network could be told from chance.
    """
    if group.heads and incremental is not None and incremental != group.trained:
        state, other = (
            ("has its heads", "found another group") if group.trained else ("has no heads", "train jointly first")
        )
        raise RecipeRefused(
            f"the group {state}: an {'incremental' if incremental else 'initial, joint'} training is not possible",
            code="group_untrained" if incremental else "recipe_invalid",
            hint=other,
        )
    if incremental and not group.spec.methods:
        raise RecipeRefused("the group has no methods: nothing is there that a network could join", hint="leave it out")
    check_apart(tasks)
    for task in tasks:
        _check_images(task, list(group.spec.image.shape[1:]))
        if group.cut is not None and group.initial and task.design.cut != group.cut:
            raise Misfit(f"{task.name} is cut at {task.design.cut}, the group at {group.cut}")
        if COMMON in group.heads and task.labelled:
            check_common(task, group.spec.common)
    if COMMON in group.heads and not group.trained:
        check_shared([task for task in tasks if task.labelled], group.spec.common)
    _check_learning(tasks, group)


def device_of(device: str | torch.device) -> torch.device:
    """The device to train on.

    Raises:
        RecipeRefused: `recipe_invalid`; neither cpu nor cuda, or none that is here.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        raise RecipeRefused(f"there is no device {str(device)!r}", hint="cpu or cuda") from None
    if found.type not in ("cpu", "cuda"):
        raise RecipeRefused(f"networks of a group are not trained on {found}", hint="cpu or cuda")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise RecipeRefused(f"torch sees no device {found} here", hint="train on the cpu")
    return found


def _check_images(task: Task, wanted: list[int | str]) -> None:
    for what, samples in (("train", task.train), ("test", task.test)):
        if samples is not None and list(samples.x.shape[1:]) != wanted:
            raise Misfit(f"images of {task.name}.{what} are {list(samples.x.shape[1:])}, the group's are {wanted}")
    if task.test is not None and not above(1.0, chance := chance_of(task.test), count := len(task.test)):
        raise SamplesRefused(
            f"{task.name}.test has {count} images, chance is right on {chance:.0%} of them: no network could be told from it",
            hint="measure on more images, or on more of the rarer classes",
        )


def _check_learning(tasks: Sequence[Task], group: Group) -> None:
    """Refuse images without labels where nothing is learned from them, or where a shared head needs labels and has none."""
    unlabelled = [task.name for task in tasks if not task.labelled]
    if unlabelled and ROTATION not in group.heads:
        raise SamplesRefused(
            f"task {unlabelled[0]} has no labels, and the group's methods {list(group.spec.methods)} learn nothing without",
            code="samples_missing",
            hint="RP does: found a group that has it",
        )
    if COMMON in group.heads and not group.trained and len(unlabelled) == len(tasks):
        raise SamplesRefused("DCC's shared head is learned from labels, but no task has any", code="samples_missing")


@dataclass(frozen=True)
class Begun:
    """A net before its first step.

    Args:
        mark: tells it from others: what it computes and with which weights, what of it learns, and its layers as they print
            themselves, since what only works in training (dropout) is in no file.
        features: the shape of one image's.
    """

    split: Split
    mark: str
    features: tuple[int, ...]


def fingerprint(tasks: Sequence[Task], group: Group, recipe: CompatRecipe, begins: Sequence[Begun]) -> str:
    """Of everything that a training's result depends on."""
    digest = hashlib.sha256(f"{group.file.digest}{recipe.model_dump_json()}".encode())
    for task, begin in zip(tasks, begins, strict=True):
        digest.update(f"{task.name}{task.classes}{task.outputs}{task.design.cut}{begin.mark}".encode())
        for tensor in (task.train.x, task.train.y):
            if tensor is not None:
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def begun(task: Task, group: Group, recipe: CompatRecipe) -> Begun:
    """The task's net before the first step: with IIW, with the group's weights.

    Raises:
        Misfit: `architecture_mismatch`; `shape_mismatch`, images that the net does not take, features of another shape than
            the group's, or another number of logits than the task's.
        RecipeRefused: `recipe_invalid`; all that would be learned is frozen.
        TraceRefused, ModuleFileError, CutRefused: what could not be written as files once it is trained.
    """
    split = task.design.split(task.outputs, recipe.seed, f"compat.{task.name}")
    if "IIW" in group.spec.methods:
        _load(split.net, group.initial, task.name)
    split.net.eval()
    got = _features(task, split)
    wanted = group.signature.shape[1:]
    if len(wanted) != len(got) or any(isinstance(w, int) and w != g for w, g in zip(wanted, got, strict=True)):
        raise Misfit(
            f"{task.name} has features {list(got)} at {task.design.cut}, the group's split is at {list(wanted)}",
            hint="cut where the features have the group's shape",
        )
    learned = split.net if task.labelled else split.extractor
    if not any(parameter.requires_grad for parameter in learned.parameters()):
        raise RecipeRefused(f"no weight of {task.name} requires a gradient: nothing would be learned")
    # A net that no file can hold is refused now, not after its training.
    made = written(task, split, group)
    if "IIW" in group.spec.methods:
        check_weights(made.extractor, group)
    if group.trained and group.heads:
        _check_heads(made.extractor, group, task)
    learning = [name for name, parameter in learned.named_parameters() if parameter.requires_grad]
    layers = re.sub(r" at 0x[0-9a-f]+", "", repr(split.net))
    split.net.train()
    return Begun(split, f"{(made.net or made.extractor).digest}{learning}{layers}", got)


def check_alike(tasks: Sequence[Task], begins: Sequence[Begun]) -> None:
    """Refuse networks whose features differ in a size that the group leaves free: its heads are of all of them.

    Raises:
        Misfit: `shape_mismatch`.
    """
    shapes = {begin.features: task.name for task, begin in zip(tasks, begins, strict=True)}
    if len(shapes) > 1:
        said = ", ".join(f"those of {name} {list(shape)}" for shape, name in shapes.items())
        raise Misfit(f"the features differ: {said}", hint="cut where all have the same shape")


def _check_heads(extractor: ModuleFile, group: Group, task: Task) -> None:
    says = f"the group's heads do not take features of {task.name}"
    with torch.no_grad(), refusing(lambda why: Misfit(f"{says}: {why}")):
        group.file.net()(extractor.net()(task.train.x[:1].float()))


def _features(task: Task, split: Split) -> tuple[int, ...]:
    """The shape of one image's features; the logits are looked at, too."""
    says = f"the net of {task.name} does not take images {list(task.train.x.shape[1:])}"
    with torch.no_grad(), refusing(lambda why: Misfit(f"{says}: {why}")):
        features = split.extractor(task.train.x[:1].float())
        logits = split.head(features) if task.labelled else None
    if logits is not None and tuple(logits.shape) != (1, task.outputs):
        raise Misfit(
            f"the net of {task.name} gives {list(logits.shape[1:])} logits, {task.outputs} were asked for",
            hint="let what builds the net heed the number of logits that it is given",
        )
    return tuple(features.shape[1:])


def _load(net: nn.Module, initial: Mapping[str, Tensor], name: str) -> None:
    own = weights_of(net)
    missing = sorted(initial.keys() - own.keys())
    other = [key for key, value in initial.items() if key in own and own[key].shape != value.shape]
    # What the group lacks can only be what depends on the number of logits: one layer's weights.
    extra = sorted(own.keys() - initial.keys())
    alone = {key.rpartition(".")[0] for key in extra}
    if missing or other or len(alone) > 1:
        first = (missing + other + extra)[0]
        raise Misfit(
            f"IIW begins all networks with the same weights, but {name} differs from the group's at {first}",
            code="architecture_mismatch",
            hint="build it as the group's networks are, or found a group without IIW",
        )
    with torch.no_grad():
        for key, value in initial.items():
            own[key].copy_(value)
