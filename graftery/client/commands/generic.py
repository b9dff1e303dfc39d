"""generic create, list, add, remove, place, consolidate, promote, rollback, changes, certificate, delete: what a generic network is made of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from graftery.client.commands.following import conclude
from graftery.client.commands.matrix import Network, draw
from graftery.client.commands.options import (
    Json,
    Name,
    Url,
    connect,
    per_task,
    recipe_of,
    say,
    say_json,
    text_of,
)
from graftery.client.commands.work import Watch
from graftery.client.render import table, when
from graftery.spec.consolidating import HEADLINE, CellReport
from graftery.spec.generic import ChangeOut, GenericOut
from graftery.spec.wire import JobOut

Categories = Annotated[list[str], typer.Option("--category", help="A row, by its reference; several times.")]
Tasks = Annotated[list[str], typer.Option("--task", help="A column, by its reference; several times.")]


def create(
    name: Name,
    *,
    category: Categories = [],  # noqa: B006
    task: Tasks = [],  # noqa: B006
    description: Annotated[str | None, typer.Option(help="Markdown, or @FILE.")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Name categories and tasks that belong together. Networks that join two of them already are its cells.

    Examples:
      graftery generic create zoo --category animals --task animals-is --task animals-turn
    """
    with connect(url) as client:
        _show(client.create_generic(name, category, task, description=text_of(description)), as_json=as_json)


def list_generics(*, url: Url = None, as_json: Json = False) -> None:
    """List the generic networks, newest first.

    Examples:
      graftery generic list
    """
    with connect(url) as client:
        found = [*client.generics()]
    if as_json:
        say_json(found)
        return
    rows = (
        (
            each.name,
            each.categories,
            each.tasks,
            f"{each.ready} of {each.categories * each.tasks}",
            when(each.updated_at),
        )
        for each in found
    )
    table(("NAME", "CATEGORIES", "TASKS", "READY", "UPDATED"), rows)


