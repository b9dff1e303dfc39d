"""`python -m app.backup export|import FOLDER`: what `graftery export` and `graftery import` run, beside a service or without one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from app.files.verifier import Verifier
from graftery.client.progress import transfer_bar
from graftery.errors import GrafteryError
from graftery.spec.groups import group_of
from graftery.spec.manifest import Manifest
from registry.db import Database, check_head, upgrade
from registry.layout.export import Moved, export
from registry.layout.records import VersionRecord
from registry.layout.restore import Found, restore
from registry.settings import Settings
from registry.store import Store


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all of it is there; 1 with one line on standard error where it is not."""
    asked = _arguments().parse_args(arguments)
    settings = Settings(**({"home": asked.home} if asked.home else {}))
    try:
        moved = _export(settings, asked) if asked.verb == "export" else _import(settings, asked)
    except GrafteryError as error:
        hint = f" ({error.hint})" if error.hint else ""
        sys.stderr.write(f"error[{error.code}]: {error.message}{hint}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"error[os]: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: the same command goes on from here\n")
        return 130
    sys.stdout.write(f"{json.dumps(moved._asdict()) if asked.json else _line(asked, moved)}\n")
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="graftery")
    parser.add_argument("verb", choices=["export", "import"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--trusted", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser


def _export(settings: Settings, asked: argparse.Namespace) -> Moved:
    if settings.database_url is None and not (settings.home / "graftery.db").exists():
        raise GrafteryError(f"there is no registry in {settings.home}", code="not_found", hint="give --home")
    database = Database(settings.database)
    try:
        check_head(database)
        with transfer_bar("export") as progress:
            return export(database, Store(settings), asked.folder, progress)
    finally:
        database.dispose()


def _import(settings: Settings, asked: argparse.Namespace) -> Moved:
    upgrade(settings)
    database, verifier = Database(settings.database), Verifier(settings.limits, settings.verifiers)
    store = Store(settings)
    check = None if asked.trusted else partial(_check, verifier, store)
    try:
        if check is not None:
            verifier.start()
        with transfer_bar("import") as progress:
            return restore(database, store, asked.folder, progress, check=check, at_once=settings.verifiers)
    finally:
        verifier.close()
        database.dispose()


def _check(verifier: Verifier, store: Store, record: VersionRecord, path: Path) -> Found:
    """As an upload is checked. The refusal says of which version."""
    try:
        if record.kind == "samples":
            return Found(None, verifier.samples(path))
        found = verifier.verify(path)
        group = group_of(Manifest.model_validate(found.manifest))
        if group is not None and record.kind != "teacher":  # of a teacher, what was cut from it is a member
            verifier.member(path, store.local_path(group))
    except GrafteryError as error:
        error.message = f"{record.ref}: {error.message}"
        raise
    return Found(found.manifest, found.facts)


def _line(asked: argparse.Namespace, moved: Moved) -> str:
    what = f"{moved.versions} {'new ' if asked.verb == 'import' else ''}versions of {moved.names} names"
    return f"{asked.folder}: {what}, {moved.files} files of {moved.size_bytes} bytes, {moved.copied} of them copied"


if __name__ == "__main__":
    sys.exit(main())
