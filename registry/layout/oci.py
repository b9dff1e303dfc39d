"""The directory: `oci-layout`, `index.json` and `blobs/sha256/HEX`. What is read from it is taken for hostile.

A path is made of hex digits only, a file is read up to the size that its descriptor says, and its bytes are compared with their
digest before anything is done with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graftery.errors import GrafteryError, StoreError
from graftery.spec.limits import GIB, MIB

LAYOUT = {"imageLayoutVersion": "1.0.0"}
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
REF_NAME, TITLE = "org.opencontainers.image.ref.name", "org.opencontainers.image.title"
# An index of 100 000 versions has some 50 MB.
MAX_INDEX_BYTES = 512 * MIB
MAX_DOCUMENT_BYTES = 16 * MIB
MAX_DOCUMENTS_BYTES = 8 * GIB
"""Of all documents together."""
CHUNK_BYTES = MIB

_Model = TypeVar("_Model", bound=BaseModel)


class Oci(BaseModel):
    """Base of OCI's documents: camelCase on disk; what we do not know is passed over, as the specification wants."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")


class Descriptor(Oci):
    media_type: str = Field(alias="mediaType")
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: int = Field(ge=0, le=2**50)
    artifact_type: str | None = Field(None, alias="artifactType")
    annotations: dict[str, str] | None = None

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")


class Manifest(Oci):
    schema_version: int = Field(2, alias="schemaVersion", ge=2, le=2)
    media_type: str = Field(MANIFEST_TYPE, alias="mediaType", pattern=f"^{MANIFEST_TYPE.replace('+', '[+]')}$")
    artifact_type: str = Field(alias="artifactType")
    config: Descriptor
    layers: list[Descriptor] = Field(max_length=16)
    subject: Descriptor | None = None


class Index(Oci):
    schema_version: int = Field(2, alias="schemaVersion", ge=2, le=2)
    media_type: str = Field(INDEX_TYPE, alias="mediaType")
    manifests: list[Descriptor]


def dump(model: BaseModel) -> bytes:
    """Canonical JSON: the same content has the same digest."""
    document = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def refused(text: str, hint: str | None = None) -> GrafteryError:
    return GrafteryError(text, code="layout_invalid", hint=hint)


class Writer:
    """Fills a directory. `index.json` comes last, so that a directory without it is an export that did not end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)
        _write_whole(folder / "oci-layout", [json.dumps(LAYOUT).encode()])

    def has(self, digest: str, size_bytes: int) -> bool:
        """Whether a file is there. Files appear whole, so its size will do."""
        path = self._blobs / digest
        return path.is_file() and path.stat().st_size == size_bytes

    def add(self, data: bytes, media_type: str, **more: Any) -> Descriptor:
        """Write a document."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest, len(data)):
            _write_whole(self._blobs / digest, [data])
        return Descriptor(media_type=media_type, digest=f"sha256:{digest}", size=len(data), **more)

    def copy(self, digest: str, chunks: Iterable[bytes]) -> None:
        """Write a file from a store.

        Raises:
            StoreError: `store_corrupt`: these are other bytes.
        """
        _write_whole(self._blobs / digest, chunks, digest)

    def finish(self, manifests: list[Descriptor]) -> None:
        _write_whole(self._folder / "index.json", [dump(Index(manifests=manifests))])


def _write_whole(path: Path, chunks: Iterable[bytes], digest: str | None = None) -> None:
    """Write a file that appears whole, durably, and with these bytes, or not at all."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
    try:
        with os.fdopen(handle, "wb") as file:
            computed = hashlib.sha256()
            for chunk in chunks:
                computed.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest is not None and computed.hexdigest() != digest:
            raise StoreError(
                f"The store has other bytes under {digest} than it should", hint="restore them from a backup"
            )
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)


class Reader:
    """Reads a directory that a stranger may have made.

    Raises:
        GrafteryError: `layout_invalid`, here and in every method; `digest_mismatch` where bytes are not what they should be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._documents_bytes = 0
        if _json(self._read("oci-layout", 4096), "oci-layout") != LAYOUT:
            raise refused(f"{folder} has a layout of another version", f"wanted is {LAYOUT}")

    def index(self) -> Index:
        return _parse(Index, self._read("index.json", MAX_INDEX_BYTES), "index.json")

    def document(self, model: type[_Model], descriptor: Descriptor) -> _Model:
        """A document, its bytes verified."""
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise refused(f"{descriptor.digest} is a document of over {MAX_DOCUMENT_BYTES} bytes")
        self._documents_bytes += descriptor.size
        if self._documents_bytes > MAX_DOCUMENTS_BYTES:
            raise refused(f"the documents have over {MAX_DOCUMENTS_BYTES} bytes together")
        return _parse(model, b"".join(self.chunks(descriptor)), descriptor.digest)

    def chunks(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The bytes; the last step raises where they were not those of the digest."""
        computed, left = hashlib.sha256(), descriptor.size
        with self._open(f"blobs/sha256/{descriptor.hex}") as file:
            if (size := os.fstat(file.fileno()).st_size) != descriptor.size:
                raise refused(f"{descriptor.digest} has {size} bytes, and its descriptor says {descriptor.size}")
            while left > 0 and (chunk := file.read(min(CHUNK_BYTES, left))):
                computed.update(chunk)
                left -= len(chunk)
                yield chunk
        if left or computed.hexdigest() != descriptor.hex:
            raise GrafteryError(
                f"{descriptor.digest} has other bytes than its name says",
                code="digest_mismatch",
                hint="the layout was damaged: copy it, or export it, again",
            )

    def _read(self, name: str, limit: int) -> bytes:
        with self._open(name) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise refused(f"{name} is over {limit} bytes")
        return data

    @contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        path = self._folder / name
        try:
            # Neither a link to elsewhere, nor a pipe or device that would be read without an end.
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise refused(f"{path} is missing", "is this the directory of a whole export?") from None
        except OSError as error:
            raise refused(f"{path} cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise refused(f"{path} is no plain file")
        with os.fdopen(handle, "rb") as file:
            yield file


def _json(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise refused(f"{what} is not JSON") from None


def _parse(model: type[_Model], data: bytes, what: str) -> _Model:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise refused(f"{what}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
