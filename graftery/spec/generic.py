"""What crosses HTTP of generic networks: categories by tasks, each cell a network, and what makes it grow."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict, StrictBool, model_validator

from graftery.spec.manifest import Frozen
from graftery.spec.recipes import ConsolidateRecipe, TransplantRecipe
from graftery.spec.references import MAX_TASKS, Name, PerTask, Ref, distinct
from graftery.spec.wire import PrecheckOut, Request, Wire, whole

MOST_MEMBERS = 1000
"""Rows or columns of a generic network."""
MOST_CELLS = 10_000

CellState = Literal["missing", "running", "ready", "failed", "rejected"]
GrowAction = Literal["start", "kept", "running", "rejected", "no_teacher"]
ChangeAction = Literal["create", "add", "remove", "cell", "place", "promote", "rollback"]

Members = Annotated[list[Ref], AfterValidator(distinct)]


class GenericRequest(Request):
    """Name categories and tasks that belong together. Networks that join two of them already are their cells."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "zoo", "categories": ["animals"], "tasks": ["animals-is"]}]},
    )

    name: Name
    categories: Members = Field([], max_length=MOST_MEMBERS, json_schema_extra={"uniqueItems": True})
    tasks: Members = Field([], max_length=MOST_MEMBERS, json_schema_extra={"uniqueItems": True})
    description: str | None = Field(None, max_length=65_536, description="Markdown")


class MembersRequest(Request):
    """More categories and tasks; those that are there stay as they are."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"tasks": ["animals-turn"]}]})

    categories: Members = Field([], max_length=MOST_MEMBERS, json_schema_extra={"uniqueItems": True})
    tasks: Members = Field([], max_length=MOST_MEMBERS, json_schema_extra={"uniqueItems": True})


class Accept(Frozen):
    """What a cell has to be to be kept. What was not measured is not asked."""

    within: float | None = Field(
        5.0,
        ge=0,
        le=100,
        description="Points of its metric that it may be below the teacher, on the samples to measure on",
    )
    agreement: float | None = Field(
        0.2, ge=-1, le=1, description="The least Cohen's kappa with the teacher on noise, where nothing was measured"
    )


class GrowRequest(Request):
    """Add a teacher: a transplant of its category into each task of the network whose cell is missing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"category": "cat", "dry_run": True}, {"category": "cat", "evaluate_on": "cats"}]
        },
    )

    category: Ref = Field(description="Of the teacher; it becomes a row, if it is none yet")
    tasks: Members | None = Field(
        None,
        min_length=1,
        max_length=MAX_TASKS,
        description="Only these columns; by default all, and then the network has to have every task of the teacher",
        json_schema_extra={"uniqueItems": True},
    )
    teacher_task: PerTask | None = Field(None, description="gT; by default the teacher's own. Or by task")
    samples: PerTask | None = Field(None, description="Labelled samples; for all tasks, or by task")
    unlabelled: Ref | None = Field(None, description="Images without labels")
    evaluate_on: PerTask | None = Field(None, description="Labelled samples to measure on. For all tasks, or by task")
    recipe: TransplantRecipe = Field(default_factory=TransplantRecipe)
    accept: Accept = Field(default_factory=Accept, description="Which results become cells")
    baseline: StrictBool = Field(
        False, description="Also learn each cell directly from the labelled samples, to stand beside it"
    )
    force: StrictBool = Field(False, description="Join although preprocessing or meanings disagree")
    dry_run: StrictBool = Field(False, description="Say what would be done, and do nothing")


class CellRequest(Request):
    """Put a network at hand into the cell of its category and task."""

    network: Ref
    replace: StrictBool = Field(False, description="Also where the cell has another network; `rollback` undoes it")


