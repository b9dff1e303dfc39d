"""The certificate of a transplant: in the child (files in, findings out) and as the worker keeps it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from graftery.errors import StoreError
from graftery.module import ModuleFile, trace
from graftery.spec.certificate import CertificateOut
from graftery.spec.limits import Limits
from graftery.spec.manifest import NetworkParts, OutputMeaning
from graftery.transplant import compose
from graftery.transplant.certificate import Probes
from registry import catalogue, jobs
from registry.models import Version
from registry.store import Store
from tests.support.reports import Keeping
from tests.support.transplants import category_file, image_category, image_files
from tests.support.workplace import SQLITE, Workplace
from worker import certifying
from worker.bench import Bench
from worker.certificates import Certified, sharing
from worker.certifying import Certifier
from worker.reports import Advanced, FileOf, Order, decode_report


@dataclass
class World:
    """A registry with two networks that share the task module of a transplant, which is claimed."""

    place: Workplace
    bench: Bench
    claim: jobs.Claim
    scratch: Path
    told: io.BytesIO

    def certifier(self) -> Certifier:
        digests = [ref.partition("sha256:")[2] for ref in self.claim.pinned.values()]
        order = Order(
            job=self.claim.id,
            kind="transplant",
            request={},
            recipe={},
            files={role: str(self.path(ref)) for role, ref in self.claim.pinned.items()},
            scratch=str(self.scratch),
            device="cpu",
            threads=1,
            checkpoint_s=1.0,
            limits=Limits(),
            sharing=sharing(self.bench, set(digests)),
        )
        return Certifier(order, torch.device("cpu"), Keeping(self.told))

    def path(self, ref: str) -> Path:
        with self.place.database.read() as session:
            return self.place.store.local_path(catalogue.resolve(session, ref).digest)

    def own(self) -> dict[str, FileOf]:
        """The modules of the network that the transplant makes."""
        return {
            role: FileOf(path=str(self.path(ref)))
            for role, ref in {"category": "f", "task": "gS", "adapter": "h"}.items()
        }

    def certify(self) -> dict[str, Any]:
        """A whole transplant but for its training: the adapter `h` is there already."""
        made = self.certifier()
        made.before()
        return self.keep(made.after(self.own()))

    def keep(self, found: dict[str, Any]) -> dict[str, Any]:
        certified = Certified.of(self.place.store, found)
        with self.place.database.transaction() as session:
            network = _network(session, self.place, "new", "f", "gS", "h")
            return certified.keep(session, self.claim, network)

    def out(self, ref: str) -> CertificateOut:
        with self.place.database.read() as session:
            return catalogue.certificate_out(session, catalogue.resolve(session, ref))


def _network(session: Any, place: Workplace, name: str, category: str, task: str, adapter: str | None) -> Version:
    rows = {"category": catalogue.resolve(session, category), "task": catalogue.resolve(session, task)}
    if adapter is not None:
        rows["adapter"] = catalogue.resolve(session, adapter)
    parts = NetworkParts.model_validate({role: row.digest for role, row in rows.items()})
    blob = place.store.put_bytes(catalogue.compose_document(parts))
    return catalogue.publish(session, name=name, kind="network", blob=blob, parts=parts)[0]


def _adapter() -> ModuleFile:
    torch.manual_seed(7)
    meanings = {"features": OutputMeaning(semantics="feature")}
    return trace(torch.nn.Conv2d(4, 4, 1), torch.rand(2, 4, 4, 4), kind="adapter", outputs=meanings)


@pytest.fixture
def world(place: Workplace, tmp_path: Path) -> Iterator[World]:
    f, task, _ = image_files()
    other = category_file(image_category(seed=3), torch.randn(2, 1, 8, 8))
    for name, kind, file in (("f", "category", f), ("gS", "task", task), ("other", "category", other)):
        place.put(name, kind, file)  # type: ignore[arg-type]
    place.put("h", "adapter", _adapter())
    with place.database.transaction() as session:
        _network(session, place, "old", "other", "gS", None)
        _network(session, place, "older", "other", "gS", "h")
    place.submit_pinned("new", {"category": "f", "task": "gS"}, {})
    with place.database.transaction() as session:
        claim = jobs.claim(session, "tester", 60)
    assert claim is not None
    bench = Bench(place.settings, place.database, place.store, "tester")
    yield World(place, bench, claim, tmp_path, io.BytesIO())


def _flip(path: Path, offset: int = -40) -> bytes:
    """One bit of a file in the store; gives what was there."""
    before = path.read_bytes()
    broken = bytearray(before)
    broken[offset] ^= 1
    path.write_bytes(broken)
    return before


def test_networks_that_were_never_seen_are_recorded_before_the_training(world: World) -> None:
    assert world.certify() == {
        "networks": 2,
        "identical": 2,
        "within_tolerance": 0,
        "different": [],
        "first_seen": 2,
        "left_out": 0,
    }
    old = world.out("old")
    assert old.probes is not None
    assert old.probes.made_by == f"job {world.claim.id}"
    assert [(r.job, r.compared, r.same, r.identical) for r in old.replays] == [(world.claim.id, "bitwise", True, True)]
    phases = [
        line.data["phase"]
        for line in map(decode_report, world.told.getvalue().splitlines())
        if isinstance(line, Advanced)
    ]
    assert phases[0] == "record" and phases[-1] == "certify"


def test_the_new_network_has_a_record_of_its_own(world: World) -> None:
    world.certify()
    new = world.out("new")
    assert new.probes is not None and new.replays == []
    assert set(new.parts) == {"category", "adapter", "task"}
    probes = Probes.load(world.place.store.local_path(new.probes.digest))
    assert probes.device_class == new.probes.device_class
    assert len(probes.x) == 8


@SQLITE
def test_what_was_recorded_is_compared_with_its_record(world: World) -> None:
    world.certify()
    again = world.certifier()
    again.before()
    found = again.after(world.own())
    assert found["first_seen"] == {}
    assert len(found["replays"]) == 3, "the new network is now one of those that share"
    assert all(replay["identical"] for replay in found["replays"].values())


@SQLITE
def test_no_more_networks_are_asked_than_is_set(world: World) -> None:
    world.bench.settings = world.bench.settings.model_copy(update={"certify_networks": 1})
    found = world.certify()
    assert (found["networks"], found["left_out"]) == (1, 1)
    assert world.out("older").probes is not None, "the newest first"
    assert world.out("old").probes is None


@SQLITE
def test_a_module_is_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = ModuleFile.load
    monkeypatch.setattr(
        certifying.ModuleFile, "load", lambda path, limits: (read.append(str(path)), load(path, limits))[1]
    )
    world.certifier().before()
    assert len(read) == len(set(read)) == 3, "other, gS and h"


@SQLITE
@pytest.mark.parametrize("ref", ["gS", "other", "h"])
def test_a_bit_that_flips_meanwhile_is_found(world: World, ref: str, capsys: pytest.CaptureFixture[str]) -> None:
    certifier = world.certifier()
    certifier.before()
    path = world.path(ref)
    before = _flip(path)
    found = certifier.after(world.own())
    path.write_bytes(before)
    document = world.keep(found)
    assert [each["network"] for each in document["different"]] == (["older:1"] if ref == "h" else ["old:1", "older:1"])
    assert "damaged" in document["different"][0]["reason"]
    assert document["identical"] == document["networks"] - len(document["different"])
    assert world.out("older").replays[0].same is False


@SQLITE
def test_outputs_that_differ_are_found_though_every_digest_is_right(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer, the machine or torch have changed something that no digest shows."""
    certifier = world.certifier()
    certifier.before()
    monkeypatch.setattr(certifying, "compose", lambda f, h, g: torch.nn.Sequential(f.net(), g.net(), _Shifted()))
    document = world.keep(certifier.after(world.own()))
    assert [each["network"] for each in document["different"]] == ["old:1", "older:1"]
    assert "bitwise" in document["different"][0]["reason"]


