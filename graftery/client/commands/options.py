"""Options and answers that every verb shares."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from graftery.client.http import Client
from graftery.errors import GrafteryError

Url = Annotated[
    str | None,
    typer.Option(help="The service; by default http://127.0.0.1:8080.", envvar="GRAFTERY_URL", show_envvar=True),
]
Json = Annotated[bool, typer.Option("--json", help="Write the answer as JSON, and nothing else, to standard output.")]
Name = Annotated[str, typer.Argument(help="A name: letters, digits, '.', '_' and '-'.")]
Ref = Annotated[str, typer.Argument(help="name, name:3, name@alias or name@sha256:DIGEST.")]
JobId = Annotated[str, typer.Argument(help="The id of a job, as `graftery jobs` shows it.", metavar="JOB")]
NewAlias = Annotated[
    str | None,
    typer.Option(
        "--alias",
        help="Point this alias of the network at the new version. `default` is what the plain name means: it is on the "
        "network's first version until it is moved.",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Also where preprocessing, meanings or compatibility groups disagree.")
]


def connect(url: str | None) -> Client:
    return Client(url)


def say(text: str) -> None:
    """A line for a person, on standard output."""
    typer.echo(text)


def note(text: str) -> None:
    """A line beside the answer, on standard error."""
    typer.echo(text, err=True)


def say_json(value: object) -> None:
    """One JSON document on standard output; models as they cross HTTP."""
    typer.echo(json.dumps(_plain(value), ensure_ascii=False))


def text_of(value: str | None) -> str | None:
    """An option's text, or the text of the file that `@FILE` names."""
    if value is None or not value.startswith("@"):
        return value
    path = Path(value[1:])
    if not path.is_file():
        raise typer.BadParameter(f"there is no file {path}")
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path} cannot be read as text: {error}") from None


def json_of_option(value: str | None, option: str) -> Any:
    """An option that is JSON, or the JSON in the file that `@FILE` names."""
    text = text_of(value)
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} is not JSON: {error}") from None


def recipe_of(value: str | None) -> dict[str, Any]:
    """A recipe that is given as JSON, or as a file, by `@FILE` or its name alone.

    Raises:
        GrafteryError: `recipe_invalid`; it is no JSON object.
    """
    if value is not None and not value.lstrip().startswith(("{", "@")):
        value = f"@{value}"
    plan = json_of_option(value, "--recipe") or {}
    if not isinstance(plan, dict):
        raise GrafteryError("--recipe is no JSON object", code="recipe_invalid")
    return plan


def pairs(values: Iterable[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` options as a dict."""
    split = [value.partition("=") for value in values]
    if wrong := [name for name, _, text in split if not name or not text]:
        raise typer.BadParameter(f"{option} is written NAME=VALUE, not {wrong[0]!r}")
    return {name: text for name, _, text in split}


def per_task(values: list[str], option: str) -> str | dict[str, str] | None:
    """An option that is one reference for all tasks, or TASK=REF for each."""
    if len(values) == 1 and "=" not in values[0]:
        return values[0]
    return pairs(values, option) or None


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value
