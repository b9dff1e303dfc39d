"""Joint and incremental training of networks whose components recombine.

Shapes: N batch, K classes of a task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from graftery.compat import losses
from graftery.compat.beginning import begun, check, check_alike, device_of, fingerprint
from graftery.compat.groups import Group, with_heads
from graftery.compat.layout import laid_out
from graftery.compat.members import Member, member_of
from graftery.compat.splitting import Split, split_at
from graftery.compat.tasks import Task, common_labels
from graftery.data.augment import augment
from graftery.data.streams import generator
from graftery.errors import TrainingFailed
from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Loop, Progress, optimise
from graftery.learning.pace import Pace
from graftery.learning.repeating import repeatable
from graftery.module import ModuleFile
from graftery.module.meaning import COMMON, ROTATION, TURNS
from graftery.nn.freezing import freeze, unchanged
from graftery.nn.layout import placed
from graftery.nn.statistics import statistics_kept
from graftery.spec.recipes import CompatRecipe


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Args:
        members: by the task's name.
        group: with the shared heads; the one that was given, where it had them already.
        history: about fifty entries: phase, step and loss.
    """

    members: dict[str, Member]
    group: ModuleFile
    history: list[dict[str, float | int | str]] = field(default_factory=list)


def train(
    tasks: Sequence[Task],
    group: ModuleFile,
    recipe: CompatRecipe = CompatRecipe(),  # noqa: B008  immutable
    *,
    incremental: bool | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Callable[[Checkpoint], None] | None = None,
    checkpoint_s: float = 10.0,
    resume: Checkpoint | None = None,
) -> Trained:
    """Train a network for each task against a group. Joint, where the group has no shared heads yet; else incremental.

    Math: the sum over tasks t of own(h_t(f_t(x)), y) + l_r rotation(r(f_t(turn_k x)), k) + l_c common(c(f_t(x)), y), with
    one SGD over all f_t, h_t, r and c. Joint training learns r and c, which become the group's; in an incremental one
    they are the group's and frozen.

    Args:
        tasks: any number. With IIW, of the group's architecture. Of one without labels only the rotation term is there.
        group: of `found`, or of an earlier training.
        recipe: the steps; which losses there are is the group's.
        incremental: what is meant, refused where the group does not allow it; by default what it allows. With IIW alone no
            head is shared: both are allowed, and are the same.
        device: where to train. The same recipe, seed, device and number of threads give the same bytes.
        progress, checkpoint, checkpoint_s, resume: as of `graftery.transplant.transplant`.

    Raises:
        RecipeRefused: `recipe_invalid`, `common_classes`, `group_untrained`.
        Misfit: `shape_mismatch`, `architecture_mismatch`.
        SamplesRefused: `samples_overlap`, `samples_invalid`, `samples_missing`.
        TraceRefused, ModuleFileError, CutRefused: a net that could not be written as files once it is trained.
        TrainingFailed: `diverged`.
        AtChance: `at_chance`; it has those of the networks that are above chance.

    Source: Gygli et al. 2021; what is reconstructed and what is ours: docs/methods/compat.md.
    """
    against, where = Group(group), device_of(device)
    check(tasks, against, incremental)
    with repeatable(where), torch.random.fork_rng(devices=[]):
        run = _Run.of(tasks, against, recipe, where)
        loop = Loop("train", progress, checkpoint, checkpoint_s, resume, fingerprint=run.mark)
        run.completed()  # heads that no file can hold are refused now, not after the training
        with unchanged(*run.frozen):
            run.learn(loop.phase_of("train", {}))
        completed = run.completed()
        return run.trained(completed, loop.history)


class AtChance(TrainingFailed):
    """Some of the networks that were trained are at chance.

    `trained` has the others, and the group, whose shared heads learned from all of them; None where there are no others.
    """

    trained: Trained | None = None


