"""A network composed by hand, and how good it is where samples are named."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.requests import names
from app.requests.members import group_metrics
from app.requests.parts import check_samples, manifest_of, samples_of
from graftery.errors import Conflict, GrafteryError, Misfit
from graftery.spec import labels
from graftery.spec.fit import check_join, output_of
from graftery.spec.manifest import Kind, NetworkParts, Role
from graftery.spec.wire import NetworkRequest
from registry import catalogue
from registry.db import Database
from registry.models import Version
from registry.store import Store


@dataclass(frozen=True)
class Asked:
    """A measurement: all that its numbers depend on, by digests; `files` has `task`, `samples`, and perhaps `adapter` and `own`."""

    category: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    asked: Asked
    metrics: dict[str, Any]


@dataclass(frozen=True)
class _Planned:
    """A network that can be: its versions by role, the samples and the head's own extractor among them, and what it says of groups."""

    versions: dict[Role, Version]
    own: Version | None
    groups: dict[str, Any] | None

    @property
    def document(self) -> bytes:
        return catalogue.compose_document(self.parts)

    @property
    def parts(self) -> NetworkParts:
        pinned = {role: self.versions[role].digest for role in ("category", "adapter", "task") if role in self.versions}
        return NetworkParts.model_validate(pinned)

    @property
    def samples(self) -> Version | None:
        return self.versions.get("evaluation_samples")

    @property
    def asked(self) -> Asked | None:
        if self.samples is None:
            return None
        used = {"task": self.versions["task"], "samples": self.samples, "adapter": self.versions.get("adapter")}
        files = {role: version.digest for role, version in {**used, "own": self.own}.items() if version is not None}
        return Asked(self.versions["category"].digest, files)


def to_measure(database: Database, request: NetworkRequest) -> Asked | None:
    """What is to be measured before the network is published; None for nothing, and for what its own transaction refuses or has."""
    if request.evaluate_on is None:
        return None
    with database.read() as session:
        try:
            planned = _plan(session, request)
        except GrafteryError:
            return None
        return planned.asked if _known(session, request.name, planned) is None else None


def compose(
    session: Session, store: Store, request: NetworkRequest, measured: Measured | None = None
) -> tuple[Version, bool]:
    """Check that the parts fit, and publish the network: its bytes are the document that pins them.

    Args:
        measured: what `to_measure` asked for.

    Returns:
        The version, and whether it is new.

    Raises:
        NotFound: a reference names nothing.
        Conflict: the name belongs to another kind; the network is there, and was not measured on these samples.
        Misfit: the parts do not fit without further learning, or are not of one compatibility group.
        SamplesRefused: the samples to measure on.
    """
    planned = _plan(session, request)
    metrics = _metrics(session, request.name, planned, measured)
    row, created = catalogue.publish(
        session,
        name=request.name,
        kind="network",
        blob=store.put_bytes(planned.document),
        parts=planned.parts,
        parents=[(role, version.id) for role, version in planned.versions.items()],
        metrics=metrics,
    )
    if request.alias is not None:
        catalogue.set_alias(session, request.name, request.alias, row.number)
    return row, created


def _plan(session: Session, request: NetworkRequest) -> _Planned:
    names.check_in(session, {request.name: ("network",)})
    wanted: tuple[tuple[Role, str | None, Kind], ...] = (
        ("category", request.category, "category"),
        ("task", request.task, "task"),
        ("adapter", request.adapter, "adapter"),
        ("evaluation_samples", request.evaluate_on, "samples"),
    )
    versions = {
        role: catalogue.resolve(session, ref, kinds={kind}, for_pin=True)
        for role, ref, kind in wanted
        if ref is not None
    }
    category, task, adapter = versions["category"], versions["task"], versions.get("adapter")
    check_join(
        manifest_of(category),
        manifest_of(task),
        adapter=None if adapter is None else manifest_of(adapter),
        with_adapter=adapter is not None,
        force=request.force,
    )
    groups = group_metrics(category, task, force=request.force) if adapter is None else None
    if "evaluation_samples" not in versions:
        return _Planned(versions, None, groups)
    _check_measured(versions["evaluation_samples"], category, task)
    return _Planned(versions, _own(session, category, task), groups)


def _check_measured(samples: Version, category: Version, task: Version) -> None:
    meaning = output_of(manifest_of(task))
    check_samples(samples, "evaluate_on", manifest_of(category).input, meaning, labelled=True)
    labels.check_measured(samples_of(samples).labels, meaning, f"evaluate_on {samples.ref}")


def _own(session: Session, category: Version, task: Version) -> Version | None:
    """The category module that the task module was trained on, if it reads what `category` reads: else the samples are not its own."""
    ours = manifest_of(category)
    for own in catalogue.own_categories(session, task):
        theirs = manifest_of(own)
        if (theirs.input, theirs.preprocessing) == (ours.input, ours.preprocessing) and _fits(own, task):
            return own
    return None


def _fits(category: Version, task: Version) -> bool:
    try:
        check_join(manifest_of(category), manifest_of(task), with_adapter=False, force=True)
    except Misfit:
        return False
    return True


def _known(session: Session, name: str, planned: _Planned) -> Version | None:
    """The network, where it is there: versions do not change, so that it is not measured again."""
    return catalogue.version_of(session, name, hashlib.sha256(planned.document).hexdigest())


def _metrics(session: Session, name: str, planned: _Planned, measured: Measured | None) -> dict[str, Any] | None:
    if planned.samples is None:
        return planned.groups
    known = _known(session, name, planned)
    if known is not None:
        if (known.metrics or {}).get("evaluated_on") != planned.samples.ref:
            raise Conflict(
                f"this network is {known.ref} already, which was not measured on {planned.samples.ref}",
                hint="a version does not change: compose it under another name to measure it",
            )
        return known.metrics
    if measured is None or measured.asked != planned.asked:
        raise Conflict("a reference came to name something else while the network was measured", hint="send it again")
    own = None if planned.own is None else planned.own.ref
    return {**(planned.groups or {}), **measured.metrics, "evaluated_on": planned.samples.ref, "own_category": own}
