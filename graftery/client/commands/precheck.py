"""precheck: what is known before a transplant."""

from __future__ import annotations

from typing import Annotated

import typer

from graftery.client.commands.options import Force, Json, Url, connect, note, say_json
from graftery.client.quality import precheck_entries
from graftery.client.render import card
from graftery.spec.wire import PrecheckOut


def precheck(
    category: Annotated[str, typer.Argument(help="The category module f, by its reference.")],
    task: Annotated[str, typer.Argument(help="The task module gS that other categories share.")],
    *,
    teacher_task: Annotated[str | None, typer.Option(help="gT; only that it fits is checked.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise that the modules are shown.")] = 0,
    layers: Annotated[
        int | None, typer.Option(min=1, max=8, help="Of the adapter; by default as a transplant's.")
    ] = None,
    force: Force = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Look at a transplant before it is asked for: seconds, no data, nothing is learned.

    Says which adapter the two shapes need, and how like f's features are, on noise, to those of the categories that feed the
    task module already. Residual: what no linear map of channels explains of them, 0 is best. CKA: 1 is best.
    Neither is an accuracy.

    Examples:
      graftery precheck cat animals-is
      graftery precheck cat animals-is --json | jq .residual
    """
    with connect(url) as client:
        found = client.precheck(category, task, teacher_task=teacher_task, seed=seed, layers=layers, force=force)
    if as_json:
        say_json(found)
        return
    card(f"{category} in {task}", precheck_entries(found))


def tell_precheck(found: PrecheckOut | None, category: str, task: str) -> None:
    """Beside a new job: its pre-check, on standard error."""
    if found is None:
        return
    for label, text in precheck_entries(found):
        note(f"  {label}  {text}".rstrip())
    if found.status == "running":
        note(f"  `graftery precheck {category} {task}` has it later")
