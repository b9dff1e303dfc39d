"""CamVid: "which pixels are c?" for one category c of a street scene, and "how much of the frame is c?" as a second task.

Reads camvid.zip: frames train/ val/ test/ and their labels trainannot/ valannot/ testannot/, as in the SegNet tutorial, in
any size. Targets beyond car and pavement are by share of the training pixels and by what teachers reach on
validation frames at all, chosen before the first transplant was measured; recipes were chosen with building and pedestrian as targets.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path, PurePosixPath
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
from graftery.data.streams import generator
from graftery.module import ModuleFile, trace
from graftery.spec.manifest import OutputMeaning, Preprocessing
from graftery.spec.recipes import AugmentRecipe
from graftery.transplant.objectives import IGNORED, direct

CATEGORIES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
"""By label id; greater ids are void and count for nothing."""
SIZE = (96, 128)
PREPROCESSING = Preprocessing(mean=(0.4, 0.4, 0.4), std=(0.3, 0.3, 0.3))
FOLDERS = {"train": "train", "validation": "val", "test": "test"}
SCHEDULE = Schedule(steps=2400, batch=8)
GENERIC_BATCH = 4
"""Frames a step of each category of a generic net that has several."""
ZOOM = 1.5
"""Training frames are enlarged by up to this factor, and flipped."""
FRACTION_WEIGHT = 0.1
"""Of the second task's loss, in variances of its labels, beside the mask's."""


class Mask(nn.Module):
    """g of the mask: features at stride 4, and a coarser path with a wider view, to one logit a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.near = _block(32, 32)
        self.far = nn.Sequential(_block(32, 48, 2), _block(48, 48), _block(48, 48))
        self.near_logit, self.far_logit = nn.Conv2d(32, 1, 1), nn.Conv2d(48, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        near = self.near(features)
        logits = self.near_logit(near) + _enlarged(self.far_logit(self.far(near)), 2.0)
        return _enlarged(logits, 4.0)


class Net(Staged):
    """f: blocks of one convolution, 96x128x3 to 32x24x32; g: a head an output."""

    def __init__(self, outputs: Sequence[str]) -> None:
        super().__init__()
        self.stages = nn.Sequential(_block(3, 16, 2), _block(16, 32, 2), _block(32, 32), _block(32, 32))
        self.heads = nn.ModuleDict({name: _head(name) for name in outputs})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.stages(x)
        return {name: head(features) for name, head in self.heads.items()}


def _block(source: int, target: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(source, target, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(target), nn.ReLU())


def _head(name: str) -> nn.Module:
    if name == "mask":
        return Mask()
    return nn.Sequential(_block(32, 48, 2), _block(48, 48, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 1))


def _enlarged(maps: Tensor, factor: float) -> Tensor:
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


class CamVid(World):
    name = "camvid"
    title = "CamVid, which pixels are c?"
    protocol = (
        "Frames of 96x128; teachers: one category against all else, void ignored; IoU of the category over all pixels of the test"
        f" frames at threshold 0. All nets learn {SCHEDULE.steps} steps of {SCHEDULE.batch} frames; a generic net of several categories: {GENERIC_BATCH} for each."
        " Unlabelled images: all training frames, which often show the target. f learned from these frames, the sketch is of them, and those that"
        " the rows label are among them."
    )
    dense = True
    tasks = (
        Task("mask", "iou", beside=("pixel_accuracy",), augment=AugmentRecipe(shift=4, flip=True)),
        # What a shift brings in and out of the frame would change the fraction.
        Task("fraction", "r2", augment=AugmentRecipe(shift=0, flip=True)),
    )
    targets = ("car", "pavement", "tree", "bicyclist")
    unseen = frozenset({"tree", "bicyclist"})
    untuned = frozenset({"car", "pavement"})
    generic = ("sky", "building", "sign", "fence")
    schedule = SCHEDULE
    cuts: ClassVar = {"middle": "stages.3", "lower": "stages.1"}
    features: ClassVar = {"middle": "32x24x32", "lower": "32x24x32"}

    def teacher(self, category: str, seed: int, tasks: Sequence[str]) -> Trained:
        torch.manual_seed(1000 + 100 * seed + CATEGORIES.index(category))
        return self._trained([Net(tasks)], 0, [category], tasks=tasks, seed=seed)

    def generic_net(self, categories: Sequence[str], seed: int, depth: str, tasks: Sequence[str]) -> Trained:
        torch.manual_seed(5000 + seed)
        nets = [Net(tasks) for _ in categories]
        shared = share_above(nets, self.cuts[depth])
        return self._trained(nets, shared, categories, tasks=tasks, seed=5000 + seed)

    def _trained(
        self, nets: list[Net], shared: int, categories: Sequence[str], *, tasks: Sequence[str], seed: int
    ) -> Trained:
        seconds, curve = fit(
            [nn.ModuleList(nets)],  # a parameter that is shared counts once
            lambda step: self._loss(nets, shared, categories, tasks=tasks, seed=seed, step=step),
            self.schedule,
            (lambda: self._validate(nets[0], categories[0])) if "mask" in tasks else None,
        )
        return Trained(_file(nets[0], tasks), seconds, curve, torch.get_num_threads())

    def samples(self, category: str, split: Split, task: str) -> SampleSet:
        """Every labelled frame of the split. The fraction is of the pixels that are not void, [n, 1]."""
        frames, labels = self._split(split)
        mask = _mask(labels, CATEGORIES.index(category))
        return SampleSet(normalised(frames), mask if task == "mask" else _fraction(mask))

    def unlabelled(self, category: str) -> SampleSet:
        """Training frames without their labels. Hardly any of them shows nothing of a category: none is left out."""
        return SampleSet(normalised(self._split("train")[0]))

    def learned_by(self, categories: int, tasks: Sequence[str]) -> dict[str, Any]:
        said = {"schedule": asdict(self.schedule), "batch": self._batch(categories), "precision": PRECISION}
        own = {"zoom": ZOOM, "size": SIZE, "fraction_weight": FRACTION_WEIGHT}
        return {**said, **own, "net": architecture(lambda: Net(tasks))}

    def _batch(self, categories: int) -> int:
        """Frames a step of each category."""
        return self.schedule.batch if categories == 1 else GENERIC_BATCH

    def _loss(
        self, nets: Sequence[Net], shared: int, categories: Sequence[str], *, tasks: Sequence[str], seed: int, step: int
    ) -> Tensor:
        """Sum over tasks. What the nets share, from stage `shared` on, sees all categories in one pass."""
        frames, labels = self._split("train")
        size = self._batch(len(nets))
        drawn = []
        for category in categories:
            random = generator(seed, f"benchmark.camvid.{category}", step)
            rows = torch.randint(len(frames), (size,), generator=random)
            drawn.append(_augmented(normalised(frames[rows]), _mask(labels[rows], CATEGORIES.index(category)), random))
        features = torch.cat([net.stages[:shared](x) for net, (x, _) in zip(nets, drawn, strict=True)])
        features = nets[0].stages[shared:](features)
        outputs = {task: nets[0].heads[task](features) for task in tasks}
        mask = torch.cat([y for _, y in drawn])
        return torch.stack([_task_loss(outputs[task], mask, task) for task in tasks]).sum()

    def _validate(self, net: Net, category: str) -> float:
        samples = self.samples(category, "validation", "mask")
        ours = torch.cat([net(chunk)["mask"][:, 0] > 0 for chunk in samples.x.split(32)])
        known, theirs = samples.y != IGNORED, samples.y == 1
        return float((ours & theirs).sum() / ((ours | theirs) & known).sum().clamp_min(1))

    def _split(self, split: Split) -> tuple[Tensor, Tensor]:
        return _read(self.data, self.scratch)[split]


def _task_loss(outputs: Tensor, mask: Tensor, task: str) -> Tensor:
    if task == "mask":
        return direct(outputs, mask, "segmentation")
    fraction = _fraction(mask)
    return FRACTION_WEIGHT * F.mse_loss(outputs, fraction) / fraction.var().clamp_min(1e-4)


def _mask(labels: Tensor, category: int) -> Tensor:
    """Label ids as 1 for the category, 0 for the others, 255 for void."""
    mask = (labels == category).to(torch.uint8)
    return torch.where(labels >= len(CATEGORIES), IGNORED, mask).to(torch.uint8)


def _fraction(mask: Tensor) -> Tensor:
    """Share of the known pixels that are of the category, [n, 1]."""
    known = (mask != IGNORED).flatten(1).sum(1)
    return ((mask == 1).flatten(1).sum(1) / known.clamp_min(1)).float()[:, None]


def _augmented(frames: Tensor, mask: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """One flip and one zoom for the whole batch: labels follow by nearest neighbour."""
    if torch.rand((), generator=random) < 0.5:
        frames, mask = frames.flip(3), mask.flip(2)
    factor = 1 + (ZOOM - 1) * float(torch.rand((), generator=random))
    height, width = (int(size / factor) for size in SIZE)
    top = int(torch.randint(SIZE[0] - height + 1, (), generator=random))
    left = int(torch.randint(SIZE[1] - width + 1, (), generator=random))
    frames = frames[:, :, top : top + height, left : left + width]
    mask = mask[:, None, top : top + height, left : left + width]
    frames = F.interpolate(frames, size=SIZE, mode="bilinear", align_corners=False)
    return frames, F.interpolate(mask, size=SIZE, mode="nearest")[:, 0]


def normalised(frames: Tensor) -> Tensor:
    """uint8 [n, 3, H, W] as the nets' input."""
    mean, std = torch.tensor(PREPROCESSING.mean), torch.tensor(PREPROCESSING.std)
    return (frames.float() / 255 - mean[:, None, None]) / std[:, None, None]


def _file(net: Net, tasks: Sequence[str]) -> ModuleFile:
    semantics = {"mask": "segmentation", "fraction": "regression"}
    meanings = {name: OutputMeaning.model_validate({"semantics": semantics[name]}) for name in tasks}
    return trace(net, torch.zeros(2, 3, *SIZE), outputs=meanings, preprocessing=PREPROCESSING)


@cache
def _read(data: Path | None, scratch: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Frames uint8 [n, 3, H, W] and label ids uint8 [n, H, W] of each split; decoded once into `scratch`."""
    kept = scratch / f"camvid-{SIZE[0]}x{SIZE[1]}.npz"
    if not kept.exists():
        arrays = _decoded(data)
        with replacing(kept) as part, part.open("wb") as file:  # another process may read it, or write its own
            np.savez(file, **arrays)
    with np.load(kept) as arrays:
        return {
            split: (torch.from_numpy(arrays[f"{split}.x"]), torch.from_numpy(arrays[f"{split}.y"])) for split in FOLDERS
        }


def _decoded(data: Path | None) -> dict[str, np.ndarray]:
    if data is None or not (data / "camvid.zip").exists():
        raise SystemExit("CamVid is needed: make bench-transplant DATA=FOLDER, with camvid.zip in it")
    arrays = {}
    with zipfile.ZipFile(data / "camvid.zip") as archive:
        for split, folder in FOLDERS.items():
            frames, labels = _members(archive, folder), _members(archive, f"{folder}annot")
            if not frames or frames.keys() != labels.keys():
                raise SystemExit(f"camvid.zip: {folder}/ and {folder}annot/ do not hold the same frames")
            images = [
                _image(archive, frames[name]).convert("RGB").resize(SIZE[::-1], Image.BILINEAR) for name in frames
            ]
            ids = [_image(archive, labels[name]).resize(SIZE[::-1], Image.NEAREST) for name in frames]
            arrays[f"{split}.x"] = np.stack([np.asarray(image) for image in images]).transpose(0, 3, 1, 2)
            arrays[f"{split}.y"] = np.stack([np.asarray(each, dtype=np.uint8) for each in ids])
    return arrays


def _members(archive: zipfile.ZipFile, folder: str) -> dict[str, str]:
    """The images of a folder: stem to member, in order."""
    paths = [PurePosixPath(name) for name in sorted(archive.namelist())]
    return {path.stem: str(path) for path in paths if path.parent.name == folder and path.suffix in (".jpg", ".png")}


def _image(archive: zipfile.ZipFile, member: str) -> Image.Image:
    return Image.open(io.BytesIO(archive.read(member)))
