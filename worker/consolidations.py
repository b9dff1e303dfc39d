"""What a consolidation leaves behind: bytes first, then the module, a network for each cell, and the outcome in one transaction.

All of it are new versions beside the old ones; no name is served by another one before somebody promotes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from graftery.spec.consolidating import Shared
from graftery.spec.manifest import Kind, NetworkParts, Role
from registry import catalogue, generics, jobs
from registry.catalogue import NetworkVersions
from registry.db import Database
from registry.models import Version
from registry.store import Blob, Store
from worker.certificates import Certified, shout
from worker.publish import Overtaken, author, pinned_of


@dataclass(frozen=True)
class _File:
    """A module that was made: its bytes are in the store."""

    blob: Blob
    manifest: dict[str, Any]
    facts: dict[str, Any]

    @classmethod
    def of(cls, store: Store, made: Mapping[str, Any]) -> _File:
        return cls(store.put_file(Path(made["path"])), made["manifest"], made["facts"])


def publish_consolidation(
    database: Database, store: Store, claim: jobs.Claim, made: Mapping[str, Any], seconds: float
) -> None:
    """Publish what learned on and the networks that have it, and finish the job.

    Raises:
        Overtaken: another attempt or a cancel came first; the transaction was rolled back.
    """
    module = None if made["module"] is None else _File.of(store, made["module"])
    adapters = {int(index): _File.of(store, each) for index, each in made["adapters"].items()}
    certified = Certified.of(store, made["certified"])
    documents: list[Blob] = []
    if module is not None:
        with database.read() as session:
            wanted = _Publisher.of(session, claim, pinned_of(session, claim), module, adapters=adapters).parts
        documents = [store.put_bytes(catalogue.compose_document(parts)) for parts in wanted]
    with database.transaction() as session:
        generics.lock(session, claim.request["generic"])
        cells = [
            dict(told, report=report) for told, report in zip(claim.request["cells"], made["reports"], strict=True)
        ]
        pinned = pinned_of(session, claim)
        result: dict[str, Any] = {"unchanged": made["unchanged"], "steps": made["steps"], "cells": cells}
        result |= {"before": pinned[claim.request["kind"]].ref, "module": None}
        if module is not None:
            publisher = _Publisher.of(session, claim, pinned, module, adapters=adapters)
            result["module"] = publisher.publish(documents, cells).ref
        result |= {"certificate": certified.keep(session, claim, None), "seconds": round(seconds, 2)}
        if not jobs.finish(session, claim.id, claim.attempt, result):
            raise Overtaken(claim.id)
    shout(result["certificate"])


@dataclass(frozen=True)
class _Publisher:
    """What a consolidation was about, as it is now: the networks in the order of its cells, and what they were composed of."""

    session: Session
    claim: jobs.Claim
    module: _File
    adapters: Mapping[int, _File]
    pinned: Mapping[str, Version]
    networks: list[Version]
    before: list[NetworkVersions]

    @classmethod
    def of(
        cls,
        session: Session,
        claim: jobs.Claim,
        pinned: Mapping[str, Version],
        module: _File,
        *,
        adapters: Mapping[int, _File],
    ) -> _Publisher:
        networks = [pinned[f"cell.{index}.network"] for index in range(len(claim.request["cells"]))]
        before = [catalogue.network_parts(session, network) for network in networks]
        return cls(session, claim, module, adapters, pinned, networks, before)

    @property
    def kind(self) -> Shared:
        found: Shared = self.claim.request["kind"]
        return found

    @property
    def parts(self) -> list[NetworkParts]:
        """Of the networks to come."""
        found = []
        for index, before in enumerate(self.before):
            now: dict[str, str] = {self.kind: self.module.blob.digest}
            if index in self.adapters:
                now["adapter"] = self.adapters[index].blob.digest
            found.append(before.parts.model_copy(update=now))
        return found

    def publish(self, documents: list[Blob], cells: list[dict[str, Any]]) -> Version:
        """Publish the module and the networks; each cell is told which is its own."""
        module = self._file(self.pinned[self.kind].module.name, self.kind, self.module, self._taught_by())
        for index, (network, document, cell) in enumerate(zip(self.networks, documents, cells, strict=True)):
            now = self.before[index]
            now = now._replace(task=module) if self.kind == "task" else now._replace(category=module)
            if index in self.adapters:
                joined: list[tuple[Role, int]] = [("category", now.category.id), ("task", now.task.id)]
                adapter = self._file(f"{network.module.name}-adapter", "adapter", self.adapters[index], joined)
                now = now._replace(adapter=adapter)
            version, _ = catalogue.publish(
                self.session,
                name=network.module.name,
                kind="network",
                blob=document,
                parents=now.parents,
                parts=now.parts,
                metrics=_metrics(cell["report"]),
                by=author(self.claim),
            )
            cell["network"] = version.ref
        return module

    def _file(self, name: str, kind: Kind, file: _File, parents: list[tuple[Role, int]]) -> Version:
        version, _ = catalogue.publish(
            self.session,
            name=name,
            kind=kind,
            blob=file.blob,
            manifest=file.manifest,
            facts=file.facts,
            parents=parents,
            by=author(self.claim),
        )
        return version

    def _taught_by(self) -> list[tuple[Role, int]]:
        """What it was before, and what its cells taught it with."""
        sets: dict[str, Role] = {"samples": "samples", "unlabelled": "samples", "evaluate_on": "evaluation_samples"}
        found: list[tuple[Role, int]] = [(self.kind, self.pinned[self.kind].id)]
        for index, before in enumerate(self.before):
            found += [(role, id_) for role, id_ in before.parents if role != self.kind]
            for role, version in self.pinned.items():
                place, _, what = role.rpartition(".")
                if place == f"cell.{index}" and what in (*sets, "teacher_task"):
                    found.append((sets.get(what, "teacher_task"), version.id))
        return list(dict.fromkeys(found))


def _metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    """As a transplant's network has them, and the report beside them."""
    after = report["after"]
    agreed = after.get("agreement")
    return {
        "adapter": after.get("metrics"),
        "adapter_interval": after.get("intervals"),
        "teacher": report.get("teacher"),
        "agreement": None if agreed is None else {"kappa": agreed},
        "consolidated": dict(report),
    }
