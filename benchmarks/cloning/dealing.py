"""What a seed deals: classes to the nets, images to the local set; and the nets, trained once and kept.

Shapes: n images, K the target's classes, k the wanted ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.cloning.nets import Net
from benchmarks.cloning.protocol import KNOWN, PER_ORIGINAL, PER_WANTED, PRECISION
from benchmarks.cloning.worlds import World
from benchmarks.locks import held
from benchmarks.transplant.worlds.base import Split
from benchmarks.transplant.worlds.learning import Schedule, fit
from benchmarks.writing import replacing
from graftery.cloning.judging import logits
from graftery.cloning.local import Balanced
from graftery.data import SampleSet
from graftery.data.augment import augment
from graftery.data.streams import generator
from graftery.module import ModuleFile, trace
from graftery.spec.manifest import OutputMeaning
from graftery.spec.recipes import CloneRecipe

Role = Literal["source", "target"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Skill:
    """A net and what it knows.

    Args:
        known: classes, as the world counts them, in the order of the logits.
    """

    net: Net
    known: tuple[int, ...]
    file: ModuleFile
    _said: dict[Split, Tensor] = field(default_factory=dict)

    def said(self, split: Split, x: Tensor) -> Tensor:
        """Its logits of a split, made once for all rows and k. Args: `x`, all images of its own classes that are measured on."""
        if split not in self._said:
            self._said[split] = logits(self.file, x)
        return self._said[split]


@dataclass(frozen=True)
class Problem:
    """What every row gets, and what it is measured on.

    Args:
        wanted: the first of the source's classes.
        local: y counts the target's classes from 0, then the wanted ones.
        measured: labelled in the same way, in the order of the labels, of the split that is measured.
        source_measured: of the source's classes, labelled as its logits.
        recipe: the default, with the world's augmentation and the seed.
    """

    world: World
    source: Skill
    target: Skill
    wanted: tuple[int, ...]
    split: Split
    local: SampleSet
    measured: SampleSet
    source_measured: SampleSet
    recipe: CloneRecipe

    @property
    def seed(self) -> int:
        return self.recipe.seed

    def before(self) -> Tensor:
        """What the target alone says of what is measured, [n, K]; 0 for wanted classes, of which it is not asked."""
        x, y = images_and_labels(self.measured)
        own = int((y < len(self.target.known)).sum())
        return F.pad(self.target.said(self.split, x[:own]), (0, 0, 0, len(x) - own))

    def everything(self) -> tuple[Tensor, Tensor]:
        """All training images of original and wanted classes as they are kept, and their labels."""
        x, y = self.world.raw("train")
        rows, labels = _labelled(y, (*self.target.known, *self.wanted))
        return x[rows], labels


@dataclass
class Dealer:
    """Deals the problems of a world.

    Args:
        folder: where nets are kept; one that is there, and learned in the same way, is not trained again.
        schedule, together: of the world, unless it is to be quick.
        most: images of a class that are measured on, at most.
        times: as many images of a class in the local set as the protocol says, as far as there are.
    """

    world: World
    folder: Path
    recipe: CloneRecipe = field(default_factory=CloneRecipe)
    schedule: Schedule | None = None
    together: Schedule | None = None
    most: int | None = None
    times: int = 1
    _skills: dict[tuple[int, Role], Skill] = field(default_factory=dict)

    def problem(self, seed: int, k: int, split: Split) -> Problem:
        """The problem of a seed with k wanted classes, measured on a split."""
        source, target = (self.skill(seed, role) for role in ROLES)
        wanted = source.known[:k]
        recipe = self.recipe.model_copy(update={"seed": seed, "augment": self.world.augment})
        every = (*target.known, *wanted)
        return Problem(
            self.world,
            source,
            target,
            wanted,
            split,
            self._local(seed, every),
            self._samples(split, every),
            self._samples(split, source.known),
            recipe,
        )

    def skill(self, seed: int, role: Role) -> Skill:
        """The seed's net for this role."""
        if (seed, role) not in self._skills:
            self._keep(seed, role, wait=True)
        return self._skills[seed, role]

    def train(self, seeds: Iterable[int]) -> None:
        """Train the nets of these seeds that are not there; those that another process is training are left to it."""
        for seed, role in product(seeds, ROLES):
            if (seed, role) not in self._skills:
                self._keep(seed, role, wait=False)

    def _keep(self, seed: int, role: Role, *, wait: bool) -> None:
        order = torch.randperm(len(self.world.classes), generator=generator(seed, "benchmark.cloning.classes")).tolist()
        known = tuple(order[:KNOWN] if role == "target" else order[KNOWN : 2 * KNOWN])
        with held(self.folder / f"{self.world.name}-{seed}-{role}.lock", wait=wait) as ours:
            if ours:
                net = self._trained(seed, role, known)
                self._skills[seed, role] = Skill(net, known, self._file(net, known))

    def _trained(self, seed: int, role: Role, known: Sequence[int]) -> Net:
        path, schedule = self.folder / f"{self.world.name}-{seed}-{role}.pt", self.schedule or self.world.schedule
        learned = {"classes": list(known), "precision": PRECISION, **asdict(schedule)}
        kept = torch.load(path, weights_only=True) if path.exists() else {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(10 * seed + (role == "source"))
            net = self.world.net(len(known))
            if kept.get("learned") != learned:
                x, y = self.world.raw("train")
                rows, labels = _labelled(y, known)
                train(net, self.world, x[rows], labels, schedule, stream=f"{role}.{seed}")
                kept = {"learned": learned, "state": net.state_dict()}
                with replacing(path) as part:
                    torch.save(kept, part)
        net.load_state_dict(kept["state"])
        return net.eval()

    def _file(self, net: Net, known: Sequence[int]) -> ModuleFile:
        meaning = OutputMeaning(semantics="classification", class_names=tuple(self.world.classes[c] for c in known))
        image = self.world.prepared(self.world.raw("validation")[0][:2])
        return trace(net, image, outputs={"class": meaning}, preprocessing=self.world.preprocessing)

    def _samples(self, split: Split, classes: Sequence[int]) -> SampleSet:
        x, y = self.world.raw(split)
        rows, labels = _labelled(y, classes, self.most)
        return SampleSet(self.world.prepared(x[rows]), labels)

    def _local(self, seed: int, classes: Sequence[int]) -> SampleSet:
        """Images of a class are the same ones for every k."""
        x, y = self.world.raw("train")
        drawn, labels = [], []
        for label, each in enumerate(classes):
            own = (y == each).nonzero()[:, 0]
            order = torch.randperm(len(own), generator=generator(seed, "benchmark.cloning.local", each))
            drawn.append(own[order[: self.times * (PER_ORIGINAL if label < KNOWN else PER_WANTED)]])
            labels.append(torch.full((len(drawn[-1]),), label))
        return SampleSet(self.world.prepared(x[torch.cat(drawn)]), torch.cat(labels))


def train(
    net: Net,
    world: World,
    images: Tensor,
    labels: Tensor,
    schedule: Schedule,
    *,
    stream: str,
    balanced: Balanced | None = None,
) -> None:
    """Train a net in place on images as they are kept, augmented, in the protocol's precision; left in evaluation mode.

    Args:
        balanced: which images a step draws; without it, all alike.
    """

    def loss(step: int) -> Tensor:
        random = generator(0, f"benchmark.cloning.{stream}", step)
        rows = torch.randint(len(images), (schedule.batch,), generator=random)
        if balanced is not None:
            rows = balanced(stream, step)
        x = augment(world.prepared(images[rows]), world.augment, random)
        return F.cross_entropy(net(x.to(memory_format=torch.channels_last)), labels[rows])

    with torch.enable_grad():
        fit([net], loss, schedule)


def images_and_labels(samples: SampleSet) -> tuple[Tensor, Tensor]:
    """Of a set that has labels, these as int64."""
    assert samples.y is not None
    return samples.x, samples.y.long()


def _labelled(y: Tensor, classes: Sequence[int], most: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows that show these classes, and their places among them."""
    rows, labels = [], []
    for label, each in enumerate(classes):
        own = (y == each).nonzero()[:most, 0]
        rows.append(own)
        labels.append(torch.full((len(own),), label))
    return torch.cat(rows), torch.cat(labels)
