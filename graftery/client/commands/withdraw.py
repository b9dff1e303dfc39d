"""impact, yank, unyank, delete: what takes versions away, and what that would touch."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from graftery.client.commands.options import Json, Ref, Url, connect, note, say, say_json
from graftery.client.impact_text import breaks_text, impact_lines
from graftery.errors import Conflict
from graftery.spec.impact import ImpactOut

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Neither look at what it touches nor ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing: show what it would touch.")]


def impact(ref: Ref, *, url: Url = None, as_json: Json = False) -> None:
    """Show what a yank of a version would touch, or of all versions of a name, and what keeps it from being deleted.

    Examples:
      graftery impact cat:3
      graftery impact cat-in-animals --json
    """
    with connect(url) as client:
        _show(client.impact(ref), as_json=as_json)


def yank(
    ref: Ref,
    *,
    reason: Annotated[str, typer.Option(help="Why; shown to everybody who asks for this version.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Hide a version from names and aliases. What pins it by number or digest still gets it; `unyank` reverses it.

    What is served under these names, and would break, is shown before, and you are asked.

    Examples:
      graftery yank cat:3 --reason "trained on mislabelled dogs"
      graftery yank cat:3 --reason "trained on mislabelled dogs" --dry-run
    """
    with connect(url) as client:
        if dry_run or not yes:
            found = client.yank(ref, reason, dry_run=True)
            if dry_run:
                _show(found, as_json=as_json)
                return
            if found.broken:
                _ask(found, f"Yank {found.ref}?", f"a yank of {found.ref} would break {breaks_text(found.broken)}")
            else:
                _note(found)
        out = client.yank(ref, reason)
    say_json(out) if as_json else say(f"{out.ref} is yanked: {out.yank_reason}")


def unyank(ref: Ref, *, url: Url = None, as_json: Json = False) -> None:
    """Show a yanked version again.

    Examples:
      graftery unyank cat:3
    """
    with connect(url) as client:
        out = client.unyank(ref)
    say_json(out) if as_json else say(f"{out.ref} is back")


def delete(
    ref: Ref,
    *,
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Delete a version, or a name with all its versions. Refused while others depend on it; `yank` hides it at once.

    What it would touch is shown before, and you are asked.

    Examples:
      graftery delete cat:3
      graftery delete cat --yes
    """
    with connect(url) as client:
        if dry_run or not yes:
            found = client.impact(ref)
            if dry_run:
                _show(found, as_json=as_json)
                return
            _refuse(found)
            served = f", and would break {breaks_text(found.broken)}" if found.broken else ""
            _ask(found, f"Delete {ref} for good?", f"a delete of {ref} cannot be undone{served}")
        client.delete(ref)
    say_json({"deleted": ref}) if as_json else say(f"{ref} is deleted; `graftery collect` frees its bytes")


def _show(found: ImpactOut, *, as_json: bool) -> None:
    say_json(found) if as_json else say("\n".join(impact_lines(found)))


def _note(found: ImpactOut) -> None:
    note("\n".join(impact_lines(found)))


def _ask(found: ImpactOut, question: str, why: str) -> None:
    """Show what is touched, and go on only if somebody says so.

    Raises:
        typer.BadParameter: nobody can be asked.
        typer.Abort: they said no.
    """
    _note(found)
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{why}: say --yes where nobody can be asked")
    typer.confirm(question, abort=True, err=True)


def _refuse(found: ImpactOut) -> None:
    """Do not ask for what the service would refuse.

    Raises:
        Conflict: `has_dependents`, as the service would.
    """
    if found.delete.refused:
        _note(found)
        raise Conflict(
            f"{found.ref} cannot be deleted while others depend on it",
            code="has_dependents",
            hint="delete or move these first, or yank it",
            dependents=found.delete.refused_by,
        )
