"""grow: add a teacher to a generic network, follow its jobs, and say which of them became cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from graftery.client.commands.following import follow_all
from graftery.client.commands.matrix import Network
from graftery.client.commands.options import Force, Json, Url, connect, note, per_task, recipe_of, say, say_json
from graftery.client.http import Client
from graftery.client.render import quantity, size, table
from graftery.errors import GrafteryError
from graftery.spec.generic import CellOut, Figure, GrowCell, GrowOut
from graftery.spec.wire import JobOut


def grow(
    name: Network,
    category: Annotated[str, typer.Argument(help="The teacher's category module, by its reference.")],
    *,
    tasks: Annotated[list[str], typer.Option(help="Only this column; several times. By default all.")] = [],  # noqa: B006
    samples: Annotated[
        list[str], typer.Option(help="A labelled sample set; none is needed. Or TASK=REF, several times.")
    ] = [],  # noqa: B006
    unlabelled: Annotated[str | None, typer.Option(help="A sample set whose labels are not used.")] = None,
    evaluate_on: Annotated[
        list[str], typer.Option(help="A labelled sample set to measure on. Or TASK=REF, several times.")
    ] = [],  # noqa: B006
    teacher_task: Annotated[
        list[str], typer.Option(help="gT; by default the teacher's own. Or TASK=REF, several times.")
    ] = [],  # noqa: B006
    steps: Annotated[int | None, typer.Option(min=0, help="Training steps.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="The whole recipe as JSON, or @FILE or FILE.json; other options go over it.")
    ] = None,
    within: Annotated[
        float | None, typer.Option(min=0, max=100, help="Keep what is at most so many points below its teacher.")
    ] = None,
    agreement: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Keep what agrees so with its teacher (kappa), where nothing is measured."),
    ] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also learn each cell directly from the samples, to stand beside it.")
    ] = False,
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and what it takes.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the jobs to their end, or return.")] = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Add a teacher to a generic network: a transplant of its category into each task whose cell is missing.

    What is there or under way stays as it is: the same command, given again, goes on with what is missing. No other cell changes. Exit
    code 1 where a job failed; a result that is not good enough is told, and kept out of the cell.

    Examples:
      graftery grow zoo cat --dry-run
      graftery grow zoo cat --evaluate-on animals-is=cats
      graftery grow zoo cat --tasks animals-is --samples cats --baseline --within 2
      graftery grow zoo cat --no-wait --json
    """
    plan = recipe_of(recipe) | {
        key: value for key, value in {"steps": steps, "seed": seed}.items() if value is not None
    }
    limits = {key: value for key, value in {"within": within, "agreement": agreement}.items() if value is not None}
    said: dict[str, Any] = {"tasks": tasks or None, "unlabelled": unlabelled, "recipe": plan, "accept": limits or None}
    said |= {"samples": per_task(samples, "--samples"), "evaluate_on": per_task(evaluate_on, "--evaluate-on")}
    said |= {"teacher_task": per_task(teacher_task, "--teacher-task"), "baseline": baseline, "force": force}
    with connect(url) as client:
        planned = client.grow(name, category, **said, dry_run=dry_run)
        if dry_run or not wait:
            say_json(planned) if as_json else _tell_plan(planned)
            return
        _conclude(client, planned, as_json=as_json)


def _tell_plan(planned: GrowOut) -> None:
    """A line for each cell, in the order in which their jobs are queued."""
    rows = (
        (
            each.order or "",
            f"{each.category} x {each.task}",
            each.action,
            each.network or "",
            "" if each.flops is None else f"{quantity(each.flops)}FLOP",
            "" if each.memory_bytes is None else size(each.memory_bytes),
            "" if each.seconds is None else f"{each.seconds:.0f} s",
            each.job or each.reason or "",
        )
        for each in sorted(planned.cells, key=lambda each: each.order or 0)
    )
    table(("", "CELL", "ACTION", "NETWORK", "ABOUT", "MEMORY", "USUALLY", ""), rows)
    if planned.dry_run:
        note("nothing was begun: this was a dry run")


def _conclude(client: Client, planned: GrowOut, *, as_json: bool) -> None:
    """Wait for the jobs of the row, also those that others began, and say what became of each cell."""
    jobs = [client.job(id_) for each in planned.cells for id_ in _jobs(each)]
    for job in jobs:
        note(f"job {job.id}  {job.request.get('name', '')}".rstrip())
    failure: GrafteryError | None = follow_all(client, jobs) if jobs else None
    after = {job.id: job for job in (client.job(each) for each in jobs)}
    asked = [each.category for each in planned.cells[:1]], [each.task for each in planned.cells]
    became = client.generic(planned.name, categories=asked[0], tasks=asked[1]).cells if planned.cells else []
    if as_json:
        say_json({**planned.model_dump(mode="json"), "became": became})
    else:
        _report(planned, {cell.task: cell for cell in became}, after)
    if failure is not None:
        raise failure


def _jobs(each: GrowCell) -> list[str]:
    return [id_ for id_ in (each.job, each.baseline) if id_ is not None]


def _report(planned: GrowOut, became: dict[str, CellOut], jobs: dict[str, JobOut]) -> None:
    outcomes = [_outcome(each, became.get(each.task), jobs) for each in planned.cells]
    rows = (
        (f"{each.category} x {each.task}", outcome, *_figures(became.get(each.task)), reason)
        for each, (outcome, reason) in zip(planned.cells, outcomes, strict=True)
    )
    table(("CELL", "OUTCOME", "NETWORK", "FIGURE", "TEACHER", "DIRECT", ""), rows)
    said = [outcome for outcome, _ in outcomes]
    say(", ".join(f"{said.count(outcome)} {outcome}" for outcome in dict.fromkeys(said)))


def _outcome(each: GrowCell, cell: CellOut | None, jobs: dict[str, JobOut]) -> tuple[str, str]:
    """What came of a cell's job, and why; of one that had none, what it was before."""
    job = jobs.get(each.job or "")
    if job is None:
        there = {"kept": "there before", "rejected": "rejected before", "no_teacher": "no teacher"}
        return there.get(each.action, each.action), each.reason or ""
    if job.state != "succeeded":
        return job.state, "" if job.error is None else f"{job.error.code}: {job.error.message}"
    told = (job.result or {}).get("generic") or {}
    return told.get("outcome", "kept"), told.get("reason") or (cell.reason if cell is not None else "") or ""


def _figures(cell: CellOut | None) -> Sequence[str]:
    if cell is None:
        return "", "", "", ""
    agreed = "" if cell.agreement is None else f"kappa {cell.agreement:.3f}"
    return cell.network or "", _figure(cell.figure) or agreed, _figure(cell.teacher), _figure(cell.direct)


def _figure(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.metric} {figure.value:.3f}"
