"""How an adapter is learned."""

from __future__ import annotations

from pydantic import Field

from graftery.spec.manifest import Frozen
from graftery.spec.recipes.parts import (
    AdapterRecipe,
    AugmentRecipe,
    BankRecipe,
    InversionRecipe,
    MomentsRecipe,
    NoiseRecipe,
    Objective,
    Precision,
    Source,
    StopRecipe,
    Weight,
)


class TransplantRecipe(Frozen):
    """How an adapter is learned.

    With no objectives named, the default for the labels and sources at hand is taken (`graftery.spec.plan`).
    """

    objectives: dict[Objective, Weight] = Field(
        default_factory=dict,
        description="Loss terms and their weights; empty: the default for what is at hand",
        examples=[{"distillation": 4.0, "back_distillation": 1.0}],
    )
    sources: tuple[Source, ...] = Field((), description="Feature sources; empty: the default for what is at hand")
    labels: int | None = Field(
        None, ge=0, le=10_000_000, description="Labelled samples to use, chosen by the seed; by default all"
    )
    steps: int = Field(1000, ge=0, le=1_000_000, description="At most: see `stop`")
    batch: int = Field(32, ge=2, le=65_536)
    learning_rate: float = Field(5e-3, gt=0, le=10, description="Adam; falls to zero at the end")
    temperature: float = Field(2.0, gt=0, le=100, description="Of the distillation's soft targets")
    precision: Precision = Field(
        "float32",
        description="Of gS and h while h learns, and of all nets in an inversion; what f and gT give h to learn from, h's own"
        " weights, sums and losses are float32",
    )
    seed: int = Field(0, ge=0, lt=2**53, description="Below 2^53, so that every JSON reader keeps it exactly")
    adapter: AdapterRecipe = Field(default_factory=AdapterRecipe)
    augment: AugmentRecipe = Field(default_factory=AugmentRecipe)
    noise: NoiseRecipe = Field(default_factory=NoiseRecipe)
    inversion: InversionRecipe = Field(
        default_factory=InversionRecipe,
        description="Of what is not named, dense outputs take longer, and rounds (`DENSE_INVERSION`)",
    )
    moments: MomentsRecipe = Field(default_factory=MomentsRecipe)
    bank: BankRecipe = Field(default_factory=BankRecipe)
    stop: StopRecipe = Field(default_factory=StopRecipe)
