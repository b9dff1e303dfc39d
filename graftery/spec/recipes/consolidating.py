"""How a shared module learns on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from graftery.spec.manifest import Frozen
from graftery.spec.recipes.parts import (
    AugmentRecipe,
    BankRecipe,
    InversionRecipe,
    NoiseRecipe,
    Precision,
    Source,
    StopRecipe,
    Weight,
)


class ConsolidateRecipe(Frozen):
    """How a shared module learns on from all its cells. What is not described means what it does in a `TransplantRecipe`."""

    objectives: dict[Literal["direct", "distillation", "back_distillation"], Weight] = Field(
        default_factory=dict, description="Of each cell; empty: distillation 4, and with labels direct 0.25"
    )
    sources: tuple[Source, ...] = Field((), description="Each cell takes what it has of them; empty: the default")
    pooled: bool = Field(True, description="Each cell learns from the other cells' unlabelled and inverted images, too")
    labels: int | None = Field(None, ge=0, le=10_000_000, description="Of each cell that has labels; by default all")
    adapters: Literal["frozen", "learned"] = Field("learned", description="Whether the cells' adapters learn on, too")
    balance: Literal["mean", "loss"] = Field("mean", description="loss: a cell counts by what its loss is at the start")
    anchor_weight: Weight = Field(1.0, description="Of a cell without a teacher, whose target is what it was")
    steps: int = Field(1200, ge=1, le=1_000_000, description="At most: see `stop`")
    batch: int = Field(32, ge=2, le=65_536, description="Rows of each cell in a step")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="Adam; falls to zero at the end")
    precision: Precision = "float32"
    seed: int = Field(0, ge=0, lt=2**53)
    held_out: float = Field(0.25, gt=0, lt=1, description="Share of unlabelled images that only choose what is kept")
    tolerance: float = Field(
        0.02, ge=0, le=1, description="What a cell may lose, in what is kept, of the share it explains"
    )
    augment: AugmentRecipe = Field(default_factory=AugmentRecipe)
    noise: NoiseRecipe = Field(default_factory=NoiseRecipe)
    inversion: InversionRecipe = Field(default_factory=InversionRecipe, description="Without rounds")
    bank: BankRecipe = Field(default_factory=BankRecipe, description="Of each cell")
    stop: StopRecipe = Field(default_factory=lambda: StopRecipe(patience=4, tolerance=3e-4))
