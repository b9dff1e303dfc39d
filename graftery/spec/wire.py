"""What crosses HTTP: requests, responses, job events, problems. The OpenAPI document is made from these."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, StrictBool

from graftery.spec.manifest import Facts, Kind, Manifest, NetworkParts, SamplesFacts
from graftery.spec.recipes import TransplantRecipe
from graftery.spec.references import Alias, Name, PerTask, Ref, Tasks

Tag = Annotated[str, Field(min_length=1, max_length=64, examples=["animals"])]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
JobKind = Literal["transplant", "clone", "consolidate", "collect"]
FINAL_STATES: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled"})
EventType = Literal["state", "progress", "checkpoint", "result"]

_Item = TypeVar("_Item")


def whole(value: object) -> object:
    """3 for 3.0; all else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(whole), Strict()]
"""A whole number as JSON has it: 3 and 3.0, but neither true nor "3"."""


class Wire(BaseModel):
    """Base of responses."""

    model_config = ConfigDict(extra="ignore")


class Request(BaseModel):
    """Base of requests: a field that nobody knows is an error."""

    model_config = ConfigDict(extra="forbid")


class ProblemDocument(Wire):
    """RFC 9457, with the error's code and what helps with it."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["https://graftery.dev/errors#not_found"])
    title: str
    status: int
    detail: str
    code: str = Field(examples=["not_found"])
    hint: str | None = None
    near: list[str] | None = Field(None, description="Names like the one that was not found")
    request_id: str | None = None


class Page(Wire, Generic[_Item]):
    """One page, newest first; `next` is the cursor of the page after it."""

    items: list[_Item]
    next: str | None = None


class VersionOut(Wire):
    """One immutable version of a module, network or sample set."""

    name: str
    kind: Kind
    version: int = Field(ge=1)
    ref: str = Field(examples=["cat:1"])
    digest: str = Field(description="sha256 of the file")
    size_bytes: int
    created_at: datetime
    created_by: str | None = None
    aliases: list[str] = []
    tags: list[str] = []
    yanked: bool = False
    yank_reason: str | None = None
    manifest: Manifest | None = None
    facts: Facts | SamplesFacts | None = None
    parts: NetworkParts | None = Field(None, description="Networks only")
    metrics: dict[str, Any] | None = Field(
        None, description="Adapters and networks: how good it is. Members of a group: what its heads reach on them"
    )


class ModuleOut(Wire):
    """A name and what stands behind it."""

    name: str
    kind: Kind
    description: str = ""
    tags: list[str] = []
    versions: int
    latest: int | None = Field(None, description="The newest version that is not yanked")
    aliases: dict[str, int] = {}
    created_at: datetime
    updated_at: datetime


class ModulePatch(Request):
    description: str | None = Field(None, max_length=65_536, description="Markdown")
    tags: list[Tag] | None = Field(None, max_length=64)


class AliasRequest(Request):
    version: Whole = Field(ge=1, lt=10**9)


class AliasOut(Wire):
    name: str
    alias: str
    version: int
    ref: str
    updated_at: datetime
    updated_by: str | None = None


class AliasEvent(Wire):
    """One change of an alias: from which version to which, when and by whom. None: it was not set."""

    alias: str
    old: int | None
    new: int | None
    at: datetime
    by: str | None = None


class YankRequest(Request):
    reason: str = Field(min_length=1, max_length=2000)
    dry_run: StrictBool = Field(False, description="Change nothing, and answer what would be touched")


class TeacherOut(Wire):
    """What a teacher net became: one category module, and for each of its outputs a task module and a network."""

    teacher: VersionOut
    category: VersionOut
    tasks: dict[str, VersionOut]
    networks: dict[str, VersionOut]


class NetworkRequest(Request):
    """Compose modules by hand, with no adapter or with one at hand."""

    name: Name
    category: Ref
    task: Ref
    adapter: Ref | None = None
    alias: Alias | None = None
    evaluate_on: Ref | None = Field(
        None, description="Labelled samples to measure the network on, and the task module on its own category module"
    )
    force: StrictBool = Field(False, description="Compose although preprocessing, meanings or groups disagree")


class TransplantRequest(Request):
    """Learn an adapter between a category module and a task module, and compose the network; or that for each task."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "cat-in-animals", "category": "cat", "task": "animals-is", "recipe": {"steps": 600}},
                {"name": "cat-in-animals", "category": "cat", "task": ["animals-is", "animals-turn"]},
            ]
        },
    )

    name: Name = Field(description="Of the network; the adapter is NAME-adapter. With a list of tasks: NAME-OUTPUT")
    category: Ref
    task: Tasks = Field(
        description="gS, the task module that other categories share; or a list of them, a job for each"
    )
    teacher_task: PerTask | None = Field(
        None, description="gT; by default the one that was cut from the category's own teacher. Or by task"
    )
    samples: PerTask | None = Field(None, description="Labelled samples; for all tasks, or by task")
    unlabelled: Ref | None = Field(None, description="Images without labels")
    evaluate_on: PerTask | None = Field(
        None, description="Labelled samples to measure on; never trained on. For all tasks, or by task"
    )
    recipe: TransplantRecipe = Field(default_factory=TransplantRecipe)
    alias: Alias | None = Field(None, description="Point this alias of the network at the new version")
    force: StrictBool = Field(False, description="Join although preprocessing or meanings disagree")


