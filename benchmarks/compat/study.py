"""What moves recombination: IIW+DCC under other recipes, and with other classes; and where the rest is lost.

On validation images, and on seeds that are not reported. The variants were fixed before any was run, as the protocol is; where the rest is lost
was added when the first of them were known. The table's recipe is the first line; nothing of the table follows from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.compat.limits import limits
from benchmarks.compat.measuring import Bench
from benchmarks.compat.protocol import METHODS, RECIPE, SETTINGS, Cell, Setting
from benchmarks.writing import line, machine_line, missing_line, spread

SEEDS = (100, 101)
METHOD = next(method for method in METHODS if method.name == "IIW+DCC")
COMMAND = "make bench-compat DATA=FOLDER ARGS=--study"


@dataclass(frozen=True)
class Variant:
    """One thing that is otherwise than in the table.

    Args:
        name: as in the document.
        changes: of the recipe.
        setting: which classes tasks have.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    setting: Setting = SETTINGS[0]

    def recipe(self, bench: Bench) -> Bench:
        """With its recipe, on validation images."""
        recipe = bench.recipe.model_copy(update=self.changes)
        return replace(
            bench, recipe=recipe, judged="validation", nets=bench.nets / "study" / self.name.replace(" ", "_")
        )


VARIANTS = (
    Variant("as in the table"),
    Variant("common_weight 3", {"common_weight": 3.0}),
    Variant("common_weight 10", {"common_weight": 10.0}),
    Variant("36 epochs", {"epochs": 36}),
    Variant("36 epochs, common_weight 3", {"epochs": 36, "common_weight": 3.0}),
    Variant("all ten classes common", setting=Setting("two tasks, 10 common classes", 2, 10, 0, (METHOD.name,))),
)


@dataclass(frozen=True)
class Trial:
    """A variant at one seed."""

    variant: Variant
    seed: int

    @property
    def key(self) -> str:
        return f"{self.variant.name}/{self.seed}"

    @property
    def where(self) -> dict[str, Any]:
        return {"variant": self.variant.name, "seed": self.seed, "precision": RECIPE.precision, "limits": True}

    def measure(self, bench: Bench) -> dict[str, Any]:
        """The figures of its cell, and its limits."""
        ours, cell = self.variant.recipe(bench), Cell(self.variant.setting, METHOD, "middle", self.seed)
        recipe = ours.recipe.model_copy(update={"seed": self.seed})
        figures = ours.measure(cell)
        return figures | limits(*ours.parts(cell), self.variant.setting.common, recipe, progress=ours.progress)


def trials(seeds: Sequence[int] = SEEDS) -> Iterator[Trial]:
    """All of them in order: seed by seed."""
    for seed in seeds:
        yield from (Trial(variant, seed) for variant in VARIANTS)


def page(found: list[dict[str, Any]], facts: dict[str, Any], missing: int) -> str:
    """The document."""
    parts = [
        "# What moves the recombination of compatible components",
        f"Written by `{COMMAND}`; every trial is in compat-study.json.",
        f"{METHOD.name}, {SETTINGS[0].name} unless said otherwise, split in the middle, else as in [compat.md](compat.md); on validation images, with"
        " seeds and classes that are not in the table. Nothing of the table was chosen by these.",
        machine_line(facts["machine"]),
        *([missing_line(missing)] if missing else []),
        _table(found, RECOMBINED),
        "## Where the rest is lost",
        "Accuracy, in %, on images of the classes that both tasks have, and of those that the head's task alone has: of the head's own"
        " network, and of the head on the other task's features. A head learned anew: of the same form, from first weights, on the other task's features, which"
        " are frozen, with all training images and labels of the head's task and for as long as its network learned; normalised as recombination is.",
        _table(found, LOST),
    ]
    return "\n\n".join(parts) + "\n"


def _percent(name: str) -> Callable[[dict[str, Any]], float | None]:
    def of(trial: dict[str, Any]) -> float | None:
        return None if name not in trial else 100 * float(trial[name])

    return of


Columns = Sequence[tuple[str, Callable[[dict[str, Any]], float | None]]]
RECOMBINED: Columns = (
    ("normalised recombination", lambda trial: float(trial["recombined"])),
    ("re-estimated", lambda trial: float(trial["restated"])),
    ("own", _percent("own")),
)
LOST: Columns = (
    ("common classes, own network", _percent("common_own")),
    ("recombined", _percent("common_joined")),
    ("other classes, own network", _percent("others_own")),
    ("recombined", _percent("others_joined")),
    ("a head learned anew", lambda trial: trial.get("anew")),
)


def _table(found: list[dict[str, Any]], columns: Columns) -> str:
    head = ["what is otherwise", *(name for name, _ in columns), "seeds"]
    lines = [line(head), line(["---"] * len(head))]
    for variant in VARIANTS:
        if of := [trial for trial in found if trial["variant"] == variant.name]:
            cells = [[value for trial in of if (value := read(trial)) is not None] for _, read in columns]
            lines.append(line([variant.name, *(spread(each) if each else "-" for each in cells), str(len(of))]))
    return "\n".join(lines)
