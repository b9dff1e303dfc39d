"""export and import: a registry as a directory. They work on database and store, not over HTTP."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from graftery.client.commands.options import Json

Folder = Annotated[Path, typer.Argument(help="A directory in OCI image layout.", metavar="DIR")]
Home = Annotated[
    Path | None,
    typer.Option(help="Where the data are kept, as for `graftery serve`; by default your data directory."),
]


def export(folder: Folder, *, home: Home = None, as_json: Json = False) -> None:
    """Write all names, versions, aliases, lineage and files into a directory. The service may go on meanwhile.

    Called again, it copies only the files that are not there. PostgreSQL and S3 by GRAFTERY_DATABASE_URL and GRAFTERY_STORE_URL.

    Examples:
      graftery export backup/
      graftery export backup/ --home ./data
    """
    _run("export", folder, home, as_json=as_json)


def import_(
    folder: Folder,
    *,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Do not check what is in the files: nobody else could write to DIR.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Put all of a directory into a registry: every file verified by its digest, and checked as an upload is.

    Called again after a break, it copies only the files that are not there. A name or version that is there stays as it is.

    Examples:
      graftery import backup/ --home ./new
    """
    _run("import", folder, home, as_json=as_json, trusted=trusted)


def _run(verb: str, folder: Path, home: Path | None, **flags: bool) -> None:
    names = {"as_json": "--json", "trusted": "--trusted"}
    options = [*(["--home", str(home)] if home else []), *(names[flag] for flag, given in flags.items() if given)]
    sys.stdout.flush()
    # Exec, as `serve` does: the library below knows neither database nor store.
    command = [sys.executable, "-P", "-m", "app.backup", verb, *options, "--", str(folder)]
    os.execv(sys.executable, command)  # noqa: S606
