"""Compatibility groups and their members, as the registry takes them: what a file says of its group is checked."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from safetensors.torch import load, save

from app.requests.prechecks import Prechecks
from graftery.compat.recombination import accuracy
from graftery.data import SampleSet
from graftery.module import ModuleFile, cut
from graftery.spec.limits import Limits
from graftery.spec.manifest import Parent
from registry import catalogue
from registry.children import Children
from registry.settings import Settings
from registry.store import Store
from tests.support import files, pretend_precheck, tones
from tests.support.http import code_of, in_store, push, push_samples
from tests.support.verifiers import SharedPrecheckers

NOT_TRIED = {f"{name}{what}": None for name in ("common", "rotation", "head") for what in ("", "_chance")}
TRIED = {**NOT_TRIED, "common": 1.0, "common_chance": 0.5, "rotation": 1.0, "rotation_chance": 0.25}
"""What is kept of an extractor whose features the group's heads were tried on."""

GROUP, MEMBER, OTHER = tones.group(), tones.member(), tones.member(scale=2.0, shift=0.15)


def _put(client: TestClient, file: ModuleFile, name: str = "odd", **params: str) -> Any:
    return client.put(f"/v1/modules/{name}", content=files.file_bytes(file), params=params)


@pytest.fixture
def group(client: TestClient) -> dict[str, Any]:
    return push(client, "kin", files.file_bytes(GROUP))


@pytest.fixture
def members(client: TestClient, group: dict[str, Any]) -> None:
    for name, file in {"a": MEMBER.extractor, "a-is": MEMBER.head, "b": OTHER.extractor, "b-is": OTHER.head}.items():
        push(client, name, files.file_bytes(file))


def test_a_group_is_a_module_like_others(client: TestClient, group: dict[str, Any]) -> None:
    assert (group["ref"], group["kind"], group["metrics"]) == ("kin:1", "group", None)
    assert group["manifest"]["group"]["methods"] == ["RP", "DCC", "IIW"]
    listed = client.get("/v1/modules", params={"kind": "group"}).json()["items"]
    assert [each["name"] for each in listed] == ["kin"]
    assert client.get("/v1/versions/kin/file").content == files.file_bytes(GROUP)
    assert client.delete("/v1/modules/kin").status_code == 204


def test_members_show_in_lineage_and_hold_their_group(client: TestClient, members: None) -> None:
    down = client.get("/v1/versions/kin/lineage", params={"direction": "down"}).json()
    assert {(each["child"], each["role"]) for each in down["edges"]} == {
        (f"{name}:1", "group") for name in ("a", "a-is", "b", "b-is")
    }
    up = client.get("/v1/versions/a-is/lineage").json()
    assert up["edges"] == [{"child": "a-is:1", "parent": "kin:1", "role": "group"}]
    response = client.delete("/v1/versions/kin:1")
    assert (response.status_code, code_of(response)) == (409, "has_dependents")
    assert response.json()["dependents"] == ["a:1", "a-is:1", "b:1", "b-is:1"]


def test_what_the_groups_heads_reached_is_kept(client: TestClient, members: None) -> None:
    assert client.get("/v1/versions/a").json()["metrics"] == {"group": TRIED}
    assert client.get("/v1/versions/a-is").json()["metrics"] == {"group": NOT_TRIED}


def _odd() -> dict[str, tuple[ModuleFile, int, str]]:
    extractor, head = MEMBER.extractor, MEMBER.head
    wide = cut(tones.member().net, "lower.part")[0]
    stranger = Parent(role="group", digest="0" * 64)
    other_weights = {name.replace("lower", "stem"): value for name, value in extractor.weights.items()}
    graph = replace(extractor.graph, nodes=tuple(_renamed(node) for node in extractor.graph.nodes))
    return {
        "a group that is not there": (tones.stating(extractor, parents=(stranger,)), 409, "group_mismatch"),
        "two groups": (tones.stating(head, parents=(*head.manifest.parents, stranger)), 409, "group_mismatch"),
        "another split": (tones.stating(_flat(), parents=head.manifest.parents), 409, "shape_mismatch"),
        "another preprocessing": (tones.stating(extractor, preprocessing=tones.GREY), 409, "preprocessing_mismatch"),
        "weights of other names": (
            replace(extractor, graph=graph, weights=other_weights),
            409,
            "architecture_mismatch",
        ),
        "a training of another kind": (tones.member(scale=-1.0).extractor, 422, "at_chance"),
        "a whole net": (MEMBER.net, 409, "kind_mismatch"),
        "an adapter": (tones.stating(wide, kind="adapter"), 409, "kind_mismatch"),
    }


