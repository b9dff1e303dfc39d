"""From a name under /v2 to what has to be run: a network's parts, or a category module and the networks over it. No torch.

A network has one branch, and its outputs are named by its task module. A category module has a branch for each network
that is composed of it, and the outputs are named by the networks: one run of f answers for all of them. Of a generic
network, see `serving.cells`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.orm import Session

from graftery.errors import Conflict, GrafteryError, InferenceRefused, NotFound, Unavailable
from graftery.spec.cloning import whole_manifest
from graftery.spec.manifest import Manifest, TensorSpec
from graftery.spec.names import Reference, parse_reference
from registry import catalogue, generics
from registry.models import Version
from serving import cells, images
from serving.branches import Branch, Model, Output
from serving.protocol import Declared
from serving.tensors import datatype_of

INPUT = "input"


Known = dict[tuple[str, str], Model]
"""Networks that were found before, by reference and digest, as what a version is composed of never changes; and generic networks, by
name and kind, as they were last."""

MAX_KNOWN = 10_000


def find(session: Session, name: str, version: str | None = None, known: Known | None = None) -> Model:
    """The model that a path names now.

    Args:
        name: a name, or a reference (`name@alias`, `name:3`).
        version: the path's version; only behind a plain name.
        known: kept by the caller between calls, to save queries.

    Raises:
        NotFound: with what is near in the message.
        InferenceRefused: the version is no number.
        Unavailable: a category module that no network is composed of.
    """
    known = {} if known is None else known
    reference = _reference(name, version)
    try:
        row = catalogue.resolve(session, str(reference), kinds={"network", "category"})
    except Conflict as error:
        return _generic(session, reference, known, error)
    return _category(session, row) if row.module.kind == "category" else _network(session, row, known)


def _generic(session: Session, reference: Reference, known: Known, error: Conflict) -> Model:
    try:
        stamp = generics.stamp(session, reference.name)
    except Conflict:
        hint = "networks, category modules and generic networks answer under /v2"
        raise NotFound(error.message, hint=hint) from error
    if reference.alias is not None or reference.digest is not None or reference.number not in (None, stamp.number):
        raise NotFound(
            f"{reference.name} is a generic network in its version {stamp.number}; it has no {reference}",
            hint="only what it is now can be asked; its cells' own networks keep their versions",
        )
    kept = known.get((stamp.name, generics.KIND))
    if kept is None or kept.made_of != stamp:
        now = generics.now(session, reference.name)
        kept = cells.model(now, lambda network: _network(session, network, known))
        known[stamp.name, generics.KIND] = kept
    return kept


def _reference(name: str, version: str | None) -> Reference:
    try:
        reference = parse_reference(name)
    except GrafteryError as error:
        raise NotFound(error.message, hint=error.hint) from error
    if version is None:
        return reference
    if not (version.isascii() and version.isdigit() and len(version) <= 9 and int(version) > 0):
        raise InferenceRefused(f"a version is a number from 1, got {version!r}")
    if str(reference) != reference.name:
        raise InferenceRefused(f"{name!r} already says which version, so the path cannot name version {version}")
    return Reference(name, int(version))


def _network(session: Session, row: Version, known: Known) -> Model:
    key = (row.ref, row.digest)
    if key not in known:
        if len(known) >= MAX_KNOWN:
            known.clear()
        parts = catalogue.network_parts(session, row)
        known[key] = _model(row, parts.category, [(row, parts, _branch(row, parts, None))])
    return known[key]


def _category(session: Session, row: Version) -> Model:
    networks = catalogue.networks_of(session, row)
    if not networks:
        raise Unavailable(
            f"no network is composed of {row.ref}, so it has no outputs yet",
            code="not_ready",
            hint="transplant or compose one",
        )
    found = [(network, catalogue.network_parts(session, network)) for network in networks]
    return _model(
        row, row, [(network, parts, _branch(network, parts, network.module.name)) for network, parts in found]
    )


_Way = tuple[Version, catalogue.NetworkVersions, Branch]
"""A network, what it is composed of, and the branch that it is."""


def _model(row: Version, category: Version, ways: Sequence[_Way]) -> Model:
    manifest = _manifest(category)
    first = row if row.parts is not None and ways[0][2].whole else category
    sizes = {digest: size for network, parts, _ in ways for digest, size in _sizes(network, parts).items()}
    files = {digest for network, parts, way in ways for digest in _files(network, parts, way)}
    return Model(
        name=row.module.name,
        number=row.number,
        category=first.digest,
        input=replace(_declared(INPUT, manifest.input), image=images.form_of(manifest.input, manifest.preprocessing)),
        preprocessing=manifest.preprocessing,
        branches=tuple(branch for *_, branch in ways),
        # f beside networks with clones alone: they need it for nothing, but who asks for its input's sizes does.
        parts={first.digest: first.blob.size_bytes, **sizes},
        files=frozenset(files),
    )


def _branch(network: Version, parts: catalogue.NetworkVersions, name: str | None) -> Branch:
    clones = [_manifest(clone) for clone in parts.clones]
    outputs = whole_manifest(_manifest(parts.category), _manifest(parts.task), clones).outputs
    return Branch(
        adapter=None if clones or parts.adapter is None else parts.adapter.digest,
        task=network.digest if clones else parts.task.digest,
        outputs=tuple(
            Output(_declared(_served_name(inner, name, len(outputs)), spec), inner, spec)
            for inner, spec in outputs.items()
        ),
        whole=bool(clones),
    )


def _served_name(inner: str, network: str | None, count: int) -> str:
    if network is None:
        return inner
    return network if count == 1 else f"{network}.{inner}"


def _sizes(network: Version, parts: catalogue.NetworkVersions) -> dict[str, int]:
    sizes = {part.digest: part.blob.size_bytes for part in parts.members.values()}
    return {network.digest: sum(sizes.values())} if parts.clones else sizes


def _files(network: Version, parts: catalogue.NetworkVersions, way: Branch) -> list[str]:
    modules = [part.digest for part in parts.members.values()]
    return [network.digest, *modules] if way.whole else modules


def _manifest(row: Version) -> Manifest:
    return Manifest.model_validate(row.manifest)


def _declared(name: str, spec: TensorSpec) -> Declared:
    shape = tuple(size if isinstance(size, int) else -1 for size in spec.shape)
    return Declared(name, datatype_of(spec.dtype), shape)
