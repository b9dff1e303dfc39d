"""matrix: a generic network drawn in the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live

from graftery.client.commands.options import Json, Url, connect, note, say_json
from graftery.client.http import Client
from graftery.client.matrix import drawn
from graftery.client.render import WIDE, show
from graftery.spec.generic import GenericOut

EVERY_S = 2.0

Network = Annotated[str, typer.Argument(help="The name of a generic network.")]
States = Annotated[
    list[str], typer.Option(help="Only cells that are missing, running, ready, failed or rejected; several times.")
]


def matrix(
    name: Network,
    *,
    category: Annotated[list[str], typer.Option(help="Only this row; several times.")] = [],  # noqa: B006
    task: Annotated[list[str], typer.Option(help="Only this column; several times.")] = [],  # noqa: B006
    state: States = [],  # noqa: B006
    within: Annotated[
        float | None, typer.Option(min=0, max=100, help="Only cells within so many points of their teacher.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it anew until no cell is running any more.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A line for each cell.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Draw a generic network: every category under every task, and how good each cell is.

    A cell shows its own figure, and beneath it the teacher's (T) and that of direct learning (D), where they are known; `=`: it
    was asked again after other jobs and answered the same bits.

    Examples:
      graftery matrix zoo
      graftery matrix zoo --watch
      graftery matrix zoo --category cat --category dog --state ready
      graftery matrix zoo --within 1
      graftery matrix zoo --csv > zoo.csv
    """
    asked: dict[str, Any] = {"categories": category, "tasks": task, "states": state, "within": within}
    with connect(url) as client:
        try:
            found = _watched(client, name, asked, quiet=as_json or as_csv) if watch else client.generic(name, **asked)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        if as_csv:
            sys.stdout.write(client.generic_csv(name, **asked))
        elif as_json:
            say_json(found)
        elif not (watch and _is_terminal()):
            draw(found)


def draw(out: GenericOut) -> None:
    """To standard output: as wide as the terminal; whole where the output goes into a pipe."""
    show(*drawn(out, Console().width if _is_terminal() else WIDE))


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _watched(client: Client, name: str, asked: dict[str, Any], *, quiet: bool) -> GenericOut:
    """The matrix after the last running cell has ended; until then it is drawn anew, or without a terminal each change is a line."""
    looks = _looks(client, name, asked)
    if quiet or not _is_terminal():
        return _told(looks)
    console = Console(highlight=False, markup=False)
    with Live(console=console, auto_refresh=False) as live:
        for found in looks:
            live.update(Group(*drawn(found, console.width)), refresh=True)
    return found


def _looks(client: Client, name: str, asked: dict[str, Any]) -> Iterator[GenericOut]:
    while True:
        # Looked at first: what ends between the two is in the second.
        some = {key: asked[key] for key in ("categories", "tasks")}
        running = client.generic(name, **some, states=["running"]).cells
        yield client.generic(name, **asked)
        if not running:
            return
        time.sleep(EVERY_S)


def _told(looks: Iterator[GenericOut]) -> GenericOut:
    states: dict[tuple[str, str], str] = {}
    for found in looks:
        now: dict[tuple[str, str], str] = {(cell.category, cell.task): cell.state for cell in found.cells}
        for category, task in now if states else ():
            if states.get((category, task)) != now[category, task]:
                note(f"{category} x {task}: {now[category, task]}")
        states = now
    return found
