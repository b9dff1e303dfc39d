"""Verbs about generic networks: categories by tasks, grown one teacher at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from graftery.client.answers import parse
from graftery.client.catalogue import MEASURING_TIMEOUT
from graftery.client.jobs import JobRef, PerTask
from graftery.client.verbs import Verbs, request_of
from graftery.spec.generic import (
    Accept,
    CellRequest,
    CellState,
    ChangeOut,
    ConsolidateRequest,
    GenericCertificate,
    GenericOut,
    GenericRequest,
    GenericSummary,
    GrowOut,
    GrowRequest,
    MembersRequest,
    PromoteRequest,
    RollbackRequest,
)
from graftery.spec.names import check_name
from graftery.spec.recipes import ConsolidateRecipe, TransplantRecipe
from graftery.spec.wire import JobOut


class GenericVerbs(Verbs):
    def create_generic(
        self, name: str, categories: Sequence[str] = (), tasks: Sequence[str] = (), *, description: str | None = None
    ) -> GenericOut:
        """Name categories and tasks that belong together; networks that join two of them already become its cells.

        One that is there stays as it is, and gets what it lacks.

        Raises:
            Conflict: the name is of another kind; a member is in it with another version.
        """
        said = {"name": name, "categories": [*categories], "tasks": [*tasks], "description": description}
        body = request_of(GenericRequest, said).model_dump(exclude_none=True)
        return parse(GenericOut, self._transport.post("/v1/generic", body))

    def generics(self, *, limit: int | None = None) -> Iterator[GenericSummary]:
        """The generic networks, newest first."""
        return self._pages(GenericSummary, "/v1/generic", limit=limit)

    def generic(
        self,
        name: str,
        *,
        categories: Sequence[str] = (),
        tasks: Sequence[str] = (),
        states: Sequence[CellState] = (),
        within: float | None = None,
    ) -> GenericOut:
        """The matrix: every category under every task, each cell with its state and how good it is.

        Args:
            categories, tasks, states: only such cells; by default all.
            within: only cells that are measured within so many points of their teacher.
        """
        return parse(GenericOut, self._transport.get(generic_path(name), **_filters(categories, tasks, states, within)))

    def generic_csv(
        self,
        name: str,
        *,
        categories: Sequence[str] = (),
        tasks: Sequence[str] = (),
        states: Sequence[CellState] = (),
        within: float | None = None,
    ) -> str:
        """The same as CSV: a line for each cell, with a head."""
        asked = _filters(categories, tasks, states, within)
        return self._transport.get(generic_path(name), format="csv", **asked).text

    def add_members(self, name: str, categories: Sequence[str] = (), tasks: Sequence[str] = ()) -> GenericOut:
        """Add rows and columns to a generic network, with no jobs."""
        body = request_of(MembersRequest, {"categories": [*categories], "tasks": [*tasks]}).model_dump()
        return parse(GenericOut, self._transport.post(f"{generic_path(name)}/members", body))

    def remove_member(self, name: str, member: str) -> None:
        """Take a category or a task out of a generic network, with its cells. Modules and networks stay.

        Raises:
            Conflict: `job_state`, a job about one of its cells has not ended.
        """
        path = f"{generic_path(name)}/members/{quote(check_name(member), safe='')}"
        self._transport.request("DELETE", path)

    def place_cell(self, name: str, network: str, *, replace: bool = False) -> GenericOut:
        """Put a network at hand, composed or learned, into the cell of its category and task.

        Args:
            replace: also where the cell has another one; `rollback_generic` undoes that.
        Raises:
            Misfit: `cells_differ`, it is composed of other versions than the network's other cells.
        """
        body = request_of(CellRequest, {"network": network, "replace": replace}).model_dump()
        return parse(GenericOut, self._transport.post(f"{generic_path(name)}/cells", body))

    def grow(
        self,
        name: str,
        category: str,
        *,
        tasks: Sequence[str] | None = None,
        teacher_task: PerTask | None = None,
        samples: PerTask | None = None,
        unlabelled: str | None = None,
        evaluate_on: PerTask | None = None,
        recipe: TransplantRecipe | Mapping[str, Any] | None = None,
        accept: Accept | Mapping[str, Any] | None = None,
        baseline: bool = False,
        force: bool = False,
        dry_run: bool = False,
    ) -> GrowOut:
        """Add a teacher: its category becomes a row, and each cell of it that is missing gets the job of a transplant.

        What is there or under way stays as it is: the same request, sent again, goes on with what is missing.

        Args:
            name: of the generic network.
            category: reference of the teacher's f.
            tasks: names of the columns that are meant; by default all.
            teacher_task, samples, unlabelled, evaluate_on, recipe, force: as for `transplant`; by task, where they differ.
            accept: which results become cells: `{"within": 5.0, "agreement": 0.2}`.
            baseline: also learn each cell directly from the samples, to stand beside it.
            dry_run: only say what would be done, what it takes, and in which order.
        Returns:
            Every cell of the row, what becomes of it, and its job, for `wait_all`.
        Raises:
            Conflict, Misfit: nothing is begun; a task of the teacher is not in the network, or something does not fit.
        """
        if not isinstance(recipe, TransplantRecipe):
            recipe = request_of(TransplantRecipe, recipe or {}, code="recipe_invalid")
        said: dict[str, Any] = {"category": category, "tasks": None if tasks is None else [*tasks], "recipe": recipe}
        said |= {"teacher_task": teacher_task, "samples": samples, "unlabelled": unlabelled, "evaluate_on": evaluate_on}
        said |= {"baseline": baseline, "force": force, "dry_run": dry_run} | ({"accept": accept} if accept else {})
        wanted = request_of(GrowRequest, said)
        # Only what was said: what is left out is for the service to choose.
        body = wanted.model_dump(mode="json", exclude_none=True, exclude_unset=True)
        return parse(GrowOut, self._transport.post(f"{generic_path(name)}/grow", body, timeout=MEASURING_TIMEOUT))

    def consolidate(
        self,
        name: str,
        *,
        task: str | None = None,
        category: str | None = None,
        samples: PerTask | None = None,
        unlabelled: PerTask | None = None,
        evaluate_on: PerTask | None = None,
        recipe: ConsolidateRecipe | Mapping[str, Any] | None = None,
    ) -> JobOut:
        """Let a task module learn on over the features of all its categories, or a category module with the gradients of all its tasks.

        The job publishes new versions, and measures every cell before and after; the network keeps its cells until `promote`.

        Args:
            task, category: the name of the column or of the row; one of them.
            samples, unlabelled, evaluate_on: references, for all cells, or by the other name of the cell (of a column, its category).
            recipe: how; what is left out is chosen.
        Raises:
            Misfit: before a job exists: `cells_differ`, cells are composed of other versions.
        """
        if not isinstance(recipe, ConsolidateRecipe):
            recipe = request_of(ConsolidateRecipe, recipe or {}, code="recipe_invalid")
        said = {"task": task, "category": category, "samples": samples, "unlabelled": unlabelled}
        wanted = request_of(ConsolidateRequest, said | {"evaluate_on": evaluate_on, "recipe": recipe})
        body = wanted.model_dump(mode="json", exclude_none=True, exclude_unset=True)
        return parse(JobOut, self._transport.post(f"{generic_path(name)}/consolidate", body))

    def promote(self, name: str, *jobs: JobRef, worst: float = 0.5) -> ChangeOut:
        """Put what consolidations made into all cells that they were about, or into none; `rollback_generic` undoes it.

        Args:
            jobs: consolidations of rows or columns that share no cell.
            worst: points that no cell may be worse by.
        Raises:
            Conflict: `cells_worse`, with the cells; `conflict`, somebody changed one of them meanwhile.
        """
        said = {"jobs": [job if isinstance(job, str) else job.id for job in jobs], "worst": worst}
        body = request_of(PromoteRequest, said).model_dump()
        return parse(ChangeOut, self._transport.post(f"{generic_path(name)}/promote", body))

    def rollback_generic(self, name: str, change: int | None = None) -> ChangeOut:
        """Undo a promotion, or a cell that was replaced; by default the last change that can be undone.

        Raises:
            Conflict: there is nothing to undo, or a cell of it changed again since.
        """
        body = request_of(RollbackRequest, {"change": change}).model_dump(exclude_none=True)
        return parse(ChangeOut, self._transport.post(f"{generic_path(name)}/rollback", body))

    def generic_changes(self, name: str, *, limit: int | None = None) -> Iterator[ChangeOut]:
        """What happened to a generic network, the newest first."""
        return self._pages(ChangeOut, f"{generic_path(name)}/changes", limit=limit)

    def generic_certificate(self, name: str) -> GenericCertificate:
        """Whether a cell ever answered differently after a job."""
        return parse(GenericCertificate, self._transport.get(f"{generic_path(name)}/certificate"))

    def delete_generic(self, name: str) -> None:
        """Delete a generic network and its history. Its modules, networks and jobs stay."""
        self._transport.request("DELETE", generic_path(name))


def generic_path(name: str) -> str:
    return f"/v1/generic/{quote(check_name(name), safe='')}"


def _filters(
    categories: Sequence[str], tasks: Sequence[str], states: Sequence[str], within: float | None
) -> dict[str, Any]:
    return {"category": [*categories], "task": [*tasks], "state": [*states], "within": within}
