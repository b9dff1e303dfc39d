"""The handwritten digits of scikit-learn: a world that no recipe was tuned on since it was fixed on the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from benchmarks.transplant.digests import architecture
from benchmarks.transplant.worlds.base import Split, Task, Trained, World
from benchmarks.transplant.worlds.learning import PRECISION
from examples import digits
from graftery.data import SampleSet
from graftery.data.streams import generator
from graftery.module import ModuleFile, trace
from graftery.spec.manifest import OutputMeaning


class Digits(World):
    name = "digits"
    title = "handwritten digits, is it a c?"
    protocol = (
        "1797 images of 8x8, 900 to train, 397 to choose, 500 to test; balanced error at threshold 0."
        " Unlabelled images: all training images but the target's, left out by their labels. f learned from these and from those that the rows label."
    )
    tasks = (Task("is", "balanced_accuracy", beside=("accuracy", "auc")),)
    targets = ("3", "8")
    unseen = frozenset()
    untuned = frozenset({"3", "8"})
    generic = tuple(str(digit) for digit in digits.GENERIC)
    cuts: ClassVar = {"middle": digits.CUT}
    features: ClassVar = {"middle": "16x4x4"}

    def teacher(self, category: str, seed: int, tasks: Sequence[str]) -> Trained:
        began_s = time.perf_counter()
        net = digits.train_teacher(int(category), seed=seed)
        return _trained(net, time.perf_counter() - began_s)

    def generic_net(self, categories: Sequence[str], seed: int, depth: str, tasks: Sequence[str]) -> Trained:
        began_s = time.perf_counter()
        generic = digits.train_generic(tuple(int(category) for category in categories), seed=seed)
        return _trained(generic.net(int(categories[0])), time.perf_counter() - began_s)

    def learned_by(self, categories: int, tasks: Sequence[str]) -> dict[str, Any]:
        schedule = {"steps": digits.STEPS, "learning_rate": digits.LEARNING_RATE, "weight_decay": digits.WEIGHT_DECAY}
        net = architecture(lambda: digits.Net(digits.category_module(), digits.task_module()))
        return {"schedule": schedule, "batch": digits.BATCH, "precision": PRECISION, "net": net}

    def samples(self, category: str, split: Split, task: str) -> SampleSet:
        return digits.one_against_rest(int(category), split)

    def unlabelled(self, category: str) -> SampleSet:
        x, shown = digits.images("train")
        rows = (shown != int(category)).nonzero()[:, 0]
        return SampleSet(x[rows[torch.randperm(len(rows), generator=generator(0, "benchmark.unlabelled"))]])


def _trained(net: digits.Net, seconds: float) -> Trained:
    outputs = {"is": OutputMeaning(semantics="classification")}
    file: ModuleFile = trace(net, torch.zeros(2, 1, 8, 8), outputs=outputs, preprocessing=digits.PREPROCESSING)
    return Trained(file, seconds, threads=torch.get_num_threads())