def _flat() -> ModuleFile:
    """Features at another layer: [N, 128] for [N, 2, 8, 8]."""
    return cut(MEMBER.net, "upper.flat")[0]


def _renamed(node: Any) -> Any:
    args = tuple(
        {"w": each["w"].replace("lower", "stem")} if isinstance(each, dict) and "w" in each else each
        for each in node.args
    )
    return replace(node, args=args)


@pytest.mark.parametrize("what", list(_odd()))
def test_what_is_no_member_is_refused_and_leaves_nothing(
    client: TestClient, group: dict[str, Any], app_settings: Settings, what: str
) -> None:
    file, status, code = _odd()[what]
    before = in_store(app_settings.home)
    response = _put(client, file)
    assert (response.status_code, code_of(response)) == (status, code), response.text
    assert in_store(app_settings.home) == before
    assert client.get("/v1/modules/odd").status_code == 404


def test_a_group_that_is_not_there_can_be_pushed_and_then_its_member(client: TestClient) -> None:
    response = _put(client, MEMBER.extractor, "a")
    assert (response.status_code, code_of(response)) == (409, "group_mismatch")
    assert "push the group" in response.json()["hint"]
    push(client, "kin", files.file_bytes(GROUP))
    assert _put(client, MEMBER.extractor, "a").status_code == 201


def test_bytes_that_are_there_as_another_kind_are_no_group(client: TestClient) -> None:
    """A digest is not enough: a sample set may have any digest that its owner likes to name."""
    data = files.samples()
    push_samples(client, "few", data)
    digest = hashlib.sha256(data).hexdigest()
    response = _put(client, tones.stating(MEMBER.head, parents=(Parent(role="group", digest=digest),)))
    assert (response.status_code, code_of(response)) == (409, "group_mismatch")


def test_a_group_that_was_yanked_is_still_named_by_its_digest(client: TestClient, group: dict[str, Any]) -> None:
    client.post("/v1/versions/kin:1/yank", json={"reason": "another is better"})
    version = push(client, "a", files.file_bytes(MEMBER.extractor))
    assert version["metrics"]["group"]["common"] == 1.0
    push(client, "kin-again", files.file_bytes(GROUP))
    push(client, "b", files.file_bytes(OTHER.extractor))
    edges = client.get("/v1/versions/b/lineage").json()["edges"]
    assert [each["parent"] for each in edges] == ["kin-again:1"]  # of both, the one that is not yanked


def test_a_damaged_group_is_the_services_fault(
    client: TestClient, group: dict[str, Any], app_settings: Settings
) -> None:
    path = Store(app_settings).local_path(group["digest"])
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])
    response = _put(client, MEMBER.extractor, "a")
    assert (response.status_code, code_of(response)) == (500, "store_corrupt")
    path.unlink()
    assert code_of(_put(client, MEMBER.extractor, "a")) == "store_corrupt"
    assert client.get("/v1/modules/a").status_code == 404


