"""CIFAR-10: "is it a c?" for one class c against the nine others, and "how is it rotated?" as a second task.

Reads cifar10.zip (train/CLASS/NNNN.jpg, test/CLASS/NNNN.jpg) or the official binary archive cifar-10-binary.tar.gz.
Of the training images of each class, the last 1000 are validation.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.transplant.digests import architecture
from benchmarks.transplant.worlds.base import Split, Task, Trained, World
from benchmarks.transplant.worlds.learning import PRECISION, Schedule, Staged, fit, share_above
from benchmarks.writing import replacing
from graftery.data import SampleSet
from graftery.data.augment import augment
from graftery.data.streams import generator
from graftery.module import trace
from graftery.spec.manifest import OutputMeaning, Preprocessing
from graftery.spec.recipes import AugmentRecipe

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PREPROCESSING = Preprocessing(mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616))
PER_CLASS = {"train": 4000, "validation": 1000, "test": 1000}
EVALUATED = {"train": 1000, "validation": 500, "test": 1000}
"""Positives and as many negatives that a metric is measured on."""
UNLABELLED = 2000
SCHEDULE = Schedule(steps=2400, batch=128)
GENERIC_BATCH = 64
"""Rows a step of each category of a generic net that has several."""
AUGMENT = AugmentRecipe(shift=3, flip=True)


class Net(Staged):
    """f: stages of convolutions; g: two more and a linear layer an output. 32x32x3 to 48x8x8 at the middle cut."""

    def __init__(self, outputs: Sequence[str]) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            nn.Sequential(*_block(3, 16), nn.MaxPool2d(2)),
            nn.Sequential(*_block(16, 32), *_block(32, 32), nn.MaxPool2d(2)),
            nn.Sequential(*_block(32, 48), *_block(48, 48)),
        )
        self.heads = nn.ModuleDict({name: _head(OUTPUTS[name]) for name in outputs})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.stages(x)
        return {name: head(features) for name, head in self.heads.items()}


OUTPUTS = {"is": 1, "rotation": 4}


def _block(source: int, target: int) -> list[nn.Module]:
    return [nn.Conv2d(source, target, 3, padding=1, bias=False), nn.BatchNorm2d(target), nn.ReLU()]


def _head(outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *_block(48, 64),
        nn.MaxPool2d(2),
        *_block(64, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, outputs),
    )


class Cifar10(World):
    name = "cifar10"
    title = "CIFAR-10, is it a c?"
    protocol = (
        "Teachers: one class against the nine others, 4000 training images of the class, as many others drawn anew each step; all nets"
        f" with the schedule of worlds/cifar10.py ({SCHEDULE.steps} steps of {SCHEDULE.batch} images; a generic net of several classes:"
        f" {GENERIC_BATCH} of each). Measured on {EVALUATED['test']} test images of the class and {EVALUATED['test']} of the others, fixed."
        f" Unlabelled images: {UNLABELLED} training images of the nine other classes, by their labels. f learned from these and from those that the rows label."
    )
    tasks = (
        Task("is", "balanced_accuracy", beside=("accuracy", "auc"), augment=AUGMENT),
        # A flip after the turn would make a quarter to the left one to the right.
        Task("rotation", "accuracy", augment=AUGMENT.model_copy(update={"flip": False})),
    )
    targets = ("cat", "frog", "airplane", "ship")
    unseen = frozenset({"airplane", "ship"})
    generic = ("bird", "deer", "dog", "horse")
    schedule = SCHEDULE
    cuts: ClassVar = {"middle": "stages.2", "lower": "stages.1"}
    features: ClassVar = {"middle": "48x8x8", "lower": "32x8x8"}

    def teacher(self, category: str, seed: int, tasks: Sequence[str]) -> Trained:
        torch.manual_seed(1000 + 100 * seed + CLASSES.index(category))
        net = Net(tasks)
        seconds, curve = fit(
            [net],
            lambda step: self._loss([net], 0, [category], tasks, seed=seed, step=step),
            self.schedule,
            lambda: self._validate(net, category),
        )
        return Trained(_file(net, tasks), seconds, curve, torch.get_num_threads())

    def generic_net(self, categories: Sequence[str], seed: int, depth: str, tasks: Sequence[str]) -> Trained:
        return self.generic_nets(categories, seed, depth, tasks)[categories[0]]

    def generic_nets(
        self, categories: Sequence[str], seed: int, depth: str, tasks: Sequence[str]
    ) -> dict[str, Trained]:
        """The net of every category; all have the same upper parts, and the seconds of their common training."""
        torch.manual_seed(5000 + seed)
        nets = [Net(tasks) for _ in categories]
        shared = share_above(nets, self.cuts[depth])
        modules = nn.ModuleList(nets)  # a parameter that is shared counts once
        seconds, curve = fit(
            [modules],
            lambda step: self._loss(nets, shared, categories, tasks, seed=5000 + seed, step=step),
            self.schedule,
            lambda: self._validate(nets[0], categories[0]),
        )
        files = [_file(net, tasks) for net in nets]
        return {
            name: Trained(file, seconds, curve, torch.get_num_threads())
            for name, file in zip(categories, files, strict=True)
        }

    def samples(self, category: str, split: Split, task: str) -> SampleSet:
        x, classes = self.images_of(split)
        own = CLASSES.index(category)
        random = generator(0, f"benchmark.{split}.{category}")
        positive, negative = _shuffled(classes == own, random), _shuffled(classes != own, random)
        count = EVALUATED[split]
        if task == "rotation":
            turns = torch.arange(count) % 4
            return SampleSet(_rotated(normalised(x[positive[:count]]), turns), turns)
        rows = torch.cat([positive[:count], negative[:count]])
        return SampleSet(normalised(x[rows]), (classes[rows] == own).long())

    def unlabelled(self, category: str) -> SampleSet:
        x, classes = self.images_of("train")
        rows = _shuffled(classes != CLASSES.index(category), generator(0, "benchmark.unlabelled"))
        return SampleSet(normalised(x[rows[:UNLABELLED]]))

    def learned_by(self, categories: int, tasks: Sequence[str]) -> dict[str, Any]:
        said = {"schedule": asdict(self.schedule), "batch": self._batch(categories), "precision": PRECISION}
        return {**said, "augment": AUGMENT.model_dump(), "net": architecture(lambda: Net(tasks))}

    def _batch(self, categories: int) -> int:
        """Rows a step of each category."""
        return self.schedule.batch if categories == 1 else GENERIC_BATCH

    def _loss(
        self,
        nets: Sequence[Net],
        shared: int,
        categories: Sequence[str],
        tasks: Sequence[str],
        *,
        seed: int,
        step: int,
    ) -> Tensor:
        """Mean over tasks. What the nets share, from stage `shared` on, sees all categories in one pass."""
        x, classes = self.images_of("train")
        size = self._batch(len(nets))
        drawn = []
        for category in categories:
            random = generator(seed, f"benchmark.teacher.{category}", step)
            own = classes == CLASSES.index(category)
            rows = _balanced(own, size, random)
            drawn.append((augment(normalised(x[rows]), AUGMENT, random), own[rows], random))
        return torch.stack([_task_loss(task, nets, shared, drawn) for task in tasks]).mean()

    def _validate(self, net: Net, category: str) -> float:
        samples = self.samples(category, "validation", "is")
        logits = torch.cat([net(chunk)["is"] for chunk in samples.x.split(250)])
        return float(((logits[:, 0] > 0).long() == samples.y).float().mean())

    def images_of(self, split: Split) -> tuple[Tensor, Tensor]:
        """All images of a split, uint8 [n, 3, 32, 32], and their classes."""
        return _read(self.data, self.scratch)[split]


def _task_loss(
    task: str, nets: Sequence[Net], shared: int, drawn: Sequence[tuple[Tensor, Tensor, torch.Generator]]
) -> Tensor:
    features, labels = [], []
    for net, (images, positive, random) in zip(nets, drawn, strict=True):
        seen, wanted = images, positive.float()
        if task == "rotation":  # of the category's own images only
            wanted = torch.randint(0, 4, (int(positive.sum()),), generator=random)
            seen = _rotated(images[positive], wanted)
        features.append(net.stages[:shared](seen))
        labels.append(wanted)
    logits = nets[0].heads[task](nets[0].stages[shared:](torch.cat(features)))
    if task == "rotation":
        return F.cross_entropy(logits, torch.cat(labels))
    return F.binary_cross_entropy_with_logits(logits[:, 0], torch.cat(labels))


def _rotated(images: Tensor, turns: Tensor) -> Tensor:
    return torch.stack([torch.rot90(image, int(turn), (1, 2)) for image, turn in zip(images, turns, strict=True)])


def _balanced(positive: Tensor, count: int, random: torch.Generator) -> Tensor:
    own, other = positive.nonzero()[:, 0], (~positive).nonzero()[:, 0]
    half = count // 2
    picks = [rows[torch.randint(len(rows), (half,), generator=random)] for rows in (own, other)]
    return torch.cat(picks)


def _shuffled(mask: Tensor, random: torch.Generator) -> Tensor:
    rows = mask.nonzero()[:, 0]
    return rows[torch.randperm(len(rows), generator=random)]


def normalised(images: Tensor) -> Tensor:
    """uint8 [n, 3, 32, 32] as the nets' input."""
    mean, std = torch.tensor(PREPROCESSING.mean), torch.tensor(PREPROCESSING.std)
    return (images.float() / 255 - mean[:, None, None]) / std[:, None, None]


