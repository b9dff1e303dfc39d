"""What a layout holds, read and held against itself before anything is written: a stranger may have made it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pydantic import ValidationError

from graftery.errors import Misfit
from graftery.spec.groups import group_of
from graftery.spec.manifest import Manifest as ModuleManifest
from graftery.spec.names import LATEST
from registry.catalogue.publish import compose_document
from registry.layout.oci import MANIFEST_TYPE, Descriptor, Manifest, Reader, refused
from registry.layout.records import NAME_TYPE, VERSION_TYPE, NameRecord, VersionRecord
from registry.store import Store

MAX_MANIFESTS = 2_000_000
_PARTS = ("category", "adapter", "task", "clone")
Key = tuple[str, int]


@dataclass
class Inventory:
    """Names, versions in an order in which parents come first, and the files that they need, by digest."""

    names: dict[str, NameRecord] = field(default_factory=dict)
    versions: dict[Key, VersionRecord] = field(default_factory=dict)
    files: dict[str, Descriptor] = field(default_factory=dict)


def take_inventory(reader: Reader) -> Inventory:
    """Read every document.

    Raises:
        GrafteryError: `layout_invalid`, `digest_mismatch`.
    """
    found, seen = Inventory(), set[str]()
    index = reader.index().manifests
    if len(index) > MAX_MANIFESTS:
        raise refused(f"index.json names over {MAX_MANIFESTS} manifests")
    for descriptor in index:
        if descriptor.media_type != MANIFEST_TYPE:
            raise refused(f"{descriptor.digest} is a {descriptor.media_type}, not a manifest")
        manifest = reader.document(Manifest, descriptor)
        if manifest.config.digest in seen:  # of an adapter, once more, for its other subject
            continue
        seen.add(manifest.config.digest)
        _take(reader, manifest, found)
    _check_names(found)
    found.versions = {record.key: record for record in _parents_first(found.versions)}
    for record in found.versions.values():
        _check_version(record, found)
    return found


def _take(reader: Reader, manifest: Manifest, found: Inventory) -> None:
    if manifest.artifact_type == NAME_TYPE:
        name = reader.document(NameRecord, manifest.config)
        if found.names.setdefault(name.name, name) is not name:
            raise refused(f"the name {name.name} stands there twice")
    elif manifest.artifact_type == VERSION_TYPE:
        version = reader.document(VersionRecord, manifest.config)
        if found.versions.setdefault(version.key, version) is not version:
            raise refused(f"{version.ref} stands there twice")
        _take_files(version, manifest, found)
    else:
        raise refused(f"{manifest.config.digest} is a {manifest.artifact_type}, which this version does not know")


def _take_files(version: VersionRecord, manifest: Manifest, found: Inventory) -> None:
    wanted = [(version.digest, version.size_bytes)]
    if version.probes is not None:
        wanted.append((version.probes.digest, version.probes.size_bytes))
    if [(layer.hex, layer.size) for layer in manifest.layers] != wanted:
        raise refused(f"the layers of {version.ref} are not the files that its record names")
    for layer in manifest.layers:
        if found.files.setdefault(layer.hex, layer).size != layer.size:
            raise refused(f"{layer.digest} has two sizes")


def _check_names(found: Inventory) -> None:
    for version in found.versions.values():
        name = found.names.get(version.name)
        if name is None or name.kind != version.kind or version.number > name.last_number:
            raise refused(f"{version.ref} does not fit what the layout says of the name {version.name}")
    for name in found.names.values():
        for alias in name.aliases:
            if (name.name, alias.version) not in found.versions or alias.alias == LATEST:
                raise refused(f"the alias {name.name}@{alias.alias} is on a version that is not there")
        if len({alias.alias for alias in name.aliases}) < len(name.aliases):
            raise refused(f"an alias of {name.name} stands there twice")
    digests = {(version.name, version.digest) for version in found.versions.values()}
    if len(digests) < len(found.versions):
        raise refused("two versions of one name have the same bytes")


def _parents_first(versions: dict[Key, VersionRecord]) -> Iterator[VersionRecord]:
    """Every version after its parents; as they stand, where that is so already. No recursion: a chain may be long."""
    given: set[Key] = set()
    for record in versions.values():
        way = [record]
        on_the_way = {record.key}
        while way:
            waiting = _next_parent(way[-1], versions, given)
            if waiting is None:
                last = way.pop()
                on_the_way.discard(last.key)
                if last.key not in given:
                    given.add(last.key)
                    yield last
            elif waiting.key in on_the_way:
                raise refused(f"{waiting.ref} was made from itself")
            else:
                way.append(waiting)
                on_the_way.add(waiting.key)


def _next_parent(record: VersionRecord, versions: dict[Key, VersionRecord], given: set[Key]) -> VersionRecord | None:
    for parent in record.parents:
        if parent.key not in versions:
            raise refused(f"{record.ref} was made from {parent.name}:{parent.number}, which is not there")
        if parent.key not in given:
            return versions[parent.key]
    return None


def _check_version(record: VersionRecord, found: Inventory) -> None:
    """The parts of a network are what its lineage says: they are looked up by it."""
    if (record.kind == "network") != (record.parts is not None) or (record.yanked_at is None) != (
        record.yank_reason is None
    ):
        raise refused(f"{record.ref} is not whole")
    if len({(each.role, each.key) for each in record.parents}) < len(record.parents):
        raise refused(f"a parent of {record.ref} stands there twice")
    _check_group(record, found)
    if record.parts is None:
        return
    given = record.parts.by_role()
    for role in _PARTS:
        digests = sorted(found.versions[each.key].digest for each in record.parents if each.role == role)
        if digests != sorted(digest for named, digest in given if named == role):
            raise refused(f"the {role} of the network {record.ref} is not what it was made from")
        if any(found.versions[each.key].kind != role for each in record.parents if each.role == role):
            raise refused(f"the {role} of the network {record.ref} is of another kind")


def _check_group(record: VersionRecord, found: Inventory) -> None:
    """The compatibility group that a module names is one of those that it was made from, and no other is: joining goes by it."""
    made = [found.versions[each.key] for each in record.parents if each.role == "group"]
    try:
        named = None if record.manifest is None else group_of(ModuleManifest.model_validate(record.manifest))
    except (ValidationError, Misfit):
        raise refused(f"the manifest of {record.ref} cannot be read") from None
    if [each.digest for each in made] != ([] if named is None else [named]) or any(
        each.kind != "group" for each in made
    ):
        raise refused(f"the compatibility group of {record.ref} is not the one that its manifest names")


def document_of(record: VersionRecord, store: Store) -> None:
    """A network's file has to be the one that its parts make."""
    if record.parts is not None and b"".join(store.read(record.digest)) != compose_document(record.parts):
        raise refused(f"the file of {record.ref} does not name the parts that its record names")


def missing_files(found: Inventory, store: Store) -> Iterable[Descriptor]:
    """Those that the store lacks."""
    for descriptor in found.files.values():
        if not (store.exists(descriptor.hex) and store.size(descriptor.hex) == descriptor.size):
            yield descriptor