@pytest.mark.parametrize("missing", [False, True])
def test_a_member_in_parts_waits_for_its_group(client: TestClient, app_settings: Settings, missing: bool) -> None:
    """What is wrong with the group costs no part of the member."""
    data = files.file_bytes(MEMBER.extractor)
    asked = {"name": "a", "size_bytes": len(data), "digest": hashlib.sha256(data).hexdigest(), "target": "module"}
    upload = client.post("/v1/uploads", json=asked).json()["id"]
    assert client.put(f"/v1/uploads/{upload}/parts/0", content=data).status_code == 204
    if not missing:
        path = Store(app_settings).local_path(push(client, "kin", files.file_bytes(GROUP))["digest"])
        whole = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(whole[:-1])
    response = client.put("/v1/modules/a", params={"upload": upload})
    assert code_of(response) == ("group_mismatch" if missing else "store_corrupt")
    if missing:
        push(client, "kin", files.file_bytes(GROUP))
    else:
        path.write_bytes(whole)
    response = client.put("/v1/modules/a", params={"upload": upload})
    assert response.status_code == 201, response.text
    assert response.json()["metrics"]["group"]["rotation"] == 1.0


def test_the_parts_of_a_teacher_are_members(client: TestClient, group: dict[str, Any]) -> None:
    response = client.put("/v1/teachers/a", params={"cut": "lower"}, content=files.file_bytes(MEMBER.net))
    assert response.status_code == 201, response.text
    out = response.json()
    assert out["category"]["metrics"]["group"] == TRIED
    assert out["networks"]["tone"]["metrics"] == {"group": group["digest"]}
    down = client.get("/v1/versions/kin/lineage", params={"direction": "down", "depth": 1}).json()
    assert {each["child"] for each in down["edges"]} == {"a:1", "a-tone:1", "a-teacher:1"}


def test_a_teacher_with_a_part_that_is_no_member_is_refused_whole(
    client: TestClient, group: dict[str, Any], app_settings: Settings
) -> None:
    before = in_store(app_settings.home)
    for net, at, code in (
        (tones.member(scale=-1.0).net, "lower", "at_chance"),
        (MEMBER.net, "upper.flat", "shape_mismatch"),
    ):
        response = client.put("/v1/teachers/a", params={"cut": at}, content=files.file_bytes(net))
        assert code_of(response) == code
    assert in_store(app_settings.home) == before
    assert [each["name"] for each in client.get("/v1/modules").json()["items"]] == ["kin"]


def test_an_untrained_group_has_no_heads_to_try(client: TestClient) -> None:
    young = tones.group(trained=False)
    push(client, "young", files.file_bytes(young))
    version = push(client, "a", files.file_bytes(tones.member(young, scale=-1.0).extractor))
    assert version["metrics"] == {"group": NOT_TRIED}


def _compose(client: TestClient, category: str, task: str, name: str = "net", **more: Any) -> Any:
    return client.post("/v1/networks", json={"name": name, "category": category, "task": task, **more})


def test_members_of_one_group_compose_with_no_job(client: TestClient, members: None, group: dict[str, Any]) -> None:
    response = _compose(client, "a", "b-is")
    assert response.status_code == 201, response.text
    assert response.json()["metrics"] == {"group": group["digest"]}
    assert client.get("/v1/jobs").json()["items"] == []
    assert _compose(client, "a", "b-is").status_code == 200


@pytest.fixture
def strangers(client: TestClient, members: None) -> None:
    """A member of another group, and modules of none."""
    other = tones.group(1)
    push(client, "kin-2", files.file_bytes(other))
    push(client, "c", files.file_bytes(tones.member(other).extractor))
    push(client, "alone", files.file_bytes(tones.stating(MEMBER.extractor, parents=())))
    push(client, "alone-is", files.file_bytes(tones.stating(MEMBER.head, parents=())))


@pytest.mark.parametrize("pair", [("c", "a-is"), ("alone", "a-is"), ("a", "alone-is")])
def test_across_groups_it_has_to_be_forced_and_shows(
    client: TestClient, strangers: None, pair: tuple[str, str]
) -> None:
    response = _compose(client, *pair)
    assert (response.status_code, code_of(response)) == (409, "group_mismatch")
    assert client.get("/v1/modules/net").status_code == 404
    forced = _compose(client, *pair, force=True)
    assert forced.status_code == 201
    assert forced.json()["metrics"] == {"across_groups": True}


