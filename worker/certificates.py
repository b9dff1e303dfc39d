"""The parent's part of a certificate: which networks share a module, and what is kept of how they answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.orm import Session

from graftery.errors import StoreError
from graftery.spec.certificate import DeviceClass, Replayed
from registry import catalogue, generics, jobs
from registry.models import Version
from registry.store import Blob, Store
from worker.bench import Bench
from worker.reports import FileOf, SharedNetwork, Sharing

log = structlog.get_logger("graftery.worker")


def sharing(bench: Bench, digests: Collection[str], generic: Mapping[str, Any] | None = None) -> Sharing:
    """The networks of which a module has one of the digests, with their modules and records as local files.

    Args:
        generic: the generic network that the job is for: all its cells are certified, those that share nothing too.
    """
    with bench.database.read() as session:
        also = [] if generic is None else generics.cells_of(session, generic["name"])
        found = catalogue.sharing(session, digests, bench.settings.certify_networks, also)
        wanted = {version: _digests(session, version) for version in found.networks}
    networks = (
        SharedNetwork(
            id=version.id,
            ref=version.ref,
            files={role: _local(bench.store, digest) for role, digest in files.items()},
        )
        for version, files in wanted.items()
    )
    return Sharing(networks=tuple(networks), left_out=found.left_out)


def _digests(session: Session, network: Version) -> dict[str, str]:
    members = catalogue.network_parts(session, network).members
    probes = catalogue.probes_of(session, network)
    found = {role: part.digest for role, part in members.items()}
    return found if probes is None else {**found, "probes": probes.digest}


def _local(store: Store, digest: str) -> FileOf:
    """Missing bytes are for the certificate to tell, they do not stop the job; want of room for a copy may pass."""
    try:
        return FileOf(digest=digest, path=str(store.local_path(digest)))
    except StoreError as error:
        if error.code == "store_full":
            raise
        log.error("part_lost", digest=digest, error=str(error))
        return FileOf(digest=digest, path=None)


@dataclass(frozen=True)
class Certified:
    """What the child found, its records in the store.

    Args:
        first_seen: records of networks that had none, by version id.
        own: the record of the new network; None: it could not be made.
        replays: by version id, with `ref`.
    """

    device_class: DeviceClass
    first_seen: Mapping[int, Blob]
    own: Blob | None
    replays: Mapping[int, Mapping[str, Any]]
    left_out: int

    @classmethod
    def of(cls, store: Store, made: Mapping[str, Any]) -> Certified:
        """Put the records into the store: bytes first."""
        return cls(
            DeviceClass.model_validate(made["device_class"]),
            {int(id_): store.put_file(Path(path)) for id_, path in made["first_seen"].items()},
            store.put_file(Path(made["probes"])) if made["probes"] else None,
            {int(id_): replay for id_, replay in made["replays"].items()},
            made["left_out"],
        )

    def keep(self, session: Session, claim: jobs.Claim, network: Version | None) -> dict[str, Any]:
        """Write the rows, of networks that are still there, and give the certificate for the job's result.

        Args:
            network: that the job made; None: it made none.
        """
        by, there = f"job {claim.id}", catalogue.still_there(session, self.replays.keys())
        records = {id_: blob for id_, blob in self.first_seen.items() if id_ in there}
        for id_, blob in sorted(records.items()):
            catalogue.keep_probes(session, id_, blob, self.device_class, by)
        if self.own is not None and network is not None:
            catalogue.keep_probes(session, network.id, self.own, self.device_class, by)
        replays = {id_: Replayed.model_validate(replay) for id_, replay in self.replays.items() if id_ in there}
        catalogue.keep_replays(session, claim.id, replays)
        return {
            "networks": len(replays),
            "identical": sum(replay.identical for replay in replays.values()),
            "within_tolerance": sum(replay.same and not replay.identical for replay in replays.values()),
            "different": [
                {"network": self.replays[id_]["ref"], "reason": replay.reason}
                for id_, replay in replays.items()
                if not replay.same
            ],
            "first_seen": len(records),
            "left_out": self.left_out,
        }


def shout(certificate: Mapping[str, Any]) -> None:
    """Log what no transplant may ever do."""
    if certificate["different"]:
        log.error(
            "networks_changed",
            networks=certificate["different"],
            hint="their modules' bytes or this machine changed: look at the store, then run `graftery verify NAME`",
        )
