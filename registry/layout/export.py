"""Writing a registry as an OCI image layout: rows as one moment shows them, then the files, then the index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.orm import Session

from graftery.spec.manifest import Kind
from registry.catalogue.backup import name_records, version_records
from registry.db import Database
from registry.generics.backup import generic_record
from registry.generics.rows import KIND
from registry.layout.oci import MANIFEST_TYPE, REF_NAME, TITLE, Descriptor, Manifest, Writer, dump
from registry.layout.records import (
    NAME_TYPE,
    PROBES_TYPE,
    SUBJECT_ROLES,
    VERSION_TYPE,
    Record,
    VersionRecord,
    file_type,
)
from registry.store import Store

OnBytes = Callable[[int, int], None]
"""Called with the bytes that are through and the bytes in all."""


class Moved(NamedTuple):
    """What an export or an import did. Files that were there are counted in `files` and not in `copied`."""

    names: int
    versions: int
    files: int
    size_bytes: int
    copied: int


def export(database: Database, store: Store, folder: Path, progress: OnBytes) -> Moved:
    """Write everything into a folder; what an earlier export left there is used.

    Raises:
        StoreError: `store_corrupt`: a file is missing in the store, or damaged. Nothing is left half written.
    """
    export_ = _Export(Writer(folder))
    with database.snapshot() as session:
        export_.documents(session)
    total, done, copied = sum(export_.files.values()), 0, 0
    for digest, size_bytes in export_.files.items():
        if not export_.writer.has(digest, size_bytes):
            export_.writer.copy(digest, store.read(digest))
            copied += 1
        done += size_bytes
        progress(done, total)
    export_.writer.finish(export_.index)
    return Moved(export_.names, len(export_.made), len(export_.files), total, copied)


class _Export:
    """The documents of all rows, and the files that they name."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.index: list[Descriptor] = []
        self.files: dict[str, int] = {}
        self.made: dict[tuple[str, int], Descriptor] = {}
        self.names = 0

    def documents(self, session: Session) -> None:
        for found in name_records(session):
            name = (
                found.model_copy(update={"generic": generic_record(session, found.name)})
                if found.kind == KIND
                else found
            )
            self._manifest(_document(name), NAME_TYPE, name.name, [], None)
            self.names += 1
        for version in version_records(session):
            self._version(version)

    def _version(self, record: VersionRecord) -> None:
        layers = [self._file(record.digest, record.size_bytes, file_type(record.kind), _title(record))]
        if record.probes is not None:
            title = f"{record.name}-{record.number}.probes.safetensors"
            layers.append(self._file(record.probes.digest, record.probes.size_bytes, PROBES_TYPE, title))
        # A manifest has one subject: an adapter between two modules has two, of the same version.
        document, subjects = _document(record), self._subjects(record)
        for subject in subjects[1:]:
            self._manifest(document, VERSION_TYPE, None, layers, subject)
        self.made[record.key] = self._manifest(document, VERSION_TYPE, record.ref, layers, subjects[0])

    def _subjects(self, record: VersionRecord) -> list[Descriptor] | list[None]:
        parents = [each for each in record.parents if each.role in SUBJECT_ROLES] if record.kind == "adapter" else []
        return [_plain(self.made[each.key]) for each in parents] or [None]

    def _file(self, digest: str, size_bytes: int, media_type: str, title: str) -> Descriptor:
        self.files[digest] = size_bytes
        annotations = {TITLE: title}
        return Descriptor(media_type=media_type, digest=f"sha256:{digest}", size=size_bytes, annotations=annotations)

    def _manifest(
        self, document: bytes, kind: str, ref: str | None, layers: list[Descriptor], subject: Descriptor | None
    ) -> Descriptor:
        config = self.writer.add(document, kind)
        manifest = Manifest(artifact_type=kind, config=config, layers=layers or [config], subject=subject)
        annotations = None if ref is None else {REF_NAME: ref}
        made = self.writer.add(dump(manifest), MANIFEST_TYPE, artifact_type=kind, annotations=annotations)
        self.index.append(made)
        return made


def _plain(descriptor: Descriptor) -> Descriptor:
    return descriptor.model_copy(update={"annotations": None})


def _document(record: Record) -> bytes:
    """Keys keep their order: that of a net's outputs means something."""
    return json.dumps(record.model_dump(mode="json"), separators=(",", ":")).encode()


def _title(record: VersionRecord) -> str:
    kinds: dict[Kind, str] = {"network": "json"}
    return f"{record.name}-{record.number}.{kinds.get(record.kind, 'safetensors')}"