def test_modules_of_no_group_compose_as_ever(client: TestClient, strangers: None) -> None:
    assert _compose(client, "alone", "alone-is").json()["metrics"] is None


ASKED = {"name": "net", "category": "a", "task": "b-is", "evaluate_on": "few"}


@pytest.fixture
def measuring(app: FastAPI, precheckers: SharedPrecheckers, members: None, client: TestClient) -> None:
    app.state.service = replace(app.state.service, prechecks=Prechecks(app.state.store, precheckers))
    push_samples(client, "few", tones.sample_bytes(40, wrong=4))


def test_a_network_is_measured_beside_the_heads_own(client: TestClient, measuring: None, group: dict[str, Any]) -> None:
    """b's head takes some of what a's extractor shows it for darker than it is: the figures are those of the library."""
    response = client.post("/v1/networks", json=ASKED)
    assert response.status_code == 201, response.text
    found = response.json()["metrics"]
    few = SampleSet(**load(tones.sample_bytes(40, wrong=4)))
    assert few.y is not None
    reached, own = (accuracy(part.extractor, OTHER.head, few) for part in (MEMBER, OTHER))
    assert 0.6 < reached < own == 0.9
    assert found["recombined"]["accuracy"] == pytest.approx(reached)
    assert found["own"]["accuracy"] == pytest.approx(own)
    assert found["chance"] == 24 / 40
    assert found["normalised"] == pytest.approx(100 * (reached - 0.6) / (own - 0.6))
    low, high = found["recombined_minus_own_interval"]["accuracy"]
    assert low <= reached - own <= high
    assert found["evaluated"] == {"samples": 40, "resamples": 1000, "level": 0.95}
    assert (found["group"], found["evaluated_on"], found["own_category"]) == (group["digest"], "few:1", "b:1")
    edges = client.get("/v1/versions/net/lineage", params={"depth": 1}).json()["edges"]
    assert {"child": "net:1", "parent": "few:1", "role": "evaluation_samples"} in edges
    assert client.get("/v1/jobs").json()["items"] == []


def test_what_was_measured_is_not_measured_again(client: TestClient, measuring: None, app: FastAPI) -> None:
    first = client.post("/v1/networks", json=ASKED, headers={"Idempotency-Key": "k"})
    app.state.service = replace(app.state.service, prechecks=Prechecks(app.state.store, None))
    assert client.post("/v1/networks", json=ASKED).json() == first.json()
    assert client.post("/v1/networks", json=ASKED, headers={"Idempotency-Key": "k"}).json() == first.json()
    push_samples(client, "others", tones.sample_bytes(20))
    response = client.post("/v1/networks", json={**ASKED, "evaluate_on": "others"})
    assert (response.status_code, code_of(response)) == (409, "conflict")
    assert "another name" in response.json()["hint"]


@pytest.mark.parametrize("own", ["unknown", "reads other images"])
def test_where_the_heads_own_network_is_not_known_it_is_null(client: TestClient, measuring: None, own: str) -> None:
    head = tones.stating(OTHER.head, cut="elsewhere")
    if own == "reads other images":
        head = OTHER.head
        assert client.delete("/v1/modules/b").status_code == 204
        grey = tones.group(preprocessing=tones.GREY)
        push(client, "grey-kin", files.file_bytes(grey))
        head = tones.member(grey, scale=2.0).head
        push(client, "b", files.file_bytes(tones.member(grey, scale=2.0).extractor))
    push(client, "head", files.file_bytes(head))
    response = client.post("/v1/networks", json={**ASKED, "task": "head", "force": True})
    assert response.status_code == 201, response.text
    found = response.json()["metrics"]
    assert (found["own"], found["normalised"], found["own_category"]) == (None, None, None)
    assert found["recombined"]["accuracy"] > 0 and found["chance"] == 0.6
    assert found.get("across_groups", False) is (own != "unknown")


