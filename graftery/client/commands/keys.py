"""keys create, list, rotate, revoke, save; audit: who may do what, and who did.

They speak with a service, as an admin. With --local they work on the database of this machine instead: for the first key.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from graftery.client import credentials
from graftery.client.commands.local_keys import local
from graftery.client.commands.options import Json, Url, connect, note, say, say_json
from graftery.client.render import table, when
from graftery.client.transport import Transport
from graftery.errors import GrafteryError
from graftery.spec.access import KeyMade, KeyOut

KeyName = Annotated[str, typer.Argument(help="The key's name; the audit log has it.", metavar="NAME")]
Local = Annotated[
    bool,
    typer.Option(
        "--local", help="Work on this machine's database (GRAFTERY_HOME, GRAFTERY_DATABASE_URL): no key is needed."
    ),
]
Home = Annotated[Path | None, typer.Option(help="The home of the service whose database it is; means --local.")]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def create(
    name: KeyName,
    *,
    scope: Annotated[list[str], typer.Option(help="read, push, transplant, infer or admin; several times.")],
    namespace: Annotated[
        list[str], typer.Option(help="It changes only what is called NAMESPACE.NAME; several times.")
    ] = [],  # noqa: B006
    expires: Annotated[str | None, typer.Option(help="When it ends: 90d, 12h, 30m, 600s; by default never.")] = None,
    use_local: Local = False,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make a key, and show its secret once.

    push and transplant include read; admin includes everything.

    Examples:
      graftery keys create root --scope admin --home ./data
      graftery keys create ci --scope push --scope transplant --namespace vision --expires 90d
    """
    life_s = None if expires is None else _seconds(expires, "--expires")
    if use_local or home is not None:
        body = {"scopes": scope, "namespaces": namespace or None, "expires_in_s": life_s}
        made = KeyMade.model_validate(local("create", home, name, body))
    else:
        with connect(url) as client:
            made = client.create_key(name, scope, namespaces=namespace or None, expires_in_s=life_s)
    _show(made, as_json=as_json)


def list_keys(*, use_local: Local = False, home: Home = None, url: Url = None, as_json: Json = False) -> None:
    """List the keys by their names, revoked and expired ones too.

    Examples:
      graftery keys list
      graftery keys list --local --json
    """
    if use_local or home is not None:
        found = [KeyOut.model_validate(item) for item in local("list", home)["items"]]
    else:
        with connect(url) as client:
            found = [*client.keys()]
    if as_json:
        say_json(found)
        return
    rows = (
        (
            key.name,
            key.id,
            key.state,
            " ".join(key.scopes),
            " ".join(key.namespaces or ("everywhere",)),
            when(key.created_at),
            when(key.expires_at) if key.expires_at else "never",
        )
        for key in found
    )
    table(("NAME", "ID", "STATE", "SCOPES", "NAMESPACES", "CREATED", "EXPIRES"), rows)


def rotate(
    name: KeyName,
    *,
    overlap: Annotated[
        str | None, typer.Option(help="How long the secret before is taken as well: 1d, 12h; by default not at all.")
    ] = None,
    use_local: Local = False,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Give a key a new secret, and show it once.

    Examples:
      graftery keys rotate ci --overlap 1d
    """
    overlap_s = 0.0 if overlap is None else _seconds(overlap, "--overlap")
    if use_local or home is not None:
        made = KeyMade.model_validate(local("rotate", home, name, {"overlap_s": overlap_s}))
    else:
        with connect(url) as client:
            made = client.rotate_key(name, overlap_s=overlap_s)
    _show(made, as_json=as_json)


def revoke(
    name: KeyName, *, use_local: Local = False, home: Home = None, url: Url = None, as_json: Json = False
) -> None:
    """Take a key back for good.

    Examples:
      graftery keys revoke ci
    """
    if use_local or home is not None:
        local("revoke", home, name)
    else:
        with connect(url) as client:
            client.revoke_key(name)
    say_json({"revoked": name}) if as_json else say(f"{name} is revoked; within seconds nothing takes it any more")


def save(
    *,
    forget: Annotated[bool, typer.Option("--forget", help="Forget the key that is kept.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Keep a key for a service, in a file that only you can read; it is asked for, or read from standard input.

    Examples:
      graftery keys save --url https://graftery.example
      graftery keys save --forget
    """
    with Transport(url, api_key="unused") as transport:
        address = transport.url
    key = None if forget else _asked()
    target = credentials.save(address, key)
    said = {"service": address, "kept": not forget, "file": str(target)}
    say_json(said) if as_json else say(f"{target}: {'no key' if forget else 'a key'} for {address}")


def audit(
    *,
    by: Annotated[str | None, typer.Option(help="Only changes by this key, by `job ID`, by `local USER`.")] = None,
    name: Annotated[str | None, typer.Option(help="Only changes of this name, its versions and aliases.")] = None,
    action: Annotated[str | None, typer.Option(help="publish, alias, yank, delete, key.create, ...")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List every change, newest first: who, when, what, in which request.

    Examples:
      graftery audit --name cat
      graftery audit --by ci --limit 500 --json
    """
    with connect(url) as client:
        found = [*client.audit(by=by, name=name, action=action, limit=limit)]
    if as_json:
        say_json(found)
        return
    rows = ((when(row.at), row.by or "-", row.action, row.what, row.request_id or "-") for row in found)
    table(("WHEN", "BY", "ACTION", "WHAT", "REQUEST"), rows)


def _show(made: KeyMade, *, as_json: bool) -> None:
    if as_json:
        say_json(made)
        return
    say(made.secret)
    places = f" in {', '.join(made.namespaces)}" if made.namespaces else ""
    until = f", until {when(made.expires_at)}" if made.expires_at else ""
    note(f"{made.name}: {', '.join(made.scopes)}{places}{until}. This is shown once: keep it now")


def _asked() -> str:
    text = typer.prompt("Key", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    if not re.fullmatch(r"[!-~]+", text.strip()):
        raise GrafteryError("that is no key", code="request_invalid", hint="one line of text, without spaces")
    return str(text.strip())


def _seconds(text: str, option: str) -> float:
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise typer.BadParameter(f"{option} is written 90d, 12h, 30m or 600s, not {text!r}")
    return float(int(match[1]) * _UNITS[match[2]])
