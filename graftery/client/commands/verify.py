"""verify: a module file by its checks, a network by a replay of its probes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graftery.client.commands.options import Json, Url, connect, say_json
from graftery.client.packing import existing
from graftery.client.render import card, facts_entries, when
from graftery.spec.certificate import Verification


def verify(
    what: Annotated[
        str,
        typer.Argument(
            help="The path of a module file, or a network in the registry: name, name:3, name@alias.",
            metavar="FILE|REF",
        ),
    ],
    *,
    device: Annotated[
        str | None, typer.Option(help="Where to replay a network: cpu or cuda; by default as it was recorded.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Check a module file here, as the service would; or replay a network of the registry here.

    A network is downloaded, composed, and asked for its outputs at the probes that were kept when a worker saw it first:
    the same to the bit on the same device class, within a tolerance elsewhere. Exit code 1 where they are not.

    Examples:
      graftery verify cat.safetensors
      graftery verify cat-in-animals
      graftery verify cat-in-animals:3 --json
    """
    # A file's name may be a reference too: what is there comes first, and what looks like a file is meant as one.
    if Path(what).is_file() or "/" in what or what.endswith(".safetensors"):
        _file(existing(what), as_json=as_json)
        return
    with connect(url) as client:
        found = client.verify(what, device=device)
    say_json(found) if as_json else _tell(found)
    if not found.same:
        raise typer.Exit(1)


def _file(path: Path, *, as_json: bool) -> None:
    from graftery.module import verify as check

    facts = check(path)
    say_json(facts) if as_json else card(f"{path}: a sound module file", facts_entries(facts))


def _tell(found: Verification) -> None:
    said, probes = found.certificate, found.certificate.probes
    recorded = f"{when(probes.made_at)} by {probes.made_by} on {probes.device_class}" if probes is not None else None
    changed = [replay.job for replay in said.replays if not replay.same]
    history = f"after {len(said.replays)} transplants" + (
        f", not the same after {', '.join(changed)}" if changed else ""
    )
    card(
        f"{said.network}: {_verdict(found)}",
        [("recorded", recorded), ("replayed here", found.device_class), ("by workers", history)],
    )


def _verdict(found: Verification) -> str:
    if found.identical:
        return "the same to the bit"
    if found.same:
        return "the same within the tolerance, which is all that another device class can tell"
    return f"NOT THE SAME: {found.reason}"
