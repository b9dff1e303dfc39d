"""What the benchmark asks of a world: categories, their samples, and nets trained on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks.transplant.worlds.learning import Schedule
from graftery.data import SampleSet
from graftery.module import ModuleFile, cut
from graftery.spec.recipes import AugmentRecipe

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Trained:
    """A trained net.

    Args:
        file: the whole net as a module file.
        seconds: that its training took, with nothing else in it.
        curve: the world's metric on validation data, along the training.
        threads: of the training.
    """

    file: ModuleFile
    seconds: float
    curve: tuple[float, ...] = ()
    threads: int = 1


@dataclass(frozen=True)
class Task:
    """A task that categories have: the name of the nets' output, and the metric that the table shows."""

    output: str
    metric: str
    lower_is_better: bool = False
    beside: tuple[str, ...] = ()
    """Metrics that are shown too, as means."""
    augment: AugmentRecipe = AugmentRecipe()  # noqa: RUF009  immutable
    """What suits the images when few are learned from directly, and leaves the task's labels true."""


class World(ABC):
    """Categories of one data set. A teacher knows one target; a generic net's task module is shared by other categories.

    Everything is a function of the seed: nets, subsets, draws. Test samples are read for the final metrics only.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    protocol: ClassVar[str]
    """What is measured on what, and what images without labels are, in sentences for the document."""
    dense: ClassVar[bool] = False
    """The table's task labels pixels."""
    tasks: ClassVar[tuple[Task, ...]]
    """The first one is the table's; the others are transplanted beside it, where a setting has several tasks."""
    targets: ClassVar[tuple[str, ...]]
    unseen: ClassVar[frozenset[str]]
    """Targets that no recipe was ever tuned on."""
    untuned: ClassVar[frozenset[str]] = frozenset()
    """Targets that no recipe was tuned on here; the study from which the method came looked at their test samples while it chose."""
    generic: ClassVar[tuple[str, ...]]
    """The categories that the generic net knows; none of them is a target."""
    cuts: ClassVar[dict[str, str]]
    """Depths at which the nets are cut: name to layer path; the first one is the table's."""
    features: ClassVar[dict[str, str]]
    """The shape of f's features at each of them, for the document."""

    schedule: Schedule | None = None
    """Of the nets' training; None: the world has its own way."""
    quick: bool = False
    """Whether recipes are short, to see that they run."""

    def __init__(self, data: Path | None, scratch: Path) -> None:
        """Args: `data`, the folder with the archives; `scratch`, where decoded data may be kept."""
        self.data, self.scratch = data, scratch

    @abstractmethod
    def teacher(self, category: str, seed: int, tasks: Sequence[str]) -> Trained:
        """Train a net for one category, with these outputs."""

    @abstractmethod
    def generic_net(self, categories: Sequence[str], seed: int, depth: str, tasks: Sequence[str]) -> Trained:
        """Train a category module for each category under task modules that they share above the cut of this depth.

        Returns:
            The net of the first category; its upper parts are what all share.
        """

    @abstractmethod
    def samples(self, category: str, split: Split, task: str) -> SampleSet:
        """Labelled samples of a task of a category."""

    @abstractmethod
    def unlabelled(self, category: str) -> SampleSet:
        """Training images without labels; none of them shows the category, as far as that can be."""

    @abstractmethod
    def learned_by(self, categories: int, tasks: Sequence[str]) -> dict[str, Any]:
        """What a net of so many categories and these outputs learns by, as JSON: one that learned by something else is another net."""

    def task(self, output: str) -> Task:
        return next(task for task in self.tasks if task.output == output)

    def parts(self, net: Trained, depth: str) -> tuple[ModuleFile, dict[str, ModuleFile]]:
        """f and the task modules of a net, cut at this depth."""
        return cut(net.file, self.cuts[depth])