def add(
    name: Network,
    *,
    category: Categories = [],  # noqa: B006
    task: Tasks = [],  # noqa: B006
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Add rows and columns, with no jobs. `graftery grow` fills the cells of a row.

    Examples:
      graftery generic add zoo --task animals-turn
    """
    if not category and not task:
        raise typer.BadParameter("say --category or --task")
    with connect(url) as client:
        _show(client.add_members(name, category, task), as_json=as_json)


def remove(
    name: Network,
    member: Annotated[str, typer.Argument(help="The name of a category or a task.")],
    *,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Take a row or a column out, with its cells. Its module and their networks stay.

    Examples:
      graftery generic remove zoo dog
    """
    with connect(url) as client:
        client.remove_member(name, member)
    say_json({"removed": member}) if as_json else say(f"{member} is out of {name}; its module and networks stay")


def place(
    name: Network,
    network: Annotated[str, typer.Argument(help="A network of one of the categories and one of the tasks.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where the cell has a network; `generic rollback` undoes it.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Put a network at hand into the cell of its category and task.

    Examples:
      graftery generic place zoo cat-in-animals
      graftery generic place zoo cat-in-animals:2 --replace
    """
    with connect(url) as client:
        _show(client.place_cell(name, network, replace=replace), as_json=as_json)


def changes(
    name: Network,
    *,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List what happened to a generic network, newest first.

    Examples:
      graftery generic changes zoo
    """
    with connect(url) as client:
        found = [*client.generic_changes(name, limit=limit)]
    if as_json:
        say_json(found)
        return
    rows = ((each.id, when(each.at), each.action, each.by or "", _what(each)) for each in found)
    table(("ID", "WHEN", "ACTION", "BY", ""), rows)


def certificate(name: Network, *, url: Url = None, as_json: Json = False) -> None:
    """Say whether a cell ever answered differently after a job. Exit code 1 where one did.

    Examples:
      graftery generic certificate zoo
    """
    with connect(url) as client:
        found = client.generic_certificate(name)
    if as_json:
        say_json(found)
    else:
        say(f"{found.cells} cells, {found.recorded} of them recorded")
        say(f"{found.replays} times asked again after a job, {found.identical} times the same to the bit")
        say(f"DIFFERENT: {', '.join(found.different)}" if found.different else "none ever answered differently")
    if found.different:
        raise typer.Exit(1)


def consolidate(
    name: Network,
    *,
    task: Annotated[str | None, typer.Option(help="The column whose module learns on.")] = None,
    category: Annotated[str | None, typer.Option(help="Or the row.")] = None,
    samples: Annotated[list[str], typer.Option(help="A labelled sample set. Or NAME=REF for a cell.")] = [],  # noqa: B006
    unlabelled: Annotated[list[str], typer.Option(help="Images without labels. Or NAME=REF.")] = [],  # noqa: B006
    evaluate_on: Annotated[list[str], typer.Option(help="Labelled samples to measure on. Or NAME=REF.")] = [],  # noqa: B006
    recipe: Annotated[str | None, typer.Option(help="The recipe as JSON, or @FILE or FILE.json.")] = None,
    watch: Watch = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Let a task module learn on over all its categories, or a category module with all its tasks.

    It makes new versions, measured beside the old ones; the network keeps its cells until `generic promote`.

    Examples:
      graftery generic consolidate zoo --task animals-is
      graftery generic consolidate zoo --task animals-is --evaluate-on cat=cats --evaluate-on dog=dogs
      graftery generic consolidate zoo --category cat --no-watch
    """
    said: dict[str, Any] = {"task": task, "category": category, "recipe": recipe_of(recipe)}
    said |= {"samples": per_task(samples, "--samples"), "unlabelled": per_task(unlabelled, "--unlabelled")}
    said["evaluate_on"] = per_task(evaluate_on, "--evaluate-on")
    with connect(url) as client:
        job = client.consolidate(name, **said)
        conclude(client, job, watch=watch, as_json=as_json)
        if watch and not as_json:
            _tell_reports(name, client.job(job))


def promote(
    name: Network,
    jobs: Annotated[
        list[str], typer.Argument(help="Consolidations of rows or columns that share no cell.", metavar="JOB...")
    ],
    *,
    worst: Annotated[float, typer.Option(min=0, max=100, help="Points that no cell may be worse by.")] = 0.5,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Put what consolidations made into all their cells, or into none. `generic rollback` undoes it.

    Examples:
      graftery generic promote zoo 01J9Z3
      graftery generic promote zoo 01J9Z3 --worst 0
    """
    with connect(url) as client:
        out = client.promote(name, *jobs, worst=worst)
    say_json(out) if as_json else say(f"change {out.id}: {_what(out)}")


def rollback(
    name: Network,
    *,
    change: Annotated[
        int | None, typer.Option(min=1, help="Its number in `generic changes`; by default the last that can be undone.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Undo a promotion, or a cell that was replaced: all its cells are what they were before, or none.

    Examples:
      graftery generic rollback zoo
      graftery generic rollback zoo --change 7
    """
    with connect(url) as client:
        out = client.rollback_generic(name, change)
    say_json(out) if as_json else say(f"change {out.undoes} is undone: {_what(out)}")


def delete(
    name: Network,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Delete a generic network and its history. Its modules, networks and jobs stay.

    Examples:
      graftery generic delete zoo --yes
    """
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("say --yes where nobody can be asked")
        typer.confirm(f"Delete {name} for good?", abort=True, err=True)
    with connect(url) as client:
        client.delete_generic(name)
    say_json({"deleted": name}) if as_json else say(f"{name} is deleted; its modules and networks stay")


def _tell_reports(name: str, job: JobOut) -> None:
    """Each cell before and after, and how to go on."""
    result = job.result or {}
    reports = [CellReport.model_validate(each["report"]) for each in result.get("cells", ())]
    table(("CELL", "METRIC", "BEFORE", "AFTER"), (row for each in reports for row in _before_and_after(each)))
    if result.get("module"):
        say(f"`graftery generic promote {name} {job.id}` puts {result['module']} into these cells")


def _before_and_after(report: CellReport) -> Iterator[tuple[str, str, str, str]]:
    name, before, after = HEADLINE.get(report.semantics, ""), report.before, report.after
    figures = [
        (name, (before.metrics or {}).get(name), (after.metrics or {}).get(name)),
        ("agreement", before.agreement, after.agreement),
        ("explained", before.explained, after.explained),
    ]
    for figure, was, became in figures:
        if was is not None and became is not None:
            yield report.cell, figure, f"{was:.4f}", f"{became:.4f}"


def _show(out: GenericOut, *, as_json: bool) -> None:
    say_json(out) if as_json else draw(out)


def _what(change: ChangeOut) -> str:
    """The members and cells of a change, each with what it was and became."""
    members = [_step(name, old, new) for name, (old, new) in change.members.items()]
    cells = [_step(f"{each['category']} x {each['task']}", each["old"], each["new"]) for each in change.cells]
    return "; ".join([*members, *cells])


def _step(what: str, old: str | None, new: str | None) -> str:
    return f"{what} {old} -> {new}" if old and new else f"{what} + {new}" if new else f"{what} - {old or 'nothing'}"