@dataclass(frozen=True)
class _Run:
    tasks: Sequence[Task]
    group: Group
    recipe: CompatRecipe
    device: torch.device
    nets: list[Split]
    shared: dict[str, nn.Module]
    """r and c by the name of their output: learned with the nets, or the group's own."""
    learned_heads: dict[str, Split]
    """The networks that r and c are the heads of, where they are learned."""
    mark: str
    """`fingerprint`."""
    layout: torch.memory_format = torch.contiguous_format
    """Of images and weights while they learn."""

    @classmethod
    def of(cls, tasks: Sequence[Task], group: Group, recipe: CompatRecipe, device: torch.device) -> _Run:
        begins = [begun(task, group, recipe) for task in tasks]
        mark = fingerprint(tasks, group, recipe, begins)
        nets = [begin.split.on(device) for begin in begins]
        if group.trained and group.heads:
            net = freeze(group.file.net().to(device))
            heads: dict[str, Split] = {}
            shared: dict[str, nn.Module] = {name: _Output(net, name) for name in group.heads}
        else:
            if group.heads:
                check_alike(tasks, begins)
            heads = {
                name: tasks[0].design.split(logits, recipe.seed, f"compat.{name}").on(device)
                for name, logits in group.heads.items()
            }
            shared = {name: split.head for name, split in heads.items()}
        run = cls(tasks, group, recipe, device, nets, shared, heads, mark)
        return replace(
            run, layout=laid_out(list(zip(nets, (task.train.x for task in tasks), strict=True)), shared, device)
        )

    @property
    def joint(self) -> bool:
        return not self.group.trained

    @property
    def frozen(self) -> list[nn.Module]:
        return [] if self.joint else list(self.shared.values())

    @property
    def learned(self) -> dict[str, nn.Module]:
        pairs = zip(self.tasks, self.nets, strict=True)
        named = {task.name: net.net if task.labelled else net.extractor for task, net in pairs}
        return named | ({f"shared/{name}": head for name, head in self.shared.items()} if self.joint else {})

    def learn(self, loop: Loop) -> None:
        named = _named(self.learned, nn.Module.named_parameters)
        parameters = {name: each for name, each in named.items() if each.requires_grad}
        for net in self.learned.values():
            net.train()
        most = max(len(task.train) for task in self.tasks)
        steps = self.recipe.epochs * math.ceil(most / self.recipe.batch)
        pace = Pace(steps, self.recipe.learning_rate, warm_up=self.recipe.warm_up)
        optimise(
            parameters,
            self.terms,
            pace,
            loop,
            optimiser=sgd(parameters, self.recipe),
            buffers=_named(self.learned, nn.Module.named_buffers),
        )
        for net in self.learned.values():
            net.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def terms(self, step: int) -> dict[str, Tensor]:
        """The weighted loss terms of a step, a function of nothing but the step and the nets."""
        torch.manual_seed(generator(self.recipe.seed, "compat.dropout", step).initial_seed())
        found: dict[str, Tensor] = {}
        for task, net in zip(self.tasks, self.nets, strict=True):
            found |= {f"{task.name}/{name}": term for name, term in self._terms_of(task, net, step).items()}
        return found

    def _terms_of(self, task: Task, net: Split, step: int) -> dict[str, Tensor]:
        recipe = self.recipe
        images, labels = drawn(task, recipe, step)
        images = placed(images, self.device, self.layout)
        labels = None if labels is None else labels.to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            # Without labels features are for the running statistics alone: turned images leave those as they are.
            with torch.set_grad_enabled(labels is not None):
                features = net.extractor(images)
            logits = {} if labels is None else {"own": net.head(features)}
            if labels is not None and COMMON in self.shared:
                logits[COMMON] = self.shared[COMMON](features)
            if ROTATION in self.shared:
                turns = torch.randint(
                    TURNS, (len(images),), generator=generator(recipe.seed, f"turns/{task.name}", step)
                )
                turns = turns.to(self.device)
                with statistics_kept(net.extractor):
                    logits[ROTATION] = self.shared[ROTATION](net.extractor(losses.turned(images, turns)))
        terms = {} if labels is None else {"own": losses.own(logits["own"].float(), labels)}
        if labels is not None and COMMON in logits:
            shown = common_labels(task, self.group.spec.common).to(self.device)[labels]
            terms[COMMON] = recipe.common_weight * losses.common(logits[COMMON].float(), shown)
        if ROTATION in logits:
            terms[ROTATION] = recipe.rotation_weight * losses.rotation(logits[ROTATION].float(), turns)
        return terms

    def completed(self) -> Group:
        """The group, with the heads that were learned here."""
        if not self.joint:
            return self.group
        # Split anew: what a net asks of `self.training` was answered for training when it was split.
        design = self.tasks[0].design
        first = split_at(self.nets[0].net.eval(), design.cut).extractor

        def extractor(images: Tensor) -> Tensor:
            features: Tensor = first(images.to(self.device)).cpu()
            return features

        with torch.no_grad():
            features = extractor(self.tasks[0].train.x[:1].float())
        heads = {name: split_at(split.net.eval(), design.cut).head for name, split in self.learned_heads.items()}
        return Group(
            with_heads(self.group, {name: deepcopy(head).cpu() for name, head in heads.items()}, features, extractor)
        )

    def trained(self, group: Group, history: list[dict[str, float | int | str]]) -> Trained:
        """The members, measured.

        Raises:
            AtChance: with the others.
        """
        members, failed = dict[str, Member](), list[TrainingFailed]()
        for task, net in zip(self.tasks, self.nets, strict=True):
            try:
                members[task.name] = member_of(task, net, group)
            except TrainingFailed as error:
                failed.append(error)
        done = Trained(members, group.file, history)
        if failed:
            said = "; ".join(error.message for error in failed)
            refusal = AtChance(said, code="at_chance", hint=failed[0].hint)
            refusal.trained = done if members else None
            raise refusal
        return done


class _Output(nn.Module):
    """One of a file's outputs."""

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        self.net, self.name = net, name

    def forward(self, x: Tensor) -> Tensor:
        value = self.net(x)
        output: Tensor = value[self.name] if isinstance(value, dict) else value
        return output


def drawn(task: Task, recipe: CompatRecipe, step: int) -> tuple[Tensor, Tensor | None]:
    """The step's images [batch, ...], augmented, and labels int64 [batch], if there are any. Each pass over the task is in an order of its own."""
    count = len(task.train)
    size = min(recipe.batch, count)
    per_pass = count // size
    order = torch.randperm(count, generator=generator(recipe.seed, f"order/{task.name}", step // per_pass))
    rows = order[step % per_pass * size :][:size]
    random = generator(recipe.seed, f"augment/{task.name}", step)
    images = augment(task.train.x[rows].float(), recipe.augment, random)
    return images, None if task.train.y is None else task.train.y[rows].long()


def sgd(parameters: Mapping[str, Tensor], recipe: CompatRecipe) -> torch.optim.SGD:
    """The recipe's optimiser; weight decay on weights only."""
    weights, others = ([p for p in parameters.values() if (p.ndim > 1) is many] for many in (True, False))
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": recipe.weight_decay}]
    groups += [{"params": others, "weight_decay": 0.0}] if others else []
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=True)


def _named(nets: Mapping[str, nn.Module], of: Callable[[nn.Module], Iterator[tuple[str, Tensor]]]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value for prefix, net in nets.items() for name, value in of(net)}
