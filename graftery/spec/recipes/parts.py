"""What recipes of several methods are made of: terms, sources, adapters, noise, inversions; and the constants of measuring."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from graftery.spec.manifest import Frozen

Objective = Literal["direct", "distillation", "back_distillation", "pseudo_gradient"]
Source = Literal["samples", "unlabelled", "noise", "inversion", "moments", "crops"]
Precision = Literal["float32", "bfloat16"]
Weight = Annotated[float, Field(ge=0, le=1e6)]

DEFAULT_OBJECTIVES: dict[Objective, float] = {"distillation": 4.0, "back_distillation": 1.0, "direct": 0.25}
"""The terms and weights of a recipe that names none, as far as gT and labels are there. docs/methods/transplant.md."""
DENSE_OBJECTIVES: dict[Objective, float] = {"distillation": 4.0, "direct": 0.25}
"""The same for segmentation: a gradient in one random direction of all pixels costs as much again and taught nothing more."""

BOOTSTRAP_RESAMPLES = 1000
"""Times that the samples to measure on are drawn anew."""
BOOTSTRAP_LEVEL = 0.95
"""Share of the resamples that an interval holds."""
PRECHECK_NEIGHBOURS = 3
"""Category modules of the same task that f is compared with before a transplant, at most."""
PRECHECK_IMAGES = (32, 1024)
"""Noise images of a pre-check, at least and at most; half of them only to test the map that the others gave."""
PRECHECK_VALUES = 2**23
"""At most as many input values in these images, but for their least number: the time of large inputs."""
PRECHECK_POSITIONS = 256
"""Positions of a feature map, evenly spread, that are compared; beside each other they say the same."""
PRECHECK_RIDGE = 1e-4
"""Of the linear map, relative to the mean variance of f's channels."""
SKETCH_DIRECTIONS = 64
"""Principal directions that a sketch keeps."""
SKETCH_ELEMENTS = 2**22
"""At most as many numbers in a sketch's directions: 16 MiB."""
CROP_SHARE = 0.5
"""Of a feature map's height and of its width, in a crop that a sketch ships."""
AGREEMENT_IMAGES = 512
"""Noise images on which student and teacher are compared."""
WATCHED_IMAGES = 256
"""Other noise images, on which they are compared while the student learns."""
ADAPTER_NOISE = 0.1
"""Of an adapter's first weights, where f and gS are of no common group."""
ADAPTER_GRID = 4
"""Side of the coarse grid that an adapter makes of a vector, or a vector of."""
ADAPTER_WEIGHTS = 2**22
"""At most as many weights in the linear layer between a vector and that grid, which is coarser where there would be more."""

RIVALRY_FLOOR = 1e-3
"""Added to a distance of student and teacher before its logarithm is taken."""
RIVAL_ROWS = 256
"""Of the bank of a round's student, at most: it is made anew for each round."""
GUIDE_DIRECTIONS = 32
"""Principal directions of a sketch that guide an inversion: a few hundred images say little of the later ones."""
GUIDE_DIRECTIONS_WEIGHT = 0.3
"""Of these directions, against the single elements."""
GUIDE_FAINTEST = 1e-3
"""Of the largest deviation: directions along which the owner's features vary less are left out. Where no more images than these directions
were sketched, the last one is an accident of rounding, and to be measured in its deviation would be all that an inversion learns.
"""
GUIDE_FLOOR = 0.1
"""Of a channel's mean variance, added to every element's: an element that is hardly ever active would else outweigh the others."""
MATCHED_IMAGES = 16
"""Whose statistics stand in for the stored ones, at least: of fewer, they would be those of single images."""
LEAST_SPREAD = 1e-3
"""Of the largest variance among outputs: what a smaller one counts as, or one that hardly varies would outweigh all others."""
ONE_CLASS = 0.99
"""Of decisions: from this share on they are as good as of one class."""

PSEUDO_RAMP = 0.5
"""Share of the steps in which the spread of the outputs comes to count fully beside the pseudo-gradient: the direction comes first."""


