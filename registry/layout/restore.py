"""Reading a registry from an OCI image layout: the files, each verified, then all rows in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from graftery.spec.manifest import Manifest
from registry.catalogue import blobs
from registry.catalogue.backup import restore_rows
from registry.db import Database
from registry.generics.backup import restore_generics
from registry.layout.export import Moved, OnBytes
from registry.layout.inventory import Inventory, document_of, missing_files, take_inventory
from registry.layout.oci import Descriptor, Reader, refused
from registry.layout.records import VersionRecord
from registry.store import Blob, Store

LEASE_S = 24 * 3600.0
"""So long are files kept that an import has stored and not named yet."""


class Found(NamedTuple):
    """What a check of a file found, as JSON values of `Manifest` (not for sample sets) and of the facts."""

    manifest: dict[str, Any] | None
    facts: dict[str, Any]


Check = Callable[[VersionRecord, Path], Found]
"""Checks the file of a module or sample set as an upload is checked; raises where it is refused."""


def restore(
    database: Database, store: Store, folder: Path, progress: OnBytes, *, check: Check | None, at_once: int = 1
) -> Moved:
    """Put everything from a folder into this registry. Files that are there are not copied again.

    Args:
        check: none: the layout's own word is taken for what is in the files.

    Raises:
        GrafteryError: `layout_invalid`, `digest_mismatch`, or what the check of a file raises. No row is written.
        Conflict: a name is something else here. No row is written.
        StoreError: `store_full`.
    """
    reader = Reader(folder)
    found = take_inventory(reader)
    copied = _copy(database, store, reader, found, progress)
    for record in found.versions.values():
        document_of(record, store)
    versions = _checked(store, found, check, at_once)
    with database.transaction() as session:
        new = restore_rows(session, found.names.values(), versions)
        restore_generics(session, found.names.values())
    total = sum(descriptor.size for descriptor in found.files.values())
    return Moved(len(found.names), new, len(found.files), total, copied)


def _copy(database: Database, store: Store, reader: Reader, found: Inventory, progress: OnBytes) -> int:
    total = sum(descriptor.size for descriptor in found.files.values())
    missing = _missing(database, store, found)
    done = total - sum(descriptor.size for descriptor in missing)
    progress(done, total)
    for descriptor in missing:
        _store(store, reader, descriptor)
        _lease(database, [descriptor])
        done += descriptor.size
        progress(done, total)
    return len(missing)


def _missing(database: Database, store: Store, found: Inventory) -> list[Descriptor]:
    """The files that the store lacks; the others are kept for this import, also those that `collect` was about to free."""
    with database.lock("collect"):
        missing = list(missing_files(found, store))
        lacking = {descriptor.hex for descriptor in missing}
        _lease(database, [each for digest, each in found.files.items() if digest not in lacking])
    return missing


def _lease(database: Database, files: Iterable[Descriptor]) -> None:
    """Have `collect` keep files that are in the store until they are named."""
    with database.transaction() as session:
        for descriptor in files:
            blobs.touch(session, Blob(descriptor.hex, descriptor.size), lease_s=LEASE_S)


def _store(store: Store, reader: Reader, descriptor: Descriptor) -> None:
    with store.stage(descriptor.size) as staging:
        for chunk in reader.chunks(descriptor):
            staging.write(chunk)
        staging.publish()


def _checked(store: Store, found: Inventory, check: Check | None, at_once: int) -> Iterable[VersionRecord]:
    """The versions with what the check found in their files."""

    def one(record: VersionRecord) -> VersionRecord:
        if check is None or record.kind == "network":
            return record
        return _with(record, check(record, store.local_path(record.digest)))

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, found.versions.values()))


def _with(record: VersionRecord, checked: Found) -> VersionRecord:
    """Facts are what a check found, never what a file says; the manifest has to be the file's."""
    if checked.manifest is not None:
        if checked.manifest["kind"] != record.kind:
            raise refused(f"{record.ref} is said to be a {record.kind}, and its file is a {checked.manifest['kind']}")
        if record.manifest is None or _read(record) != Manifest.model_validate(checked.manifest):
            raise refused(f"the manifest of {record.ref} is not the one in its file")
    return record.model_copy(update={"facts": checked.facts})


def _read(record: VersionRecord) -> Manifest:
    try:
        return Manifest.model_validate(record.manifest)
    except ValueError:
        raise refused(f"the manifest of {record.ref} cannot be read") from None
