"""What a cloning leaves behind: bytes first, then the clone, perhaps the network that has it, the certificate and the outcome in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from graftery.spec.groups import joined_metrics
from graftery.spec.manifest import Manifest, NetworkParts, Role
from registry import catalogue, jobs
from registry.db import Database
from registry.models import Version
from registry.store import Blob, Store
from worker.certificates import Certified, shout
from worker.publish import Overtaken, author, pinned_of

# What the job's request calls them, and what lineage calls them.
ROLES: Mapping[str, Role] = {
    "source": "source",
    "target": "target",
    "samples": "samples",
    "evaluate_on": "evaluation_samples",
    "source_evaluate_on": "evaluation_samples",
}


def publish_clone(database: Database, store: Store, claim: jobs.Claim, made: Mapping[str, Any], seconds: float) -> None:
    """Publish the clone and, where one is asked for, the network that has it, and finish the job.

    Raises:
        Overtaken: another attempt or a cancel came first; the transaction was rolled back.
    """
    clone_bytes = store.put_file(Path(made["clone"]))
    certified = Certified.of(store, made["certified"])
    with database.read() as session:
        parts = _parts(session, claim, clone_bytes.digest)
    network_bytes = None if parts is None else store.put_bytes(catalogue.compose_document(parts))
    with database.transaction() as session:
        clone = _publish_clone(session, claim, made, clone_bytes)
        network = (
            None if network_bytes is None else _publish_network(session, claim, made["metrics"], network_bytes, clone)
        )
        certificate = certified.keep(session, claim, network)
        result: dict[str, Any] = {"clone": clone.ref, **({} if network is None else {"network": network.ref})}
        result |= {"metrics": made["metrics"], "certificate": certificate, "seconds": round(seconds, 2)}
        if not jobs.finish(session, claim.id, claim.attempt, result):
            raise Overtaken(claim.id)
    shout(certificate)


def _with(session: Session, claim: jobs.Claim, clones: tuple[Version, ...] = ()) -> catalogue.NetworkVersions:
    """What the target is made of, and these clones behind its own."""
    target = catalogue.network_parts(session, pinned_of(session, claim)["target"])
    return target._replace(clones=(*target.clones, *clones))


def _parts(session: Session, claim: jobs.Claim, clone: str) -> NetworkParts | None:
    """Of the network to publish; None where none is asked for."""
    if "network" not in claim.request:
        return None
    target = _with(session, claim).parts
    return target.model_copy(update={"clones": (*(target.clones or ()), clone)})


def _publish_clone(session: Session, claim: jobs.Claim, made: Mapping[str, Any], blob: Blob) -> Version:
    version, is_new = catalogue.publish(
        session,
        name=claim.request["name"],
        kind="clone",
        blob=blob,
        manifest=made["manifest"],
        facts=made["facts"],
        parents=[(ROLES[role], version.id) for role, version in pinned_of(session, claim).items()],
        metrics=made["metrics"],
        by=author(claim),
    )
    if not is_new:
        _measure_again(session, claim, version, made["metrics"])
    return version


def _publish_network(
    session: Session, claim: jobs.Claim, metrics: dict[str, Any], blob: Blob, clone: Version
) -> Version:
    name, alias, found = claim.request["network"], claim.request.get("alias"), _with(session, claim, (clone,))
    version, is_new = catalogue.publish(
        session,
        name=name,
        kind="network",
        blob=blob,
        parents=found.parents,
        parts=found.parts,
        metrics={**(_groups(found) or {}), **metrics},
        by=author(claim),
    )
    if not is_new:
        _measure_again(session, claim, version, metrics)
    if alias is not None:
        catalogue.set_alias(session, name, alias, version.number, author(claim))
    return version


def _measure_again(session: Session, claim: jobs.Claim, version: Version, metrics: Mapping[str, Any]) -> None:
    """The samples that a clone is measured on change none of its bytes: what was measured on others now is told, too."""
    if "original" in metrics or "source_wanted" in metrics:
        catalogue.remeasure(session, version, {**(version.metrics or {}), **metrics}, author(claim))


def _groups(network: catalogue.NetworkVersions) -> dict[str, Any] | None:
    if network.adapter is not None:
        return None
    category, task = (Manifest.model_validate(part.manifest) for part in (network.category, network.task))
    return joined_metrics(category, task, force=True)
