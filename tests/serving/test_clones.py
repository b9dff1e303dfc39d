"""Networks with clones under /v2: their target's own answers to the bit, further classes beside them, one part in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient

from graftery.cloning import attach
from registry import catalogue
from registry.catalogue import NetworkVersions
from registry.models import Version
from serving import joint, models, parts
from serving.asking import Question
from serving.joint import FeatureCache, Job
from serving.service import Serving
from tests.serving.test_joint import CPU, _counted
from tests.serving.test_openinference import binary_request, error
from tests.support import clones
from tests.support.inference import mounted
from tests.support.world import World, images

MORE = "animals-and-birds"
WANTED = (("owl",), ("jay", "wren"))


@pytest.fixture
def world(world: World) -> World:
    """Cats and dogs as `animals`; with an owl, and with two other birds, as the second version of `animals-and-birds`."""
    world.compose("animals", *_with_none(clones.animals()))
    with world.database.transaction() as session:
        bare = catalogue.network_parts(session, catalogue.resolve(session, "animals"))
        made = [world.put(session, "-".join(want), clones.made(want)) for want in WANTED]
        for count in (1, 2):
            found = bare._replace(clones=tuple(made[:count]))
            _publish(world, session, found)
        catalogue.set_alias(session, MORE, "default", 2)
    return world


def _with_none(modules: Any) -> tuple[Any, None, Any]:
    return modules[0], None, modules[1]


def _publish(world: World, session: Any, found: NetworkVersions) -> Version:
    blob = world.store.put_bytes(catalogue.compose_document(found.parts))
    return catalogue.publish(session, name=MORE, kind="network", blob=blob, parts=found.parts, parents=found.parents)[0]


def _serving(client: TestClient) -> Serving:
    found: Serving = client.app.state.serving  # type: ignore[attr-defined]
    return found


def ask(client: TestClient, name: str, x: np.ndarray[Any, Any], output: str = "is") -> np.ndarray[Any, Any]:
    body, headers = binary_request(x, outputs=[{"name": output, "parameters": {"binary_data": True}}])
    response = client.post(f"/v2/models/{name}/infer", content=body, headers=headers)
    assert response.status_code == 200, response.text
    head = int(response.headers["inference-header-content-length"])
    return np.frombuffer(response.content[head:], np.float32).reshape(len(x), -1)


def _find(world: World, ref: str) -> models.Model:
    with world.database.read() as session:
        return models.find(session, ref)


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_the_targets_own_answers_are_the_same_bits(client: TestClient, world: World, rows: int) -> None:
    x = images(rows)
    alone, more = ask(client, "animals", x), ask(client, MORE, x)
    assert alone.shape == (rows, 2) and more.shape == (rows, 5)
    np.testing.assert_array_equal(more[:, :2].view(np.int32), alone.view(np.int32))
    local = attach(clones.network(clones.animals()), [clones.made(want) for want in WANTED]).net()
    np.testing.assert_array_equal(more, local(torch.from_numpy(x)).numpy())
    np.testing.assert_array_equal(ask(client, f"{MORE}:1", x), more[:, :3])


def test_it_says_what_its_classes_are(client: TestClient) -> None:
    (output,) = client.get(f"/v2/models/{MORE}").json()["outputs"]
    assert (output["name"], output["shape"]) == ("is", [-1, 5])
    assert "wren" in str(client.get(f"/v2/models/{MORE}").json())
    index = client.post("/v2/repository/index").json()
    assert {(each["version"], each["state"]) for each in index if each["name"] == MORE} == {
        ("1", "READY"),
        ("2", "READY"),
    }


def test_it_is_one_part_in_memory_under_its_own_digest(app: FastAPI, client: TestClient, world: World) -> None:
    model = _find(world, MORE)
    (digest,) = model.parts
    with world.database.read() as session:
        network = catalogue.resolve(session, MORE)
        members = catalogue.network_parts(session, network).members.values()
    assert digest == network.digest == model.category == model.branches[0].task
    assert model.parts[digest] == sum(each.blob.size_bytes for each in members)
    pool = _serving(client).pool
    ask(client, MORE, images(1))
    (resident,) = pool.residents()
    assert (resident.digest, resident.form, resident.owners) == (digest, "eager", {model.key})
    assert 0 < resident.size_bytes == pool.size_bytes < model.parts[digest]
    ask(client, "animals", images(1))
    assert len(pool.residents()) == 3
    client.post(f"/v2/repository/models/{MORE}/unload")
    assert len(pool.residents()) == 2 and digest not in {each.digest for each in pool.residents()}
    assert "unloaded" in error(client.get(f"/v2/models/{MORE}/ready"), 503)


def test_its_category_module_offers_it_beside_the_target(client: TestClient, world: World) -> None:
    x = images(4)
    found = {name: ask(client, "animals-c", x, name) for name in ("animals", MORE)}
    np.testing.assert_array_equal(found["animals"], ask(client, "animals", x))
    np.testing.assert_array_equal(found[MORE], ask(client, MORE, x))


def test_run_together_with_its_target_each_runs_once(world: World) -> None:
    category = _find(world, "animals-c")
    nets, seen = _counted({digest: parts.load(world.store, digest, CPU) for digest in category.parts})
    jobs = [
        Job(
            _find(world, name), Question(images(2, seed), (("is",) if name != "animals-c" else ("animals", MORE))), nets
        )
        for seed, name in enumerate(("animals", MORE, "animals-c"))
    ]
    outputs, _ = joint.run(jobs, CPU, FeatureCache(1 << 20))
    whole = _find(world, MORE).category
    assert seen[whole] == [4] and all(rows == [4] for digest, rows in seen.items() if digest != whole)
    np.testing.assert_array_equal(outputs[2][MORE][:, :2], outputs[2]["animals"])
    local = attach(clones.network(clones.animals()), [clones.made(want) for want in WANTED]).net()
    expected = local(torch.from_numpy(np.concatenate([images(2, 1), images(2, 2)]))).numpy()
    np.testing.assert_allclose(np.concatenate([outputs[1]["is"], outputs[2][MORE]]), expected, atol=1e-6)


def test_it_makes_room_and_makes_way_like_any_part(world: World) -> None:
    model = _find(world, MORE)
    (size,) = model.parts.values()
    app = mounted(world, world.settings.model_copy(update={"pool_bytes": size}))
    with TestClient(app) as client:
        ask(client, f"{MORE}:1", images(1))
        ask(client, "animals", images(1))
        assert len(_serving(client).pool.residents()) == 3
        ask(client, MORE, images(1))  # takes the whole pool while it is read
        assert {each.digest for each in _serving(client).pool.residents()} == {model.category}
        ask(client, f"{MORE}:1", images(1))
    small = mounted(world, world.settings.model_copy(update={"pool_bytes": size - 1}))
    with TestClient(small) as client:
        body, headers = binary_request(images(1))
        said = error(client.post(f"/v2/models/{MORE}/infer", content=body, headers=headers), 503)
        assert f"takes {size} bytes" in said


def test_a_lost_or_damaged_clone_is_not_ready_with_the_cause(client: TestClient, world: World) -> None:
    with world.database.read() as session:
        path = world.store.local_path(catalogue.resolve(session, "owl").digest)
    before = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    body, headers = binary_request(images(1))
    assert "damaged" in error(client.post(f"/v2/models/{MORE}/infer", content=body, headers=headers), 503)
    path.unlink()
    assert "has no bytes" in error(client.get(f"/v2/models/{MORE}/ready"), 503)
    path.write_bytes(before)
    assert ask(client, MORE, images(1)).shape == (1, 5)
    assert client.get(f"/v2/models/{MORE}/ready").status_code == 200


def test_no_faster_form_is_made_of_it(world: World) -> None:
    app = mounted(world, world.settings.model_copy(update={"fast_forms": "auto"}))
    with TestClient(app) as client:
        ask(client, MORE, images(1))
        assert (_serving(client).deriver.pending, _serving(client).deriver.reasons) == (0, {})