class ConsolidateRequest(Request):
    """Let one module learn from all its cells: a task module over its categories' features, or a category module from its tasks."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"task": "animals-is"}, {"category": "cat", "evaluate_on": {"animals-is": "cats"}}],
            # As `_one` has it.
            "oneOf": [
                {"required": [one], "properties": {one: {"type": "string"}, other: {"type": "null"}}}
                for one, other in (("task", "category"), ("category", "task"))
            ],
        },
    )

    task: Name | None = Field(None, description="The column whose module learns on")
    category: Name | None = Field(None, description="Or the row")
    samples: PerTask | None = Field(
        None,
        description="Labelled samples; for all cells, or by the other name of the cell: of a column its categories",
    )
    unlabelled: PerTask | None = Field(None, description="Images without labels; for all cells, or by that name")
    evaluate_on: PerTask | None = Field(
        None, description="Labelled samples to measure on; for all cells, or by that name"
    )
    recipe: ConsolidateRecipe = Field(default_factory=ConsolidateRecipe)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.task is None) == (self.category is None):
            raise ValueError("name a task or a category, not both")
        return self


class PromoteRequest(Request):
    """Put what consolidations made into the cells that they are about: all of them, or none."""

    jobs: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]], AfterValidator(distinct)
    ] = Field(
        min_length=1,
        max_length=64,
        description="Of rows or columns that share no cell",
        json_schema_extra={"uniqueItems": True},
        examples=[["0196f2c8a4c0"]],
    )
    worst: float = Field(
        0.5, ge=0, le=100, description="Points that no cell may be worse by, by its metric, or else by agreement"
    )


class RollbackRequest(Request):
    """Undo a promotion, or a cell that was replaced."""

    # Not `Whole` with bounds: within a union, these do not come into the schema.
    change: Annotated[int, Field(ge=1, lt=2**53), BeforeValidator(whole), Strict()] | None = Field(
        None, description="Of the network's changes; by default the last that can be undone"
    )


class Figure(Wire):
    """A metric on labelled samples, with the interval of its resamples."""

    metric: str = Field(examples=["accuracy"])
    value: float
    interval: tuple[float, float] | None = None


class CellJob(Wire):
    id: str
    state: str
    error: str | None = Field(None, description="Code and message, where it failed")


class CellCertificate(Wire):
    """What is known of a cell's answers staying the same: how often it was asked again after somebody's job."""

    recorded: bool = Field(description="Its answers at probe inputs are kept")
    replays: int = 0
    identical: int = 0
    different: int = 0


class CellOut(Wire):
    """One category under one task."""

    category: str = Field(examples=["cat"])
    task: str = Field(examples=["animals-is"])
    state: CellState
    network: str | None = Field(None, examples=["zoo-cat-animals-is:1"])
    digest: str | None = None
    figure: Figure | None = Field(None, description="Of the network, where it was measured")
    teacher: Figure | None = Field(None, description="Of the teacher, on the same samples")
    direct: Figure | None = Field(None, description="Of direct learning from the labelled samples alone")
    samples: int | None = Field(None, description="How many samples these were measured on")
    labels: int | None = Field(None, description="Labelled samples that it learned from")
    agreement: float | None = Field(None, description="Cohen's kappa with the teacher on noise; no accuracy")
    parameters: int | None = Field(None, description="Of the adapter; 0 without one")
    precheck: PrecheckOut | None = None
    recipe: dict[str, Any] | None = None
    job: CellJob | None = Field(None, description="The last that is about the cell")
    certificate: CellCertificate | None = None
    reason: str | None = Field(None, description="Why there is no network")


class MemberOut(Wire):
    name: str
    ref: str = Field(description="The version that its cells are of")
    digest: str


class GenericSummary(Wire):
    name: str
    description: str = ""
    categories: int
    tasks: int
    ready: int = Field(description="Cells that have a network")
    created_at: datetime
    updated_at: datetime


class GenericOut(Wire):
    """A generic network: its rows, its columns and the cells, row by row."""

    name: str
    description: str = ""
    categories: list[MemberOut]
    tasks: list[MemberOut]
    cells: list[CellOut]
    created_at: datetime
    updated_at: datetime


class GrowCell(Wire):
    """What becomes of one cell, and what that takes."""

    category: str
    task: str
    action: GrowAction
    reason: str | None = None
    order: int | None = Field(None, description="1: its job is queued first; the cheapest are")
    network: str | None = Field(None, description="The name that it gets, or the network that is there")
    job: str | None = None
    baseline: str | None = Field(None, description="The job of direct learning, where it is asked for")
    precheck: PrecheckOut | None = None
    flops: int | None = Field(None, description="About what its steps take")
    memory_bytes: int | None = None
    seconds: float | None = Field(
        None, description="Median of the last transplants into this task; null: there were none"
    )
    recipe: dict[str, Any] | None = Field(None, description="Complete, as it will run")


class GrowOut(Wire):
    name: str
    category: str
    dry_run: bool
    cells: list[GrowCell]


class ChangeOut(Wire):
    """One change of a generic network; `cells` and `members` as they were and as they became."""

    id: int
    action: ChangeAction
    at: datetime
    by: str | None = None
    members: dict[str, list[str | None]] = Field(
        default_factory=dict, description="Name to the version before and after"
    )
    cells: list[dict[str, str | None]] = Field(default_factory=list, description="category, task, old and new")
    jobs: list[str] = Field(default_factory=list, description="That made what came in")
    undoes: int | None = None


class GenericCertificate(Wire):
    """Whether any cell ever answered differently after a job: the certificate over the whole matrix."""

    name: str
    cells: int
    recorded: int
    replays: int
    identical: int
    different: list[str] = Field(description="Networks of cells that answered differently at least once")