class _Shifted(torch.nn.Module):
    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return torch.nextafter(y, torch.tensor(1e9))


@SQLITE
def test_on_another_device_class_a_tolerance_has_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    certifier = world.certifier()
    certifier.before()
    there = certifying.device_class("cpu").model_copy(update={"model": "another"})
    monkeypatch.setattr("graftery.transplant.certificate.device_class", lambda _: there)
    monkeypatch.setattr(certifying, "compose", lambda f, h, g: torch.nn.Sequential(compose(f, h, g), _Shifted()))
    document = world.keep(certifier.after(world.own()))
    assert {key: document[key] for key in ("networks", "identical", "within_tolerance", "different")} == {
        "networks": 2,
        "identical": 0,
        "within_tolerance": 2,
        "different": [],
    }
    assert [(r.compared, r.same, r.identical) for r in world.out("old").replays] == [("tolerance", True, False)]


@SQLITE
def test_bytes_that_are_lost_are_told_and_stop_nothing(world: World) -> None:
    world.path("other").unlink()
    document = world.certify()
    assert {each["network"] for each in document["different"]} == {"old:1", "older:1"}
    assert all("missing" in each["reason"] for each in document["different"])
    assert world.out("new").probes is not None


def test_want_of_room_for_a_copy_is_no_lost_part(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StoreError("The disk is full", code="store_full")

    monkeypatch.setattr(Store, "local_path", full)
    digests = {ref.partition("sha256:")[2] for ref in world.claim.pinned.values()}
    with pytest.raises(StoreError):
        sharing(world.bench, digests)


def test_a_network_that_was_deleted_meanwhile_is_no_difference(world: World) -> None:
    certifier = world.certifier()
    certifier.before()
    found = certifier.after(world.own())
    with world.place.database.transaction() as session:
        catalogue.delete_version(session, "old:1")
    assert world.keep(found)["networks"] == 1
