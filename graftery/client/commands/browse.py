"""list, inspect, versions, lineage, served, health: what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graftery.client.commands.local_file import inspect_file
from graftery.client.commands.options import Json, Name, Ref, Url, connect, say, say_json
from graftery.client.render import lineage_lines, size, table, version_card, when
from graftery.errors import GrafteryError
from graftery.spec.graphs import draw
from graftery.spec.lineage import LineageOut


def list_modules(
    *,
    kind: Annotated[
        str | None,
        typer.Option(
            help="category, task, adapter, teacher, group, clone, network, generic or samples.", show_default=False
        ),
    ] = None,
    q: Annotated[str | None, typer.Option("--query", "-q", help="Text in the name or the description.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only what has this tag.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List the names in the registry, newest first.

    Examples:
      graftery list
      graftery list --kind network --query cat
      graftery list --json
    """
    with connect(url) as client:
        modules = [*client.list(kind, q=q, tag=tag, limit=limit)]  # type: ignore[arg-type]
    if as_json:
        say_json(modules)
        return
    table(
        ("NAME", "KIND", "LATEST", "VERSIONS", "ALIASES", "TAGS", "UPDATED"),
        (
            (
                module.name,
                module.kind,
                module.latest or "-",
                module.versions,
                " ".join(f"{alias}={version}" for alias, version in module.aliases.items()),
                " ".join(module.tags),
                when(module.updated_at),
            )
            for module in modules
        ),
    )


def versions(name: Name, *, url: Url = None, as_json: Json = False) -> None:
    """List the versions of a name, newest first.

    Examples:
      graftery versions cat
    """
    with connect(url) as client:
        found = [*client.versions(name)]
    if as_json:
        say_json(found)
        return
    table(
        ("REF", "SIZE", "CREATED", "ALIASES", "DIGEST", "STATE"),
        (
            (
                version.ref,
                size(version.size_bytes),
                when(version.created_at),
                " ".join(version.aliases),
                version.digest[:12],
                "yanked" if version.yanked else "",
            )
            for version in found
        ),
    )


def inspect(
    ref: Annotated[str, typer.Argument(help="A reference in the registry, or the path of a file on this machine.")],
    *,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show what a version is: shapes, parameters, meaning, lineage, metrics, aliases. Also of a local file.

    Examples:
      graftery inspect cat
      graftery inspect cat@stable --json
      graftery inspect ./cat.safetensors
    """
    if Path(ref).is_file():
        inspect_file(Path(ref), as_json=as_json)
        return
    if "/" in ref:
        raise GrafteryError(f"there is no file {ref}", code="not_found")
    with connect(url) as client:
        version = client.inspect(ref)
        if as_json:
            say_json(version)
            return
        above = client.lineage(version.ref, "up")
    made_from = [f"{edge.parent} (as {edge.role})" for edge in above.edges if edge.child == above.root]
    version_card(version, made_from)


def lineage(
    ref: Ref,
    *,
    up: Annotated[bool, typer.Option("--up", help="What it was made from: so where nothing is said.")] = False,
    down: Annotated[bool, typer.Option("--down", help="What was made from it.")] = False,
    both: Annotated[bool, typer.Option("--both", help="What it was made from and what was made from it.")] = False,
    dot: Annotated[bool, typer.Option("--dot", help="As a graph for Graphviz.")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a graph for Markdown.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show what a version was made from, what was made from it, or both, from its teachers to what is served.

    Examples:
      graftery lineage cat-in-animals
      graftery lineage cat:1 --down
      graftery lineage cat:1 --both --dot | dot -Tsvg > cat.svg
    """
    if up + down + both > 1:
        raise typer.BadParameter("give one of --up, --down and --both")
    if dot + mermaid + as_json > 1:
        raise typer.BadParameter("give one of --dot, --mermaid and --json")
    with connect(url) as client:
        found: LineageOut = client.lineage(ref, "both" if both else "down" if down else "up")
    if as_json:
        say_json(found)
    elif dot or mermaid:
        say(draw(found, "dot" if dot else "mermaid").rstrip("\n"))
    else:
        say("\n".join(lineage_lines(found)))


def served(*, url: Url = None, as_json: Json = False) -> None:
    """List the networks that can be asked for inference.

    Examples:
      graftery served
    """
    with connect(url) as client:
        found = client.served()
    if as_json:
        say_json(found)
        return
    table(
        ("NAME", "VERSION", "STATE", "REASON"),
        ((entry["name"], entry.get("version", ""), entry.get("state", ""), entry.get("reason", "")) for entry in found),
    )


def health(*, url: Url = None, as_json: Json = False) -> None:
    """Ask the service how it is. Exit code 1 where it is degraded.

    Examples:
      graftery health --url http://graftery.example:8080
    """
    with connect(url) as client:
        found = client.health()
        address = client.url
    if as_json:
        say_json(found)
    else:
        say(f"{found.status}  {found.version}  {address}")
        for name, state in found.checks.items():
            say(f"  {name}: {state}")
    if found.status != "ok":
        raise typer.Exit(1)
