"""transplant, jobs, watch, cancel, retry, collect: what takes time."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from graftery.client.commands.following import conclude, conclude_all, follow, tell
from graftery.client.commands.options import (
    Force,
    JobId,
    Json,
    NewAlias,
    Url,
    connect,
    note,
    pairs,
    per_task,
    recipe_of,
    say,
    say_json,
)
from graftery.client.commands.precheck import tell_precheck
from graftery.client.http import Client
from graftery.client.jobs import succeeded
from graftery.client.render import job_line, table, when

Watch = Annotated[bool, typer.Option("--watch/--no-watch", help="Follow the job to its end, or return at once.")]


def transplant(
    category: Annotated[str, typer.Argument(help="The category module f, by its reference.")],
    task: Annotated[
        list[str], typer.Argument(help="The task module gS that other categories share; or several, a job for each.")
    ],
    *,
    name: Annotated[
        str,
        typer.Option(help="Of the network that comes of it; the adapter is NAME-adapter. Several tasks: NAME-OUTPUT."),
    ],
    samples: Annotated[
        list[str], typer.Option(help="A labelled sample set; none is needed. Or TASK=REF, several times.")
    ] = [],  # noqa: B006
    unlabelled: Annotated[str | None, typer.Option(help="A sample set whose labels are not used.")] = None,
    evaluate_on: Annotated[
        list[str], typer.Option(help="A labelled sample set to measure on. Or TASK=REF, several times.")
    ] = [],  # noqa: B006
    teacher_task: Annotated[
        list[str],
        typer.Option(
            help="gT; by default the one that was cut from the category's teacher. Or TASK=REF, several times."
        ),
    ] = [],  # noqa: B006
    objective: Annotated[
        list[str],
        typer.Option(
            help="direct, distillation, back_distillation or pseudo_gradient, or NAME=WEIGHT; may be given several times."
        ),
    ] = [],  # noqa: B006
    source: Annotated[
        list[str],
        typer.Option(help="samples, unlabelled, noise, inversion or moments; may be given several times."),
    ] = [],  # noqa: B006
    labels: Annotated[int | None, typer.Option(min=0, help="Labelled samples to use; by default all.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Training steps.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="The whole recipe as JSON, or @FILE or FILE.json; other options go over it.")
    ] = None,
    alias: NewAlias = None,
    force: Force = False,
    watch: Watch = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Learn an adapter between a category module and a task module, and compose the network.

    Neither module changes. Without samples it is done by back-distillation, which needs no data of anybody.

    Examples:
      graftery transplant cat animals-is --name cat-in-animals
      graftery transplant cat animals-is --name cat-in-animals --samples cats --labels 100 --objective direct
      graftery transplant cat animals-is animals-turn --name cat-in-animals --evaluate-on animals-is=cats
      graftery transplant cat animals-is --name cat-in-animals --recipe recipe.json --no-watch --json
    """
    plan = _recipe(recipe, objective, source, labels=labels, steps=steps, seed=seed)
    said: dict[str, Any] = {"name": name, "recipe": plan, "unlabelled": unlabelled, "alias": alias, "force": force}
    said["teacher_task"] = per_task(teacher_task, "--teacher-task")
    said |= {"samples": per_task(samples, "--samples"), "evaluate_on": per_task(evaluate_on, "--evaluate-on")}
    with connect(url) as client:
        if len(task) > 1:
            _transplant_all(client, category, task, said, watch=watch, as_json=as_json)
            return
        job = client.transplant(category, task[0], **said)
        if not as_json:
            tell_precheck(job.precheck, category, task[0])
        conclude(client, job, watch=watch, as_json=as_json)


def _transplant_all(
    client: Client, category: str, tasks: list[str], said: dict[str, Any], *, watch: bool, as_json: bool
) -> None:
    found = client.transplant(category, tasks, **said)
    for job, task in zip(found, tasks, strict=True):
        if not as_json:
            note(f"{task}:")
            tell_precheck(job.precheck, category, task)
    conclude_all(client, found, watch=watch, as_json=as_json)


def jobs(
    *,
    state: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")] = None,
    kind: Annotated[str | None, typer.Option(help="transplant, clone or collect.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first.

    Examples:
      graftery jobs
      graftery jobs --state running --json
    """
    with connect(url) as client:
        found = [*client.jobs(state=state, kind=kind, limit=limit)]  # type: ignore[arg-type]
    if as_json:
        say_json(found)
        return
    rows = ((job.id, job.kind, job.state, when(job.created_at), job_line(job).split("  ", 3)[3:]) for job in found)
    table(("JOB", "KIND", "STATE", "ASKED", ""), ((*row[:4], *row[4]) for row in rows))


def watch(job_id: JobId, *, url: Url = None, as_json: Json = False) -> None:
    """Follow a job to its end. With --json: its events, one a line.

    Ctrl-C ends the watching, not the job. Exit code 1 where the job failed or was cancelled.

    Examples:
      graftery watch 01J9Z3
      graftery watch 01J9Z3 --json | jq .data.loss
    """
    with connect(url) as client:
        if as_json:
            for event in client.watch(job_id):
                say_json(event)
            succeeded(client.job(job_id))
            return
        follow(client, client.job(job_id))
        tell(client, succeeded(client.job(job_id)))


def cancel(job_id: JobId, *, url: Url = None, as_json: Json = False) -> None:
    """Ask a job to end.

    Examples:
      graftery cancel 01J9Z3
    """
    with connect(url) as client:
        job = client.cancel(job_id)
    say_json(job) if as_json else say(job_line(job))


def retry(job_id: JobId, *, watch: Watch = True, url: Url = None, as_json: Json = False) -> None:
    """Ask again for what a failed or cancelled job was asked for.

    Examples:
      graftery retry 01J9Z3
    """
    with connect(url) as client:
        conclude(client, client.retry(job_id), watch=watch, as_json=as_json)


def collect(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
    watch: Watch = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Free the bytes that nothing names any more.

    Examples:
      graftery collect --dry-run
    """
    with connect(url) as client:
        conclude(client, client.collect(dry_run=dry_run), watch=watch, as_json=as_json)


def _recipe(recipe: str | None, objectives: list[str], sources: list[str], **options: int | None) -> dict[str, Any]:
    """The recipe that is given, with the options over it."""
    plan = recipe_of(recipe)
    if objectives:
        weighted = pairs((text if "=" in text else f"{text}=1" for text in objectives), "--objective")
        plan["objectives"] = weighted
    if sources:
        plan["sources"] = sources
    return plan | {key: value for key, value in options.items() if value is not None}
