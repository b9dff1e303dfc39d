"""New jobs on the command line: followed to their end where that is asked for, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from graftery.client.commands.options import note, say, say_json
from graftery.client.commands.plain_name import tell_plain_name
from graftery.client.http import Client
from graftery.client.jobs import succeeded
from graftery.client.progress import job_view, jobs_view
from graftery.client.quality import metrics_entries
from graftery.client.render import certificate_text, job_line
from graftery.errors import GrafteryError
from graftery.spec.wire import JobOut

INTERRUPTED = 130


def conclude(client: Client, job: JobOut, *, watch: bool, as_json: bool) -> None:
    """Follow a new job where that is asked for, and print what came of it."""
    if watch:
        note(f"job {job.id}")
        follow(client, job)
        job = client.job(job.id)
    if as_json:
        say_json(job)
        if watch:
            succeeded(job)
        return
    tell(client, succeeded(job) if watch else job)


def conclude_all(client: Client, jobs: Sequence[JobOut], *, watch: bool, as_json: bool) -> None:
    """`conclude` for the jobs of one request: all are told, then the first that did not succeed is the error."""
    failure: GrafteryError | None = None
    if watch:
        for job in jobs:
            note(f"job {job.id}  {job.request.get('name', '')}".rstrip())
        failure = follow_all(client, jobs)
        jobs = [client.job(job) for job in jobs]
    if as_json:
        say_json({"jobs": jobs})
    for job in () if as_json else jobs:
        tell(client, job)
    if failure is not None:
        raise failure


def follow(client: Client, job: JobOut) -> None:
    """Show a job's events until it is over."""
    try:
        with job_view() as show:
            for event in client.watch(job):
                show(event)
    except KeyboardInterrupt:
        raise _interrupted([job]) from None


def follow_all(client: Client, jobs: Sequence[JobOut]) -> GrafteryError | None:
    """Show where jobs stand until all are over; the error of the first that did not succeed."""
    try:
        with jobs_view() as show:
            client.wait_all(jobs, progress=show)
    except KeyboardInterrupt:
        raise _interrupted(jobs) from None
    except GrafteryError as error:
        return error
    return None


def _interrupted(jobs: Sequence[JobOut]) -> typer.Exit:
    for job in jobs:
        note(f"job {job.id} goes on: `graftery watch {job.id}` follows it, `graftery cancel {job.id}` ends it")
    return typer.Exit(INTERRUPTED)


def tell(client: Client, job: JobOut) -> None:
    """What came of a job, or where it stands."""
    if job.result is None:
        say(job_line(job))
        return
    say("  ".join([f"{job.kind} {job.state}", *(f"{key} {value}" for key, value in _flat(job.result).items())]))
    for label, text in metrics_entries(job.result.get("metrics") or {}):
        say(f"  {label}  {text}")
    if "certificate" in job.result:
        say(f"  certificate  {certificate_text(job.result['certificate'])}")
    if "network" in job.result:
        tell_plain_name(client, job.result["network"])


def _flat(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if not isinstance(value, dict | list) and value is not None}
