"""A generic network under /v2: its cells as outputs, each with the bits of its own network, and why others are not there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tritonclient.utils import InferenceServerException

from graftery.errors import InferenceRefused, NotFound, Unavailable
from registry import catalogue, generics
from registry.generics.rows import cell_row
from serving import cells, joint, models, parts
from serving.asking import Question
from serving.branches import Model
from serving.joint import FeatureCache, Job
from serving.lookup import Lookup, clock_of
from serving.service import Serving
from tests.serving.grpc.test_server import inputs
from tests.serving.test_image_requests import in_json
from tests.serving.test_joint import CPU, _counted
from tests.serving.test_openinference import binary_request, error
from tests.support.inference import mounted
from tests.support.pictures import encoded_image
from tests.support.world import PHOTO, World, images
from tests.support.zoo import CELLS, ZOO, add_photos, make_zoo, put_network

Values = np.ndarray[Any, Any]


@pytest.fixture
def world(world: World) -> World:
    make_zoo(world)
    return world


def _find(world: World, name: str = ZOO, version: str | None = None) -> Model:
    with world.database.read() as session:
        return models.find(session, name, version)


def _ask(client: TestClient, name: str, x: Values, wanted: Sequence[str] = (), **more: Any) -> dict[str, Values]:
    more |= {"outputs": [{"name": each} for each in wanted]} if wanted else {}
    body, headers = binary_request(x, parameters={"binary_data_output": True}, **more)
    response = client.post(f"/v2/models/{name}/infer", content=body, headers=headers)
    assert response.status_code == 200, response.text
    at = int(response.headers["inference-header-content-length"])
    found = {}
    for each in json.loads(response.content[:at])["outputs"]:
        size = each["parameters"]["binary_data_size"]
        found[each["name"]] = np.frombuffer(response.content[at : at + size], np.float32).reshape(each["shape"])
        at += size
    return found


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_every_cell_answers_with_the_bits_of_its_own_network(client: TestClient, world: World, rows: int) -> None:
    x = images(rows)
    for wanted in ((), tuple(CELLS), tuple(reversed(CELLS)), ("nine..even-is", "eight..even-odd"), ("nine..even-is",)):
        found = _ask(client, ZOO, x, wanted)
        assert list(found) == list(wanted or ("eight..even-is", "eight..even-odd", "nine..even-is"))
        for name, values in found.items():
            (alone,) = _ask(client, CELLS[name], x).values()
            np.testing.assert_array_equal(values.view(np.int32), alone.view(np.int32))
            np.testing.assert_array_equal(values, world.answer(f"{CELLS[name]}:1", x))


def test_each_f_runs_once_and_each_h_and_gs_once_a_cell(world: World) -> None:
    model = _find(world)
    nets, seen = _counted({digest: parts.load(world.store, digest, CPU) for digest in model.parts})
    jobs = [Job(model.asked(CELLS), Question(images(2, seed), tuple(CELLS)), nets) for seed in (1, 2)]
    outputs, took = joint.run(jobs, CPU, FeatureCache(1 << 20))
    assert seen[_find(world, "eight").category] == [4] and seen[_find(world, "nine").category] == [4]
    even = _find(world, "eight-even").branches[0].task
    assert seen[even] == [4, 4] and sum(len(calls) for calls in seen.values()) == 2 + 3 + 3
    assert set(took.parts_s) == set(model.parts)
    for seed, found in zip((1, 2), outputs, strict=True):
        for name, values in found.items():
            np.testing.assert_allclose(values, world.answer(f"{CELLS[name]}:1", images(2, seed)), atol=1e-5)


def test_only_what_is_asked_for_is_held_in_memory(app: FastAPI, client: TestClient, world: World) -> None:
    pool = app.state.serving.pool
    _ask(client, ZOO, images(1), ["nine..even-is"])
    assert {each.digest for each in pool.residents()} == set(_find(world, "nine-even").parts)
    assert {owner for each in pool.residents() for owner in each.owners} == {ZOO}
    _ask(client, ZOO, images(1))
    assert {each.digest for each in pool.residents()} == set(_find(world).parts)
    small = mounted(
        world, world.settings.model_copy(update={"pool_bytes": sum(_find(world, "nine-even").parts.values())})
    )
    with TestClient(small) as other:
        assert list(_ask(other, ZOO, images(1), ["nine..even-is"])) == ["nine..even-is"]
        body, headers = binary_request(images(1))
        assert "the pool holds" in error(other.post(f"/v2/models/{ZOO}/infer", content=body, headers=headers), 503)


def test_the_metadata_say_which_cell_an_output_is(client: TestClient) -> None:
    found = client.get(f"/v2/models/{ZOO}").json()
    assert [(each["name"], each["shape"]) for each in found["inputs"]] == [("input", [-1, 1, 8, 8])]
    assert {each["name"]: each["parameters"]["network"] for each in found["outputs"]} == {
        name: f"{network}:1" for name, network in CELLS.items()
    }
    cell = {each["name"]: each for each in found["outputs"]}["nine..even-is"]
    assert (cell["parameters"]["category"], cell["parameters"]["task"], cell["shape"]) == ("nine", "even-is", [-1, 1])
    config = client.get(f"/v2/models/{ZOO}/config").json()
    assert [each["name"] for each in config["output"]] == [each["name"] for each in found["outputs"]]
    assert config["version_policy"]["specific"]["versions"] == [int(each) for each in found["versions"]]


def test_a_cell_without_a_network_says_why(client: TestClient, world: World) -> None:
    def said(name: str, status: int) -> str:
        body, headers = binary_request(images(1), outputs=[{"name": "eight..even-is"}, {"name": name}])
        return error(client.post(f"/v2/models/{ZOO}/infer", content=body, headers=headers), status)

    assert said("nine..even-odd", 503) == "output 'nine..even-odd' is not ready: missing"
    assert said("nine..even-odd..odd", 503).endswith("is not ready: missing")
    _reject(world, "9 points below")
    assert said("nine..even-odd", 503).endswith("is not ready: rejected: 9 points below")
    assert "has no such output; it has 'eight..even-is', " in said("ten..even-odd", 400)
    assert "requested twice" in said("eight..even-is", 400)


def _reject(world: World, reason: str) -> None:
    with world.database.transaction() as session:
        generic = generics.find(session, ZOO)
        cell = generics.grid(session, generic).cell("nine", "even-odd")
        cell_row(session, generic, cell).rejected = {"network": "x:1", "job": "j", "reason": reason}


def test_a_change_of_a_cell_is_seen_by_the_next_request(client: TestClient, world: World) -> None:
    lookup, x = Lookup(world.database, clock_of(world.database, 60)), images(3)
    before, found = lookup.find(ZOO, None), _ask(client, ZOO, x)
    put_network(world, "better", "eight", 11, "even-is")
    with world.database.transaction() as session:
        generics.place(session, ZOO, catalogue.resolve(session, "better"), replace=True)
    assert lookup.cached(ZOO, None) is None
    after = lookup.find(ZOO, None)
    assert (after.number, after.key) == (before.number + 1, before.key)
    now = _ask(client, ZOO, x)
    np.testing.assert_array_equal(now["eight..even-is"], world.answer("better:1", x))
    np.testing.assert_array_equal(now["nine..even-is"], found["nine..even-is"])
    with world.database.transaction() as session:
        generics.rollback(session, ZOO)
    np.testing.assert_array_equal(_ask(client, ZOO, x)["eight..even-is"], found["eight..even-is"])


def test_it_is_made_anew_only_where_a_cell_changed(world: World) -> None:
    known: models.Known = {}

    def found() -> Model:
        with world.database.read() as session:
            return models.find(session, ZOO, known=known)

    first = found()
    with world.database.transaction() as session:
        catalogue.set_alias(session, CELLS["nine..even-is"], "other", 1)
    assert found() is first
    _reject(world, "9 points below")
    second = found()
    assert second is not first and second.number == first.number
    assert (second.why_unready("nine..even-odd") or "").endswith("9 points below")
    with world.database.transaction() as session:
        generics.remove(session, ZOO, "eight")
    assert list(found().outputs) == ["nine..even-is"] and found() is found()
    with world.database.transaction() as session:
        generics.delete(session, ZOO)
        generics.create(session, ZOO)
        generics.add(session, ZOO, [catalogue.resolve(session, name) for name in ("eight", "even-odd")])
    assert list(found().outputs) == ["eight..even-odd"]


def test_only_its_present_version_can_be_asked(client: TestClient, world: World) -> None:
    number = _find(world).number
    assert _find(world, ZOO, str(number)).number == _find(world, f"{ZOO}:{number}").number == number
    assert client.get(f"/v2/models/{ZOO}").json()["versions"] == [str(number)]
    for name, version in ((ZOO, str(number - 1)), (ZOO, str(number + 1)), (f"{ZOO}:1", None), (f"{ZOO}@stable", None)):
        with pytest.raises(NotFound, match=f"{ZOO} is a generic network in its version {number}"):
            _find(world, name, version)
    with pytest.raises(NotFound, match="even-is is of kind task"):
        _find(world, "even-is")


def test_categories_with_other_inputs_are_asked_apart(client: TestClient, world: World) -> None:
    add_photos(world)
    model = _find(world)
    photo = f"{PHOTO}-c..{PHOTO}-t"
    with pytest.raises(
        InferenceRefused, match=r"eight and photo-c read different inputs: shape \[N, 1, 8, 8\] against"
    ):
        model.asked(["eight..even-is", photo])
    body, headers = binary_request(images(1))
    said = error(client.post(f"/v2/models/{ZOO}/infer", content=body, headers=headers), 400)
    assert "read different inputs" in said and "in another one" in said
    assert list(_ask(client, ZOO, images(1), list(CELLS))) == list(CELLS)
    picture = encoded_image((20, 30), format="PNG")
    document = in_json(picture) | {"outputs": [{"name": photo}]}
    answer = client.post(f"/v2/models/{ZOO}/infer", json=document)
    alone = client.post(f"/v2/models/{PHOTO}/infer", json=in_json(picture))
    assert answer.json()["outputs"][0]["data"] == alone.json()["outputs"][0]["data"]
    forms = client.get(f"/v2/models/{ZOO}").json()["inputs"]
    assert [(each["shape"], each["parameters"]["categories"]) for each in forms] == [
        ([-1, 1, 8, 8], ["eight", "nine"]),
        ([-1, 3, 16, 16], [f"{PHOTO}-c"]),
    ]
    assert client.post(f"/v2/repository/models/{ZOO}/load").status_code == 200


def test_it_answers_over_grpc_as_over_http(world: World) -> None:
    add_photos(world)
    app = mounted(world, world.settings.model_copy(update={"grpc_port": 0}))
    with TestClient(app) as client, triton.InferenceServerClient(f"127.0.0.1:{app.state.grpc_port}") as other:
        x, wanted = images(3), ["nine..even-is", "eight..even-odd"]
        found = other.infer(ZOO, inputs(x), outputs=[triton.InferRequestedOutput(name) for name in wanted])
        for name, values in _ask(client, ZOO, x, wanted).items():
            np.testing.assert_array_equal(found.as_numpy(name), values)
        outputs = [triton.InferRequestedOutput("nine..even-odd")]
        with pytest.raises(InferenceServerException, match="is not ready: missing"):
            other.infer(ZOO, inputs(x), outputs=outputs)
        with pytest.raises(InferenceServerException, match="read different inputs"):
            other.infer(ZOO, inputs(x))
        assert [list(each.shape) for each in other.get_model_metadata(ZOO).inputs] == [[-1, 1, 8, 8], [-1, 3, 16, 16]]
        assert other.is_model_ready(ZOO)


def test_it_is_listed_loaded_unloaded_and_counted(app: FastAPI, client: TestClient, world: World) -> None:
    serving: Serving = app.state.serving
    number = str(_find(world).number)
    entry = {"name": ZOO, "version": number, "state": "READY", "reason": ""}
    assert entry in client.post("/v2/repository/index").json()
    assert ZOO in client.get("/v2/models").json()["models"]
    assert client.get(f"/v2/models/{ZOO}/ready").status_code == 200
    assert client.post(f"/v2/repository/models/{ZOO}/load").status_code == 200
    assert {each.digest for each in serving.pool.residents()} == set(_find(world).parts)
    assert client.post(f"/v2/repository/models/{ZOO}/unload").status_code == 200
    assert serving.pool.residents() == []
    _reject(world, "so that something is written")
    put_network(world, "better", "eight", 11, "even-is")
    with world.database.transaction() as session:
        generics.place(session, ZOO, catalogue.resolve(session, "better"), replace=True)
    body, headers = binary_request(images(2))
    assert "zoo was unloaded" in error(client.post(f"/v2/models/{ZOO}/infer", content=body, headers=headers), 503)
    assert "unloaded" in error(client.get(f"/v2/models/{ZOO}/ready"), 503)
    client.post(f"/v2/repository/models/{ZOO}/load")
    _ask(client, ZOO, images(2))
    stats = {each["version"]: each for each in client.get(f"/v2/models/{ZOO}/stats").json()["model_stats"]}
    assert stats[str(int(number) + 1)]["inference_count"] == 2


def test_before_its_first_cell_it_says_what_is_missing(client: TestClient, world: World) -> None:
    with world.database.transaction() as session:
        generics.create(session, "bare")
        assert generics.now(session, "bare").cells == []
    with pytest.raises(Unavailable, match="no cell of bare has a network yet"):
        _find(world, "bare")
    with world.database.transaction() as session:
        generics.add(session, "bare", [catalogue.resolve(session, name) for name in ("nine", "even-odd")])
    assert "nine..even-odd is missing" in error(client.get("/v2/models/bare"), 503)
    entries = {each["name"]: each for each in client.post("/v2/repository/index").json()}
    assert (entries["bare"]["state"], entries["bare"]["reason"]) == ("UNAVAILABLE", "no cell of it has a network yet")


def test_names_that_are_not_one_cells_alone_are_not_offered(world: World) -> None:
    network = _find(world, "nine-even")
    row = object()
    now = generics.Now(
        generics.Stamp("odd", 1, (datetime.now(), datetime.now()), ()),
        [
            generics.CellNow("a..b", "c", row, "ready", None),  # type: ignore[arg-type]
            generics.CellNow("a", "b..c", row, "ready", None),  # type: ignore[arg-type]
            generics.CellNow("a", "c", row, "ready", None),  # type: ignore[arg-type]
        ],
    )
    model = cells.model(now, lambda _row: network)
    assert list(model.outputs) == ["a..c"]
    assert "more than one cell" in (model.why_unready("a..b..c") or "")
