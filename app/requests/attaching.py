"""A network's clones: put into it and taken out of it, each time a version of the same modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.deps import Service
from app.requests import names
from app.requests.members import group_metrics
from app.requests.parts import manifest_of, whole_of
from graftery.errors import Conflict, GrafteryError, Misfit
from graftery.spec.clones import ClonesRequest
from graftery.spec.cloning import classes_of
from graftery.spec.manifest import NetworkParts
from graftery.spec.names import parse_reference
from registry import catalogue
from registry.catalogue import NetworkVersions
from registry.db import Database
from registry.models import Version
from registry.store import Store

MOST = 60
"""Clones of a network: a file names 64 parents at most, and a net with clones has its target and more among them."""


@dataclass(frozen=True)
class Checked:
    """Parts of which a child has found that they go together, or why they do not."""

    parts: NetworkParts
    refusal: GrafteryError | None = None


def to_check(database: Database, ref: str, request: ClonesRequest) -> NetworkParts | None:
    """The network as it is to be; None for what its own transaction refuses, or has answered before."""
    with database.read() as session:
        try:
            return _with(session, ref, request).parts
        except GrafteryError:
            return None


def check(service: Service, parts: NetworkParts) -> Checked:
    """Have a child put the files together: it alone sees whether the clones were made for this target."""
    try:
        paths = {role: service.store.local_path(digest) for role, digest in parts.members().items()}
        service.verifier.attachment(paths.pop("category"), paths)
    except GrafteryError as error:
        return Checked(parts, error)
    return Checked(parts)


def attach(
    session: Session, store: Store, ref: str, request: ClonesRequest, checked: Checked | None
) -> tuple[Version, bool]:
    """Publish the network with clones behind those that it has.

    Args:
        checked: what `check` found of what `to_check` gave.

    Returns:
        The version, and whether it is new.

    Raises:
        NotFound: a reference names nothing.
        Conflict: `kind_mismatch`; a reference came to name something else while the files were looked at.
        Misfit: `class_known`, `semantics_mismatch`.
        GrafteryError: as the child found, `target_changed` among them.
        Unavailable: no child could be started.
    """
    found = _with(session, ref, request)
    if checked is None or found.parts != checked.parts:
        raise Conflict("a reference came to name something else while the clones were checked", hint="send it again")
    if checked.refusal is not None:
        raise checked.refusal
    return _published(session, store, ref, request, found)


def detach(session: Session, store: Store, ref: str, request: ClonesRequest) -> tuple[Version, bool]:
    """Publish the network without these clones, in whatever order they came; without the last one it is the target again.

    Raises:
        Conflict: `kind_mismatch`; it does not have such a clone.
    """
    network = _network(session, ref, request, for_pin=False)
    gone = {_own(session, network, clone).digest for clone in request.clones}
    there = [clone.digest for clone in network.clones]
    if lacking := gone - set(there):
        has = ", ".join(clone.ref for clone in network.clones) or "none"
        raise Misfit(
            f"{ref} has no clone with the sha256 {sorted(lacking)[0][:12]}",
            code="kind_mismatch",
            hint=f"its clones: {has}",
        )
    left = tuple(clone for clone in network.clones if clone.digest not in gone)
    return _published(session, store, ref, request, network._replace(clones=left))


def _own(session: Session, network: NetworkVersions, ref: str) -> Version:
    """The clone of a network that a reference means: what is taken out may be yanked, and need not be its name's newest version."""
    reference = parse_reference(ref)
    named = [clone for clone in network.clones if clone.module.name == reference.name]
    if reference.number is not None:
        named = [clone for clone in named if clone.number == reference.number]
    elif reference.digest is not None:
        named = [clone for clone in named if clone.digest == reference.digest]
    elif reference.alias is not None or len(named) != 1:
        named = []
    return named[0] if named else catalogue.resolve(session, ref, kinds={"clone"})


def check_room(network: NetworkVersions, more: int, ref: str) -> None:
    """Refuse more clones than a network can have.

    Raises:
        Conflict: `conflict`.
    """
    if len(network.clones) + more > MOST:
        raise Conflict(
            f"a network has at most {MOST} clones, and {ref} has {len(network.clones)}",
            hint="take some out first: graftery detach NETWORK CLONE",
        )


def _network(session: Session, ref: str, request: ClonesRequest, *, for_pin: bool = True) -> NetworkVersions:
    network = catalogue.resolve(session, ref, kinds={"network"}, for_pin=for_pin)
    names.check_in(session, {_name(ref, request): ("network",)})
    return catalogue.network_parts(session, network)


def _clones(session: Session, refs: Sequence[str]) -> list[Version]:
    return [catalogue.resolve(session, ref, kinds={"clone"}, for_pin=True) for ref in refs]


def _with(session: Session, ref: str, request: ClonesRequest) -> NetworkVersions:
    network = _network(session, ref, request)
    known = list(classes_of(whole_of(network), "network"))
    clones = _clones(session, request.clones)
    for clone in clones:
        more = [name for output in manifest_of(clone).outputs.values() for name in output.class_names or ()]
        if twice := [name for name in more if name in known]:
            raise Misfit(f"{ref} would have the class {twice[0]!r} twice with {clone.ref}", code="class_known")
        known += more
    check_room(network, len(clones), ref)
    return network._replace(clones=(*network.clones, *clones))


def _published(
    session: Session, store: Store, ref: str, request: ClonesRequest, found: NetworkVersions
) -> tuple[Version, bool]:
    name, given = _name(ref, request), found.parts
    blob = store.put_bytes(catalogue.compose_document(given))
    groups = group_metrics(found.category, found.task, force=True) if found.adapter is None else None
    row, created = catalogue.publish(
        session, name=name, kind="network", blob=blob, parts=given, parents=found.parents, metrics=groups
    )
    if request.alias is not None:
        catalogue.set_alias(session, name, request.alias, row.number)
    return row, created


def _name(ref: str, request: ClonesRequest) -> str:
    return request.name or parse_reference(ref).name