def test_an_extractor_that_was_cut_here_is_known_by_its_teacher(client: TestClient, measuring: None) -> None:
    data = files.file_bytes(tones.stating(OTHER.net, parents=()))
    assert client.put("/v1/teachers/t", params={"cut": "lower"}, content=data).status_code == 201
    push(client, "alone", files.file_bytes(tones.stating(MEMBER.extractor, parents=())))
    found = client.post("/v1/networks", json={**ASKED, "category": "alone", "task": "t-tone"}).json()["metrics"]
    assert (found["own_category"], found["own"]["accuracy"]) == ("t:1", pytest.approx(0.9))
    assert "group" not in found and "across_groups" not in found


BAD_SETS = {
    "plain": ({"x": torch.zeros(4, 1, 8, 8)}, 422, "samples_invalid"),
    "large": ({"x": torch.zeros(4, 1, 9, 9), "y": torch.tensor([0, 1, 0, 1])}, 409, "shape_mismatch"),
    "third-class": ({"x": torch.zeros(3, 1, 8, 8), "y": torch.tensor([0, 1, 2])}, 422, "samples_invalid"),
    "one-class": ({"x": torch.zeros(3, 1, 8, 8), "y": torch.tensor([1, 1, 1])}, 422, "samples_invalid"),
    "none": (None, 404, "not_found"),
    "kin": (None, 409, "kind_mismatch"),
}


@pytest.mark.parametrize("name", list(BAD_SETS))
def test_samples_that_do_not_fit_leave_nothing(client: TestClient, measuring: None, name: str) -> None:
    tensors, status, code = BAD_SETS[name]
    if tensors is not None:
        push_samples(client, name, save(tensors))
    response = client.post("/v1/networks", json={**ASKED, "evaluate_on": name})
    assert (response.status_code, code_of(response)) == (status, code), response.text
    assert client.get("/v1/modules/net").status_code == 404


def test_where_nothing_is_measured_nothing_is_published(client: TestClient, members: None) -> None:
    push_samples(client, "few", tones.sample_bytes())
    response = client.post("/v1/networks", json=ASKED)
    assert (response.status_code, code_of(response)) == (503, "unavailable")
    assert "GRAFTERY_PRECHECKS" in response.json()["detail"]
    assert client.get("/v1/modules/net").status_code == 404


@pytest.mark.parametrize("text", ["die", "stuck"])
def test_a_measurement_over_the_limits(app: FastAPI, client: TestClient, members: None, text: str) -> None:
    children = Children(Limits(wall_s=1), 1, (sys.executable, pretend_precheck.__file__), "the pre-check")
    app.state.service = replace(app.state.service, prechecks=Prechecks(app.state.store, children))
    push_samples(client, "few", tones.sample_bytes())
    digest = client.get("/v1/versions/a").json()["digest"]
    path = app.state.store.local_path(digest)
    path.chmod(0o600)
    path.write_text(text)
    response = client.post("/v1/networks", json=ASKED)
    children.close()
    assert (response.status_code, code_of(response)) == (422, "verify_limit")
    assert "fewer samples" in response.json()["hint"]
    assert client.get("/v1/modules/net").status_code == 404


def test_a_reference_that_moves_meanwhile_is_noticed(
    app: FastAPI, client: TestClient, members: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_samples(client, "few", tones.sample_bytes())

    async def meanwhile(self: Prechecks, category: str, used: Any) -> dict[str, Any]:
        blob = app.state.store.put_bytes(tones.sample_bytes(20))
        with app.state.database.transaction() as session:
            facts = {"count": 20, "labelled": True, "x": {"dtype": "float32", "shape": ["N", 1, 8, 8]}}
            facts |= {"y": {"dtype": "int64", "shape": ["N"]}}
            catalogue.publish(session, name="few", kind="samples", blob=blob, facts=facts)
        return {"recombined": {"accuracy": 1.0}}

    monkeypatch.setattr(Prechecks, "measure", meanwhile)
    response = client.post("/v1/networks", json=ASKED)
    assert (response.status_code, code_of(response)) == (409, "conflict")
    assert client.get("/v1/modules/net").status_code == 404
