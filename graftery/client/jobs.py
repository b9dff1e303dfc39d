"""Verbs about work: ask for it, follow it, end it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, overload
from urllib.parse import quote

from graftery.client.answers import error_from, parse
from graftery.client.events import PATIENCE_S, follow, looking
from graftery.client.verbs import Verbs, request_of
from graftery.errors import Conflict
from graftery.spec.recipes import TransplantRecipe
from graftery.spec.wire import (
    FINAL_STATES,
    CollectRequest,
    JobEvent,
    JobKind,
    JobOut,
    JobState,
    PrecheckOut,
    TransplantOut,
    TransplantRequest,
    TransplantsOut,
)

PRECHECK_PATIENCE_S = 120.0
_ASK_AGAIN_S = 0.5

JobRef: TypeAlias = JobOut | str
"""A job or its id."""
PerTask: TypeAlias = str | Mapping[str, str]
"""A reference, or with several tasks one for each: the task, as it was written, to its reference."""


class JobVerbs(Verbs):
    @overload
    def transplant(
        self,
        category: str,
        task: str,
        *,
        name: str,
        recipe: TransplantRecipe | Mapping[str, Any] | None = None,
        teacher_task: PerTask | None = None,
        samples: PerTask | None = None,
        unlabelled: str | None = None,
        evaluate_on: PerTask | None = None,
        alias: str | None = None,
        force: bool = False,
    ) -> TransplantOut: ...

    @overload
    def transplant(
        self,
        category: str,
        task: list[str],
        *,
        name: str,
        recipe: TransplantRecipe | Mapping[str, Any] | None = None,
        teacher_task: PerTask | None = None,
        samples: PerTask | None = None,
        unlabelled: str | None = None,
        evaluate_on: PerTask | None = None,
        alias: str | None = None,
        force: bool = False,
    ) -> list[TransplantOut]: ...

    def transplant(
        self,
        category: str,
        task: str | list[str],
        *,
        name: str,
        recipe: TransplantRecipe | Mapping[str, Any] | None = None,
        teacher_task: PerTask | None = None,
        samples: PerTask | None = None,
        unlabelled: str | None = None,
        evaluate_on: PerTask | None = None,
        alias: str | None = None,
        force: bool = False,
    ) -> TransplantOut | list[TransplantOut]:
        """Ask for an adapter between a category module and a task module that other categories share.

        Args:
            category: reference of f.
            task: reference of gS; neither f nor gS is changed. A list of them: a job for each, and all are taken or none.
            name: of the network gS(h(f(x))) that comes of it; the adapter is NAME-adapter. With a list of tasks the
                networks are NAME-OUTPUT, by the names of the tasks' outputs.
            recipe: how to learn; what is left out is chosen for the labels at hand.
            teacher_task: reference of gT; by default the one that was cut from the category's own teacher.
            samples: reference of a labelled sample set. Without one, nothing is needed but the modules.
            unlabelled: reference of a sample set whose images are used, and whose labels are not.
            evaluate_on: reference of a labelled sample set to measure on; never trained on. This one, `samples` and
                `teacher_task` may also be said by task: `{"animals-is": "cats", "animals-turn": "turned-cats"}`.
            alias: of the network, to point at the new version.
            force: join although preprocessing or meanings disagree.
        Returns:
            The queued job, its references pinned; `precheck` is what is known before it runs. A list of tasks: the list
            of their jobs, for `wait_all`.
        Raises:
            Misfit: before a job exists, where no adapter can join the two.
        """
        if not isinstance(recipe, TransplantRecipe):
            recipe = request_of(TransplantRecipe, recipe or {}, code="recipe_invalid")
        said: dict[str, Any] = {"name": name, "category": category, "task": task, "teacher_task": teacher_task}
        said |= {"samples": samples, "unlabelled": unlabelled, "evaluate_on": evaluate_on}
        said |= {"alias": alias, "recipe": recipe, "force": force}
        wanted = request_of(TransplantRequest, said)
        # Only what was said: what is left out is for the service to choose.
        body = wanted.model_dump(mode="json", exclude_none=True, exclude_unset=True)
        answer = self._transport.post("/v1/transplants", body)
        return parse(TransplantOut, answer) if isinstance(task, str) else parse(TransplantsOut, answer).jobs

    def precheck(
        self,
        category: str,
        task: str,
        *,
        teacher_task: str | None = None,
        seed: int = 0,
        layers: int | None = None,
        force: bool = False,
        patience_s: float = PRECHECK_PATIENCE_S,
    ) -> PrecheckOut:
        """What is known before a transplant: which adapter it needs, and how like f is to what the task module is used to.

        Args:
            category, task, teacher_task: references, as for `transplant`.
            seed: of the noise; the same modules and seed give the same numbers.
            layers: of the adapter; by default as a transplant has it.
            force: also where preprocessing or meanings disagree.
            patience_s: how long to ask again while it is being made; 0: not at all.
        Returns:
            No accuracy: what its numbers mean is told by `PrecheckOut`. Its status is `running` where patience was over.
        Raises:
            Misfit: where no adapter can join the two.
        """
        said = {"category": category, "task": task, "teacher_task": teacher_task, "seed": seed, "layers": layers}
        said |= {"force": True} if force else {}
        until = time.monotonic() + patience_s
        while True:
            found = parse(PrecheckOut, self._transport.get("/v1/prechecks", **said))
            if found.status != "running" or time.monotonic() >= until:
                return found
            time.sleep(_ASK_AGAIN_S)

    def collect(self, *, dry_run: bool = False) -> JobOut:
        """Ask for a job that frees the bytes that nothing names any more."""
        return parse(JobOut, self._transport.post("/v1/collect", CollectRequest(dry_run=dry_run).model_dump()))

    def job(self, job: JobRef) -> JobOut:
        return parse(JobOut, self._transport.get(_path(job)))

    def jobs(
        self, *, state: JobState | None = None, kind: JobKind | None = None, limit: int | None = None
    ) -> Iterator[JobOut]:
        """Jobs, newest first."""
        return self._pages(JobOut, "/v1/jobs", limit=limit, state=state, kind=kind)

    def watch(self, job: JobRef, *, after: int = 0, patience_s: float = PATIENCE_S) -> Iterator[JobEvent]:
        """The events of a job as they come, until it is over; goes on by itself where a connection breaks.

        Args:
            after: the `seq` of the last event that is known already.
            patience_s: how long the service may be away in between.
        """
        path = f"{_path(job)}/events"
        return follow(
            self._transport, path, lambda: self.job(job).state in FINAL_STATES, after=after, patience_s=patience_s
        )

    def wait(self, job: JobRef, *, progress: Callable[[JobEvent], None] | None = None) -> JobOut:
        """Follow a job to its end.

        Returns:
            The succeeded job; `result` names what came of it.
        Raises:
            GrafteryError: the job failed; of its code's class, with its message (`TrainingFailed` where it diverged).
            Conflict: `job_state`, the job was cancelled.
        """
        for event in self.watch(job):
            if progress is not None:
                progress(event)
        return succeeded(self.job(job))

    def wait_all(
        self,
        jobs: Sequence[JobRef],
        *,
        progress: Callable[[list[JobOut]], None] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> list[JobOut]:
        """Wait until all of these jobs are over, whichever ends first.

        Args:
            progress: is told where they stand, twice a second.
            patience_s: how long the service may be away in between.
        Returns:
            The succeeded jobs, in the order given.
        Raises:
            As `wait` does, for the first in the order given that did not succeed, after all have ended.
        """
        for found in looking(lambda: [self.job(job) for job in jobs], patience_s=patience_s):
            if progress is not None:
                progress(found)
        return [succeeded(job) for job in found]

    def cancel(self, job: JobRef) -> JobOut:
        """Ask a job to end; it does within a second or two, and keeps nothing."""
        return parse(JobOut, self._transport.post(f"{_path(job)}/cancel"))

    def retry(self, job: JobRef) -> JobOut:
        """A new job that asks for the same as one that failed or was cancelled."""
        return parse(JobOut, self._transport.post(f"{_path(job)}/retry"))


def succeeded(job: JobOut) -> JobOut:
    """The job, if it did what was asked; raises as `wait` does."""
    if job.state == "cancelled":
        raise Conflict(f"job {job.id} was cancelled", code="job_state", hint=f"graftery retry {job.id}", job=job.id)
    if job.state == "failed":
        code, message = (job.error.code, job.error.message) if job.error else ("job_failed", "no cause is known")
        raise error_from(code, f"job {job.id} failed: {message}", job=job.id)
    return job


def _path(job: JobRef) -> str:
    return f"/v1/jobs/{quote(job.id if isinstance(job, JobOut) else job, safe='')}"
