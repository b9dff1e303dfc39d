"""How a skill is cloned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from graftery.spec.manifest import Frozen
from graftery.spec.recipes.parts import AugmentRecipe, NoiseRecipe, Weight


class CloneRecipe(Frozen):
    """How a skill is cloned: what of the source is kept, and how it is joined to the target."""

    keep: float = Field(0.4, gt=0, le=1, description="Share of each layer's channels that are kept, at least one")
    localization_steps: int = Field(150, ge=0, le=100_000, description="0: channels by their first saliency")
    localization_learning_rate: float = Field(0.05, gt=0, le=10, description="Adam, of the gates")
    healing_steps: int = Field(150, ge=0, le=100_000, description="In which kept weights learn from the whole source")
    healing_learning_rate: float = Field(1e-3, gt=0, le=10, description="Adam, cosine to zero")
    healing_mixed: int = Field(
        0, ge=0, le=65_536, description="Mixtures of two images in each step of healing, besides the batch"
    )
    tolerance: float = Field(0.3, ge=0, le=1, description="Of wanted accuracy that the masked source may lose")
    positions: tuple[Annotated[str, Field(max_length=200)], ...] = Field(
        (), max_length=64, description="The target's layers to try, deep to shallow; empty: those that there are"
    )
    held_out: float = Field(1 / 3, gt=0, lt=1, description="Share of the images that positions are compared on")
    search_steps: int = Field(60, ge=1, le=100_000, description="Of each position that is tried")
    joint: bool = Field(False, description="Gates learn on, together with what joins the clone to the target")
    steps: int = Field(200, ge=1, le=100_000, description="Of what joins the clone to the target")
    learning_rate: float = Field(0.01, gt=0, le=10, description="AdamW, cosine to zero")
    weight_decay: float = Field(0.01, ge=0, le=1)
    learn_on: bool = Field(False, description="The clone's own weights learn on in the target, too; off: they stay")
    margin_original: float = Field(2.0, ge=0, le=100, description="New logits learn to be so much lower than need be")
    margin_wanted: float = Field(1.0, ge=0, le=100, description="The same of wanted images: so much higher")
    dropout: float = Field(0.3, ge=0, lt=1, description="Of the clone's last features, while it is joined")
    mixed: int = Field(64, ge=0, le=65_536, description="Mixtures of two images in each step, besides the batch")
    batch: int = Field(64, ge=2, le=65_536, description="Half of wanted classes, half of original ones")
    feature_weight: Weight = Field(0.3, description="Of the clone's input against the source's own features")
    originals: Literal["images", "noise"] = Field(
        "images", description="noise: no image of the target's own classes is used, but noise that the target answers"
    )
    views: int = Field(8, ge=1, le=1000, description="Augmented copies of each image, made once")
    augment: AugmentRecipe = Field(default_factory=AugmentRecipe)
    noise: NoiseRecipe = Field(default_factory=NoiseRecipe)
    seed: int = Field(0, ge=0, lt=2**53, description="Below 2^53, so that every JSON reader keeps it exactly")