class JobError(Wire):
    code: str
    message: str


class JobOut(Wire):
    """A job: what was asked, where it stands, what came of it."""

    id: str
    kind: JobKind
    state: JobState
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempt: int = Field(0, description="How often a worker has taken it")
    worker: str | None = None
    memory_bytes: int | None = Field(
        None, description="Estimate of what it needs of its device: only a worker that has it takes the job"
    )
    cancel_requested: bool = False
    progress: dict[str, Any] | None = Field(
        None, examples=[{"phase": "train", "step": 120, "steps": 600, "loss": 0.21}]
    )
    checkpoint_step: int | None = None
    request: dict[str, Any] = Field(description="As it was asked")
    pinned: dict[str, str] = Field(default={}, description="Role to the pinned reference (name@sha256:...)")
    recipe: dict[str, Any] | None = Field(None, description="The exact recipe and seed, defaults filled in")
    result: dict[str, Any] | None = Field(
        None, examples=[{"network": "cat-in-animals:1", "adapter": "cat-in-animals-adapter:1"}]
    )
    error: JobError | None = None
    retry_of: str | None = None


class PrecheckNeighbour(Wire):
    """f beside a category module that feeds the task already, at the task's input, on the same noise."""

    name: str = Field(description="The network that both are in", examples=["animals-is-teacher:1"])
    residual: float | None = Field(
        None, description="Variance of its features that no 1x1 linear map of f's explains, on other noise; 0: none"
    )
    cka: float | None = Field(None, description="Linear CKA of both features: 1, the same up to rotation and scale")
    reason: str | None = Field(None, description="Why a number is null")


class PrecheckOut(Wire):
    """What is known before a transplant, without labels. Nothing of it is an accuracy; null: not measured, see `reason`."""

    status: Literal["ready", "running", "unavailable"] = Field(
        description="running: GET /v1/prechecks has it later; unavailable: it could not be made, see `reason`"
    )
    reason: str | None = None
    seed: int = 0
    features: list[int] | None = Field(None, description="Shape of f's features, without the batch")
    wanted: list[int | None] | None = Field(None, description="Shape of the task's input; null: a free size")
    identity: bool | None = Field(None, description="f's features fit the task's input as they are")
    layers: list[str] | None = Field(
        None, description="Of the adapter that joins them", examples=[["3x3 convolution 48 to 48"]]
    )
    parameters: int | None = Field(None, description="Numbers that are learned")
    images: int | None = Field(None, description="Noise images that were compared")
    residual: float | None = Field(None, description="The least of the neighbours'")
    cka: float | None = Field(None, description="The greatest of the neighbours'")
    neighbours: list[PrecheckNeighbour] = []


class TransplantOut(JobOut):
    """The job of a transplant as it was queued, and what is known before it runs."""

    precheck: PrecheckOut | None = None


class TransplantsOut(Wire):
    """The jobs of a request for several tasks, in their order."""

    jobs: list[TransplantOut]


class JobEvent(Wire):
    """One event of a job; `seq` counts from 1 within the job and is the SSE id."""

    seq: int
    type: EventType
    at: datetime
    data: dict[str, Any]


class CollectRequest(Request):
    dry_run: StrictBool = False


class Health(Wire):
    status: Literal["ok", "degraded"]
    version: str
    checks: dict[str, str] = {}