def _file(net: Net, tasks: Sequence[str]):  # type: ignore[no-untyped-def]
    meanings = {name: OutputMeaning(semantics="classification") for name in tasks}
    return trace(net, torch.zeros(2, 3, 32, 32), outputs=meanings, preprocessing=PREPROCESSING)


@cache
def _read(data: Path | None, scratch: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Images uint8 and classes of each split; decoded once into `scratch`."""
    kept = scratch / "cifar10.npz"
    if not kept.exists():
        arrays = _decoded(data)
        with replacing(kept) as part, part.open("wb") as file:  # another process may read it, or write its own
            np.savez(file, **arrays)
    with np.load(kept) as arrays:
        x = {name: torch.from_numpy(arrays[f"{name}.x"]) for name in ("train", "test")}
        y = {name: torch.from_numpy(arrays[f"{name}.y"]) for name in ("train", "test")}
    order = [(y["train"] == index).nonzero()[:, 0] for index in range(len(CLASSES))]
    train = torch.cat([rows[: PER_CLASS["train"]] for rows in order])
    held = torch.cat([rows[PER_CLASS["train"] :] for rows in order])
    return {
        "train": (x["train"][train], y["train"][train]),
        "validation": (x["train"][held], y["train"][held]),
        "test": (x["test"], y["test"]),
    }


def _decoded(data: Path | None) -> dict[str, np.ndarray]:
    if data is None:
        raise SystemExit(
            "CIFAR-10 is needed: make bench-transplant DATA=FOLDER, with cifar10.zip or cifar-10-binary.tar.gz in it"
        )
    if (data / "cifar10.zip").exists():
        return _from_jpegs(data / "cifar10.zip")
    if (data / "cifar-10-binary.tar.gz").exists():
        return _from_binary(data / "cifar-10-binary.tar.gz")
    raise SystemExit(f"{data} holds neither cifar10.zip nor cifar-10-binary.tar.gz")


def _from_jpegs(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for split in ("train", "test"):
            names = sorted(n for n in archive.namelist() if n.startswith(f"{split}/") and n.endswith(".jpg"))
            images = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
            arrays[f"{split}.x"] = np.stack(images).transpose(0, 3, 1, 2)
            arrays[f"{split}.y"] = np.array([CLASSES.index(name.split("/")[1]) for name in names])
    return arrays


def _from_binary(path: Path) -> dict[str, np.ndarray]:
    """Rows of a label byte and 3072 bytes of pixels, five training files and one test file."""
    found: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if member.name.endswith(".bin") and (file := archive.extractfile(member)) is not None:
                rows = np.frombuffer(file.read(), np.uint8).reshape(-1, 3073)
                found["test" if "test" in member.name else "train"].append(rows)
    joined = {split: np.concatenate(rows) for split, rows in found.items()}
    images = {f"{split}.x": rows[:, 1:].reshape(-1, 3, 32, 32) for split, rows in joined.items()}
    return images | {f"{split}.y": rows[:, 0].astype(np.int64) for split, rows in joined.items()}
