"""How compatible components are trained."""

from __future__ import annotations

from pydantic import Field

from graftery.spec.manifest import Frozen
from graftery.spec.recipes.parts import AugmentRecipe, Precision, Weight


class CompatRecipe(Frozen):
    """How networks are trained so that their components recombine."""

    epochs: int = Field(12, ge=1, le=100_000, description="Passes over the largest task's images")
    batch: int = Field(64, ge=2, le=65_536, description="Images of each task in a step")
    learning_rate: float = Field(
        0.05, gt=0, le=10, description="SGD with Nesterov momentum, one for all networks and heads; a cosine to zero"
    )
    warm_up: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the rate rises")
    momentum: float = Field(0.9, gt=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0, le=1, description="Of weights; not of biases and norms")
    rotation_weight: Weight = Field(1.0, description="Of the shared head that tells rotations, where the group has RP")
    common_weight: Weight = Field(1.0, description="Of the shared head of the common classes, where the group has DCC")
    precision: Precision = Field("float32", description="Of the networks while they learn; sums and losses are float32")
    seed: int = Field(0, ge=0, lt=2**53, description="Below 2^53, so that every JSON reader keeps it exactly")
    augment: AugmentRecipe = Field(default_factory=AugmentRecipe)
