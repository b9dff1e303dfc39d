"""What moves recombination: IIW+DCC under other recipes, and with other classes. On validation images, and on seeds that are not reported.

Fixed before it was run, as the protocol is. The table's recipe is the first line; nothing of the table follows from the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
        return {"variant": self.variant.name, "seed": self.seed, "precision": RECIPE.precision}

    def measure(self, bench: Bench) -> dict[str, Any]:
        """The figures of its cell."""
        cell = Cell(self.variant.setting, METHOD, "middle", self.seed)
        return self.variant.recipe(bench).measure(cell)


def trials(seeds: Sequence[int] = SEEDS) -> Iterator[Trial]:
    """All of them in order: seed by seed."""
    for seed in seeds:
        yield from (Trial(variant, seed) for variant in VARIANTS)


def page(found: list[dict[str, Any]], facts: dict[str, Any], missing: int) -> str:
    """The document."""
    head = ["what is otherwise", "normalised recombination", "(re-estimated)", "own", "seeds"]
    lines = [line(head), line(["---"] * len(head))]
    for variant in VARIANTS:
        if of := [trial for trial in found if trial["variant"] == variant.name]:
            recombined, restated = (spread(trial[name] for trial in of) for name in ("recombined", "restated"))
            own = spread(100 * trial["own"] for trial in of)
            lines.append(line([variant.name, f"**{recombined}**", f"({restated})", own, str(len(of))]))
    parts = [
        "# What moves the recombination of compatible components",
        f"Written by `{COMMAND}`; every trial is in compat-study.json.",
        f"{METHOD.name}, {SETTINGS[0].name} unless said otherwise, split in the middle, else as in [compat.md](compat.md); on validation images, with"
        " seeds and classes that are not in the table. Nothing of the table was chosen by these.",
        machine_line(facts["machine"]),
        *([missing_line(missing)] if missing else []),
        "\n".join(lines),
    ]
    return "\n\n".join(parts) + "\n"
