"""What a module file says about itself, and the facts that a verifier derives from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from graftery.spec.names import DIGEST_PATTERN

FileKind = Literal["category", "task", "adapter", "teacher", "group", "clone"]
Kind = Literal[FileKind, "network", "samples", "generic"]
FILE_KINDS: tuple[Kind, ...] = get_args(FileKind)
Semantics = Literal["feature", "classification", "segmentation", "regression"]
Role = Literal[
    "teacher",
    "category",
    "task",
    "teacher_task",
    "adapter",
    "samples",
    "evaluation_samples",
    "group",
    "source",
    "target",
    "clone",
]
CompatMethod = Literal["RP", "DCC", "IIW"]
UNNAMED = "output"
"""What the only output of a net is called whose owner did not say."""
Size = Annotated[int, Field(ge=0, le=2**40)] | Annotated[str, Field(pattern=r"^[NHW]$")]
Digest = Annotated[str, Field(pattern=f"^{DIGEST_PATTERN}$")]


class Frozen(BaseModel):
    """Base of the vocabulary: immutable, and a field that nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(Frozen):
    """A tensor's dtype and shape. `N` is the batch and always first; `H` and `W` are free."""

    dtype: str = Field(examples=["float32"])
    shape: tuple[Size, ...] = Field(max_length=6, examples=[["N", 3, 32, 32]])


class OutputMeaning(Frozen):
    """What an output's numbers mean.

    `classification` is logits [N, K], `segmentation` logits [N, K, H, W], `regression` values of any shape; K = 1 is
    one logit against zero, K > 1 one logit a class. `feature` is what a category module gives.
    """

    semantics: Semantics = "feature"
    class_names: tuple[str, ...] | None = Field(default=None, max_length=10_000)
    unit: str | None = Field(default=None, max_length=64)


class OutputSpec(OutputMeaning, TensorSpec):
    """An output's dtype and shape, and what its numbers mean."""

    @property
    def meaning(self) -> OutputMeaning:
        return OutputMeaning(semantics=self.semantics, class_names=self.class_names, unit=self.unit)


class Preprocessing(Frozen):
    """What was done to an image before it became the input, per channel: (value in `value_range` - mean) / std."""

    mean: tuple[FiniteFloat, ...] = Field(max_length=64)
    std: tuple[FiniteFloat, ...] = Field(max_length=64)
    value_range: tuple[FiniteFloat, FiniteFloat] = (0.0, 1.0)
    colour_order: Literal["RGB", "BGR", "grey", "other"] = "RGB"


class Parent(Frozen):
    """One step of lineage: the file that this one was made from, by its digest."""

    role: Role
    digest: Digest


