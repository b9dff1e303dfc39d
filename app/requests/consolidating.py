"""From a request to consolidate to a job: the cells that share the module, and what teaches each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.requests import transplants
from app.requests.parts import facts_of, samples_of
from graftery.errors import Conflict, GrafteryError, RecipeRefused
from graftery.spec.consolidating import MOST_CELLS, Shared
from graftery.spec.generic import ConsolidateRequest
from graftery.spec.manifest import json_of
from graftery.spec.memory import estimate_consolidation
from graftery.spec.recipes import ConsolidateRecipe, TransplantRecipe
from graftery.spec.references import of_task, strays
from registry import catalogue, generics, jobs
from registry.access import caller
from registry.generics import Cell, Grid
from registry.models import Job, Version

_SETS = ("samples", "unlabelled", "evaluate_on")


@dataclass(frozen=True)
class _Taught:
    """A cell that learns, and what it learns from: gT and sample sets, by role."""

    cell: Cell
    network: Version
    given: dict[str, Version]

    @property
    def pins(self) -> dict[str, str]:
        return {role: version.pin for role, version in {"network": self.network, **self.given}.items()}


def submit(session: Session, name: str, request: ConsolidateRequest) -> Job:
    """Check the cells of the row or column, and queue the job. What it makes is not in the network before it is promoted.

    Raises:
        NotFound: a name or reference leads to nothing.
        Conflict: there is no cell with a network; a reference is of another kind.
        Misfit: `cells_differ`.
        RecipeRefused, SamplesRefused: nothing teaches, or the sample sets do not fit.
    """
    caller.check_name(name)
    there = generics.grid(session, generics.find(session, name, lock=True))
    kind: Shared = "task" if request.task is not None else "category"
    module = there.member(request.task or request.category or "", kind)
    cells = _cells(session, there, module, kind, request)
    _check_taught(cells, request.recipe)
    for network in {each.network.module.name for each in cells} | {module.module.name}:
        caller.check_name(network)
    told = [
        {
            "category": each.cell.category.module.name,
            "task": each.cell.task.module.name,
            "before": each.network.ref,
        }
        for each in cells
    ]
    asked = request.model_dump(mode="json", exclude_none=True)
    pinned = {f"cell.{index}.{role}": pin for index, each in enumerate(cells) for role, pin in each.pins.items()}
    return jobs.submit(
        session,
        kind="consolidate",
        request={**asked, "name": module.module.name, "generic": {"name": name}, "kind": kind, "cells": told},
        pinned={kind: module.pin, **pinned},
        recipe=json_of(request.recipe),
        memory_bytes=_memory(cells, request.recipe),
    )


def _cells(session: Session, there: Grid, module: Version, kind: Shared, request: ConsolidateRequest) -> list[_Taught]:
    found = [
        (cell, cell.network) for cell in there.cells if module.module_id in cell.place and cell.network is not None
    ]
    if not found:
        raise Conflict(
            f"no cell of {module.module.name} in {there.generic.name} has a network",
            hint="grow the generic network first",
        )
    if len(found) > MOST_CELLS:
        raise RecipeRefused(
            f"{module.module.name} has {len(found)} cells; {MOST_CELLS} are the most that it learns on from"
        )
    others = {_other(cell, kind).module.name for cell, _ in found}
    _check_said(request, sorted(others))
    return [_taught(session, cell, network, kind, request) for cell, network in found]


def _other(cell: Cell, kind: Shared) -> Version:
    return cell.category if kind == "task" else cell.task


def _check_said(request: ConsolidateRequest, others: Sequence[str]) -> None:
    for field in _SETS:
        if unknown := strays(getattr(request, field), others):
            raise GrafteryError(
                f"{field} names {unknown[0]}, which is none of the cells: they are {', '.join(others[:20])}",
                code="request_invalid",
                hint="of a task's cells name the categories, of a category's the tasks",
            )


def _taught(session: Session, cell: Cell, network: Version, kind: Shared, request: ConsolidateRequest) -> _Taught:
    other = _other(cell, kind).module.name
    named = {role: of_task(getattr(request, role), other) for role in _SETS}
    given = {
        role: catalogue.resolve(session, ref, kinds={"samples"}, for_pin=True)
        for role, ref in named.items()
        if ref is not None
    }
    try:
        transplants.check_sets({"category": cell.category, "task": cell.task, **given})
        if "samples" in given and request.recipe.labels != 0:
            used = request.recipe.labels or samples_of(given["samples"]).count
            transplants.check_taught(given["samples"], cell.task, used)
    except GrafteryError as error:
        error.message = f"{cell}: {error.message}"
        raise
    teacher = _teacher(session, cell)
    return _Taught(cell, network, given if teacher is None else {**given, "teacher_task": teacher})


def _teacher(session: Session, cell: Cell) -> Version | None:
    """gT; None where nothing is known of it, or where it is gS itself: such a cell is held to what it is."""
    try:
        found = transplants.teacher_task_of(session, cell.category, cell.task, TransplantRecipe())
    except Conflict:
        return None
    return None if found is None or found.digest == cell.task.digest else found


def _check_taught(cells: Sequence[_Taught], recipe: ConsolidateRecipe) -> None:
    if not any("teacher_task" in each.given or ("samples" in each.given and recipe.labels != 0) for each in cells):
        raise RecipeRefused(
            "no cell has a teacher's task module or labelled samples: there is nothing to learn",
            code="samples_missing",
            hint="name samples for some of the cells",
        )


def _memory(cells: Sequence[_Taught], recipe: ConsolidateRecipe) -> int | None:
    nets = []
    for each in cells:
        teacher = each.given.get("teacher_task")
        nets.append(
            (facts_of(each.cell.category), facts_of(each.cell.task), None if teacher is None else facts_of(teacher))
        )
    return estimate_consolidation(
        nets, recipe, [any(net is not None and net.has_batch_norm for net in own) for own in nets]
    )