class AdapterRecipe(Frozen):
    """The adapter h: near-identity at the start."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        # As `_one_way_to_say_it` has it.
        json_schema_extra={
            "not": {
                "required": ["layers", "choose"],
                "properties": {"layers": {"type": "integer"}, "choose": {"minItems": 1}},
            }
        },
    )

    layers: int | None = Field(
        None, ge=1, le=8, description="Convolutions or linear layers; by default 1, 3 for dense outputs"
    )
    choose: tuple[Annotated[int, Field(ge=1, le=8)], ...] = Field(
        (),
        max_length=8,
        description="Numbers of layers to try; the one with which student and teacher agree best, without labels, is kept",
        examples=[[1, 2, 3]],
        json_schema_extra={"uniqueItems": True},
    )
    kernel: int = Field(
        3,
        ge=1,
        le=9,
        description="Side of a convolution's kernel, odd",
        json_schema_extra={"not": {"multipleOf": 2}},
    )
    final_relu: bool | None = Field(
        None,
        description="ReLU after the last layer; by default on where f's features are never negative and gS takes that kind",
    )
    noise: float | None = Field(
        None,
        ge=0,
        le=10,
        description="Of the first weights, against the identity: standard deviation of a layer's output for unit input; by default"
        " 0.1, and 0 where f and gS were trained against one compatibility group",
    )

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError("kernel has to be odd: 1, 3, 5, 7 or 9")
        return self

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        if self.choose and self.layers is not None:
            raise ValueError("layers are either given or chosen")
        if len(set(self.choose)) < len(self.choose):
            raise ValueError("a number of layers is named twice in choose")
        return self


class AugmentRecipe(Frozen):
    """Light augmentation of images, in every source that has images."""

    shift: int = Field(1, ge=0, le=32, description="Largest random shift, in pixels")
    flip: bool = Field(False, description="Random left-right flips; off where left and right matter, as for digits")


class NoiseRecipe(Frozen):
    """Procedural images: 1/f^a coloured noise under random textured discs ("dead leaves")."""

    alpha_min: float = Field(0.5, ge=0, le=4)
    alpha_max: float = Field(2.0, ge=0, le=4)
    discs: int = Field(12, ge=0, le=256)
    matched: bool | None = Field(
        None,
        description="f's batch norms stand on the noise's own statistics: its channels then come out as in training; by"
        " default for dense outputs",
    )


class InversionRecipe(Frozen):
    """Images optimised until the batch statistics at every batch norm of f and gT match the stored ones."""

    images: int = Field(96, ge=2, le=65_536)
    steps: int = Field(50, ge=1, le=100_000)
    learning_rate: float = Field(0.2, gt=0, le=10, description="Adam, cosine to zero; in units of the input")
    statistics_weight: Weight = 1.0
    class_weight: Weight = 0.03
    variation_weight: Weight = 0.01
    rounds: int = Field(
        0,
        ge=0,
        le=100,
        description="After these images: a student learns from all so far, and images on which it differs from gT join them",
    )
    round_images: int = Field(48, ge=2, le=65_536, description="That a round adds")
    round_steps: int = Field(40, ge=1, le=100_000)
    round_learning_rate: float = Field(0.05, gt=0, le=10, description="Of these steps; in units of the input")
    rival_steps: int = Field(200, ge=1, le=100_000, description="Of the student, before each round")
    rival_layers: int | None = Field(
        None,
        ge=1,
        le=8,
        description="Of the student's adapter. By default it is h's, which goes on from the last student; named, h starts anew, as"
        " depths to choose from do, where it is the deepest",
    )
    rivalry_weight: Weight = Field(0.3, description="Of the logarithm of how far student and gT are apart")
    sketch_weight: Weight = Field(
        1.0,
        description="For dense outputs, where f's file has a sketch: of its mean and variance, by place and direction",
    )


DENSE_INVERSION: dict[str, float] = {"images": 64, "steps": 100, "learning_rate": 0.15, "rounds": 3}
"""What is not named of it, for segmentation: the place of each thing counts, and a student has to be shown where it is wrong."""


class MomentsRecipe(Frozen):
    """Gaussian features with f's mean and covariance, from the sketch that f's owner ships."""

    directions: int = Field(64, ge=1, le=4096)


class BankRecipe(Frozen):
    """Features that are made once, with gT's outputs and gradients, and drawn from at every step."""

    rows: int = Field(1024, ge=0, le=10_000_000, description="At most; 0: fresh features at every step")
    mebibytes: int = Field(512, ge=1, le=2**20, description="Memory for them; where not even two batches fit, none")


class StopRecipe(Frozen):
    """When a training stops by itself: student and teacher agree no better on fresh noise. Without distillation it never does."""

    every: int = Field(20, ge=1, le=100_000, description="Steps between two looks")
    patience: int = Field(3, ge=0, le=1000, description="Looks without a rise that end it; 0: all steps are done")
    tolerance: float = Field(0.005, ge=0, le=1, description="A rise by less is none")
    cooling: float = Field(0.5, gt=0, le=10, description="Steps at a falling rate, as a share of those before")
