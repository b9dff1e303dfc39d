"""alias, aliases, rollback, describe, compose: what changes names, never bytes."""

from __future__ import annotations

from typing import Annotated

import typer

from graftery.client.commands.options import Force, Json, Name, NewAlias, Url, connect, say, say_json, text_of
from graftery.client.commands.plain_name import tell_plain_name
from graftery.client.quality import metrics_entries
from graftery.client.render import table, when

Alias = Annotated[
    str,
    typer.Argument(
        help="A pointer to a version. `default` is what the plain name means: a network's first version has it until it "
        "is moved; a name without it means its newest version."
    ),
]


def alias(
    name: Name,
    alias: Alias,
    version: Annotated[int | None, typer.Argument(min=1, help="The version's number.")] = None,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Point an alias at a version, or remove it. Every change is kept in its history.

    Examples:
      graftery alias cat stable 3
      graftery alias cat-in-animals default 2
      graftery alias cat stable --remove
    """
    if remove == (version is not None):
        raise typer.BadParameter("give a VERSION, or --remove")
    with connect(url) as client:
        if version is None:
            client.unalias(name, alias)
            say_json({"name": name, "alias": alias, "version": None}) if as_json else say(f"{name}@{alias} is removed")
            return
        out = client.alias(name, alias, version)
    say_json(out) if as_json else say(f"{out.name}@{out.alias} -> {out.ref}")


def aliases(
    name: Name,
    *,
    history: Annotated[str | None, typer.Option(help="Show every change of this alias.", metavar="ALIAS")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List the aliases of a name, or the history of one: when, from what, to what, by whom.

    Examples:
      graftery aliases cat
      graftery aliases cat --history stable
    """
    with connect(url) as client:
        if history is not None:
            events = client.alias_history(name, history)
            rows = [(when(event.at), event.old or "-", event.new or "-", event.by or "") for event in events]
            say_json(events) if as_json else table(("WHEN", "FROM", "TO", "BY"), rows)
            return
        found = client.aliases(name)
    rows = [(out.alias, out.ref, when(out.updated_at), out.updated_by or "") for out in found]
    say_json(found) if as_json else table(("ALIAS", "REF", "SINCE", "BY"), rows)


def rollback(name: Name, alias: Alias, *, url: Url = None, as_json: Json = False) -> None:
    """Point an alias at what it pointed at before its last change.

    Examples:
      graftery rollback cat stable
    """
    with connect(url) as client:
        out = client.rollback(name, alias)
    say_json(out) if as_json else say(f"{out.name}@{out.alias} -> {out.ref}")


def describe(
    name: Name,
    *,
    description: Annotated[str | None, typer.Option(help="Markdown, or @FILE.")] = None,
    tag: Annotated[list[str], typer.Option(help="The tags from now on; may be given several times.")] = [],  # noqa: B006
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Change the description or the tags of a name.

    Examples:
      graftery describe cat --description @README.md --tag animals
    """
    with connect(url) as client:
        out = client.update(name, description=text_of(description), tags=tag or None)
    say_json(out) if as_json else say(f"{out.name}: {' '.join(out.tags) or 'no tags'}")


def compose(
    name: Name,
    category: Annotated[str, typer.Argument(help="The category module's reference.")],
    task: Annotated[str, typer.Argument(help="The task module's reference.")],
    *,
    adapter: Annotated[str | None, typer.Option(help="The adapter's reference; none: the shapes must fit.")] = None,
    evaluate_on: Annotated[
        str | None, typer.Option(help="A labelled sample set to measure the network on, before it is published.")
    ] = None,
    set_alias: NewAlias = None,
    force: Force = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Name a network of modules that are there already.

    Examples:
      graftery compose cat-in-animals cat animals-is --adapter cat-in-animals-adapter:2
      graftery compose cat-in-animals cat animals-is --evaluate-on cats
    """
    with connect(url) as client:
        out = client.compose(name, category, task, adapter, alias=set_alias, evaluate_on=evaluate_on, force=force)
        if as_json:
            say_json(out)
            return
        say(f"{out.ref}  network  sha256:{out.digest[:12]}")
        for label, text in metrics_entries(out.metrics or {}):
            say(f"  {label}  {text}")
        tell_plain_name(client, out.ref)
