"""Certificates: which networks share a module with a new one, what they answered, and what they answer now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, aliased

from graftery.spec.certificate import CertificateOut, DeviceClass, ProbesOut, Replayed, ReplayOut
from graftery.spec.manifest import json_of
from registry.catalogue import blobs
from registry.catalogue.lineage import network_parts
from registry.models import Edge, Module, ProbesRow, ReplayRow, Version
from registry.store import Blob

_REPLAYS_SHOWN = 100


class Sharing(NamedTuple):
    """Networks that share a module, the newest first, and how many more there are than were asked for."""

    networks: list[Version]
    left_out: int


def sharing(session: Session, digests: Collection[str], limit: int, also: Collection[int] = ()) -> Sharing:
    """The networks, but for the yanked ones, of which a module has one of these digests, whatever its name.

    Args:
        limit: how many are given, unless `also` has more: then these.
        also: ids of networks to be among them.
    """
    part = aliased(Version)
    made = select(Edge.child_id).join(part, part.id == Edge.parent_id).where(part.digest.in_(digests))
    query = select(Version).join(Module).where(Module.kind == "network", Version.yanked_at.is_(None))
    query = query.where(or_(Version.id.in_(made), Version.id.in_(also)))
    found = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    order = Version.id.in_(also).desc(), Version.id.desc()
    networks = list(session.scalars(query.order_by(*order).limit(max(limit, len(also)))))
    return Sharing(networks, found - len(networks))


def probes_of(session: Session, version: Version) -> ProbesRow | None:
    """The record of a network, where a worker has made one."""
    return session.get(ProbesRow, version.id)


def still_there(session: Session, version_ids: Collection[int]) -> set[int]:
    """Those of the versions that were not deleted; they cannot be until the transaction ends."""
    query = select(Version.id).where(Version.id.in_(version_ids)).order_by(Version.id)
    return set(session.scalars(query.with_for_update(read=True, key_share=True, of=Version)))


def keep_probes(session: Session, version_id: int, blob: Blob, device_class: DeviceClass, by: str) -> None:
    """Name a record that is in the store. The first one of a network stays for ever."""
    blobs.touch(session, blob)
    values = {"version_id": version_id, "digest": blob.digest, "device_class": json_of(device_class), "made_by": by}
    statement = blobs.upsert(session, ProbesRow).values(**values)
    session.execute(statement.on_conflict_do_nothing(index_elements=["version_id"]))


def keep_replays(session: Session, job_id: str, replays: Mapping[int, Replayed]) -> None:
    """Note how networks, by version id, answered after a job."""
    session.add_all(
        ReplayRow(version_id=version_id, job_id=job_id, **replay.model_dump()) for version_id, replay in replays.items()
    )
    session.flush()


def certificate_out(session: Session, version: Version) -> CertificateOut:
    """What is known about a network.

    Raises:
        Conflict: `kind_mismatch`: the version is no network.
    """
    parts = network_parts(session, version)
    query = select(ReplayRow).where(ReplayRow.version_id == version.id)
    replays = session.scalars(query.order_by(ReplayRow.at.desc(), ReplayRow.job_id).limit(_REPLAYS_SHOWN))
    return CertificateOut.model_validate(
        {
            "network": version.ref,
            "digest": version.digest,
            "parts": {role: part.pin for role, part in parts._replace(clones=()).members.items()},
            "clones": [clone.pin for clone in parts.clones],
            "probes": _probes_out(probes_of(session, version)),
            "replays": [_replay_out(row) for row in replays],
        }
    )


def _probes_out(row: ProbesRow | None) -> ProbesOut | None:
    if row is None:
        return None
    return ProbesOut.model_validate(
        {
            "digest": row.digest,
            "size_bytes": row.blob.size_bytes,
            "device_class": row.device_class,
            "made_at": row.made_at,
            "made_by": row.made_by,
        }
    )


def _replay_out(row: ReplayRow) -> ReplayOut:
    columns = {field: getattr(row, field) for field in ReplayOut.model_fields if field != "job"}
    return ReplayOut.model_validate({"job": row.job_id, **columns})