class GroupSpec(Frozen):
    """What the networks of a compatibility group agree on before they are trained.

    RP: a shared head tells how far an image was turned. DCC: a shared head tells the common classes apart. IIW: all
    begin with the same weights.
    """

    methods: tuple[CompatMethod, ...] = Field((), description="Each at most once")
    common: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        max_length=10_000,
        description="Common classes, and the names that tasks have for each. The head's logits are in the order of the alphabet,"
        " whatever order they are given in: a file, in which keys are sorted, would keep no other",
        examples=[{"car": ["car", "automobile"]}],
    )
    image: TensorSpec = Field(description="What goes into the feature extractors")

    @field_validator("common")
    @classmethod
    def _in_order(cls, common: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return dict(sorted(common.items()))

    @model_validator(mode="after")
    def _once(self) -> Self:
        names = [name for names in self.common.values() for name in names]
        if len(set(names)) < len(names) or len(set(self.methods)) < len(self.methods):
            raise ValueError("a method, or the name of a class, is there twice")
        return self


class CloneSpec(Frozen):
    """What a clone is a part of, and where it goes in.

    The clone's file maps the target's features at `position` to the logits of its classes, but for what `clone.old`
    [classes, D] adds to them: a linear map of the target's last features.
    """

    target: Digest = Field(description="Content digest of the whole target network")
    source: Digest = Field(description="Content digest of the whole source network")
    position: str = Field(max_length=200, description="The target's layer whose features it reads")
    origin: str = Field(max_length=200, description="The source's layer that the clone begins behind")
    keep: float = Field(gt=0, le=1, description="Share of each layer's channels that was kept")
    classes: tuple[str, ...] = Field(min_length=1, max_length=10_000, description="In the order of its logits")


class Manifest(Frozen):
    """What the owner states about a module; shapes are checked by the verifier, meanings are taken on trust."""

    kind: FileKind
    input: TensorSpec
    outputs: dict[str, OutputSpec] = Field(min_length=1, max_length=64)
    preprocessing: Preprocessing | None = None
    cut: str | None = Field(default=None, max_length=200, description="The layer path at which a teacher was cut")
    parents: tuple[Parent, ...] = Field(default=(), max_length=64)
    group: GroupSpec | None = Field(default=None, description="Of a compatibility group")
    clone: CloneSpec | None = Field(default=None, description="Of a clone")
    description: str = Field(default="", max_length=65_536, description="Markdown")
    licence: str | None = Field(default=None, max_length=200)
    metadata: dict[str, str] = Field(default_factory=dict, max_length=100)


class Facts(Frozen):
    """What the verifier found: none of it is taken from the owner."""

    # A process reads what a newer one found beside it, while one after the other is upgraded.
    model_config = ConfigDict(frozen=True, extra="ignore")

    input: TensorSpec
    outputs: dict[str, TensorSpec]
    parameters: int = Field(ge=0)
    flops_per_sample: int = Field(ge=0)
    elements_per_sample: int | None = Field(
        None,
        ge=0,
        description="Of all values that a sample becomes on its way; null for what was published before that",
    )
    largest_per_sample: int | None = Field(None, ge=0, description="Of the largest of these values")
    nodes: int = Field(ge=0)
    operators: tuple[str, ...]
    layers: tuple[str, ...] = Field(default=(), description="Layer paths that a cut may name")
    has_batch_norm: bool = False
    has_sketch: bool = False
    has_crops: bool = False
    content_digest: Digest = Field(description="sha256 over op graph and weights only")


class LabelFacts(Frozen):
    """What the labels of a sample set hold: `classes`, where all are whole numbers from 0 to 4095, are those that occur."""

    least: float
    greatest: float
    whole: bool
    classes: tuple[int, ...] | None = None


class SamplesFacts(Frozen):
    """What the verifier found in a sample set: `x` [n, ...] and, where there are labels, `y` [n] or [n, ...]."""

    count: int = Field(ge=1)
    labelled: bool
    x: TensorSpec
    y: TensorSpec | None = None
    labels: LabelFacts | None = Field(
        None, description="Of y; null for sets that were published before it was looked at"
    )


class NetworkParts(Frozen):
    """A network is a pinned triple: gS(h(f(x))). Without an adapter, gS(f(x)). Clones add classes to it, in this order."""

    category: Digest
    adapter: Digest | None = None
    task: Digest
    clones: tuple[Digest, ...] | None = Field(default=None, min_length=1, max_length=64)

    def by_role(self) -> list[tuple[Role, str]]:
        """Role and digest of each module; clones in their order."""
        chain: tuple[tuple[Role, str | None], ...] = (
            ("category", self.category),
            ("adapter", self.adapter),
            ("task", self.task),
            *(("clone", digest) for digest in self.clones or ()),
        )
        return [(role, digest) for role, digest in chain if digest is not None]

    def members(self) -> dict[str, str]:
        """Digest of each module by its place: `category`, `adapter`, `task`, `clone.0`, `clone.1`, ..."""
        chain = {"category": self.category, "adapter": self.adapter, "task": self.task}
        clones = {f"clone.{index}": digest for index, digest in enumerate(self.clones or ())}
        return {place: digest for place, digest in {**chain, **clones}.items() if digest is not None}


def json_of(model: BaseModel) -> dict[str, Any]:
    """The JSON value of a model without what is unset: the form that is stored and hashed."""
    return model.model_dump(mode="json", exclude_none=True)
