"""What a transplant leaves behind: bytes first, then both versions, the alias, the certificate and the outcome in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from graftery.spec.manifest import NetworkParts, Role
from registry import catalogue, generics, jobs
from registry.db import Database
from registry.models import Version
from registry.store import Blob, Store
from worker.certificates import Certified, shout

# What the job's request calls them, and what lineage calls them.
ROLES: Mapping[str, Role] = {
    "category": "category",
    "task": "task",
    "teacher_task": "teacher_task",
    "samples": "samples",
    "unlabelled": "samples",
    "evaluate_on": "evaluation_samples",
}


class Overtaken(Exception):
    """The job is no longer ours: nothing was written."""


def publish(database: Database, store: Store, claim: jobs.Claim, made: Mapping[str, Any], seconds: float) -> None:
    """Publish the adapter NAME-adapter and the network NAME, and finish the job.

    Raises:
        Overtaken: another attempt or a cancel came first; the transaction was rolled back.
    """
    adapter_bytes = store.put_file(Path(made["adapter"]))
    certified = Certified.of(store, made["certified"])
    with database.read() as session:
        pinned = pinned_of(session, claim)
    network_bytes = store.put_bytes(catalogue.compose_document(_parts(pinned, adapter_bytes.digest)))
    cell = claim.request.get("generic")
    with database.transaction() as session:
        generics.lock(session, cell)
        pinned = pinned_of(session, claim)
        adapter = _publish_adapter(session, claim, made, adapter_bytes, pinned)
        network = _publish_network(session, claim, made, network_bytes, {**pinned, "adapter": adapter})
        certificate = certified.keep(session, claim, network)
        result = {"network": network.ref, "adapter": adapter.ref, "metrics": made["metrics"], "labels": made["labels"]}
        result |= {"certificate": certificate, "inversion_kept": made.get("inversion_kept")}
        if cell is not None:
            result["generic"] = generics.settle(session, claim.id, cell, network)
        if not jobs.finish(session, claim.id, claim.attempt, {**result, "seconds": round(seconds, 2)}):
            raise Overtaken(claim.id)
    shout(certificate)


def pinned_of(session: Session, claim: jobs.Claim) -> dict[str, Version]:
    """What the job works on, by role."""
    return {role: catalogue.resolve(session, ref, for_pin=True) for role, ref in claim.pinned.items()}


def _parts(members: Mapping[str, Version], adapter: str) -> NetworkParts:
    return NetworkParts(category=members["category"].digest, adapter=adapter, task=members["task"].digest)


def _publish_adapter(
    session: Session, claim: jobs.Claim, made: Mapping[str, Any], blob: Blob, pinned: Mapping[str, Version]
) -> Version:
    version, _ = catalogue.publish(
        session,
        name=f"{claim.request['name']}-adapter",
        kind="adapter",
        blob=blob,
        manifest=made["manifest"],
        facts=made["facts"],
        parents=[(ROLES[role], version.id) for role, version in pinned.items()],
        metrics=made["metrics"],
        by=author(claim),
    )
    return version


def _publish_network(
    session: Session,
    claim: jobs.Claim,
    made: Mapping[str, Any],
    blob: Blob,
    members: Mapping[str, Version],
) -> Version:
    name, alias = claim.request["name"], claim.request.get("alias")
    roles: tuple[Role, ...] = ("category", "adapter", "task")
    version, is_new = catalogue.publish(
        session,
        name=name,
        kind="network",
        blob=blob,
        manifest=None,
        facts=None,
        parents=[(role, members[role].id) for role in roles],
        parts=_parts(members, members["adapter"].digest),
        metrics=made["metrics"],
        by=author(claim),
    )
    if not is_new and made["metrics"].get("adapter") is not None:  # the samples that it is measured on change no byte
        catalogue.remeasure(session, version, made["metrics"], author(claim))
    if alias is not None:
        catalogue.set_alias(session, name, alias, version.number, author(claim))
    return version


def author(claim: jobs.Claim) -> str:
    return f"job {claim.id}"
