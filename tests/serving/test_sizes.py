"""What a model takes at a height and width that its modules leave free is looked at before it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from graftery.errors import InferenceRefused
from graftery.module import ModuleFile
from graftery.module.fakes import Work
from graftery.module.graph import Graph, Node
from graftery.spec.limits import Limits
from graftery.spec.manifest import Manifest, OutputSpec, TensorSpec
from serving import models, sizes
from serving.branches import Model
from serving.sizes import Sizes, Way
from tests.support.inference import mounted
from tests.support.world import ANY_SIZE, World

IMAGE = TensorSpec(dtype="float32", shape=("N", 1, "H", "W"))


def _steep(*nodes: Node) -> ModuleFile:
    """A module that adds to its input the sum of what these nodes make of its height, `v0`."""
    rest = (
        Node("aten.sum.default", "v8", ({"v": nodes[-1].id},)),
        Node("aten.add.Tensor", "v9", ({"v": "x0"}, {"v": "v8"})),
    )
    size = Node("aten.sym_size.int", "v0", ({"v": "x0"}, 2))
    graph = Graph(IMAGE, (size, *nodes, *rest), {"features": "v9"})
    output = OutputSpec(dtype="float32", shape=("N", 1, "H", "W"), semantics="feature")
    return ModuleFile(Manifest(kind="category", input=IMAGE, outputs={"features": output}), graph, {})


STEEP = {
    "a value": _steep(Node("aten.zeros.default", "v1", ([{"v": "v0"}] * 6,))),
    "on its way": _steep(
        Node("aten.ones.default", "v1", ([{"v": "v0"}],)),
        Node("aten.einsum.default", "v2", ("a,b,c,d,e,f,a,b,c,d,e,f->", [{"v": "v1"}] * 12)),
    ),
    "a product": _steep(
        Node("sym.mul", "v1", ({"v": "v0"}, {"v": "v0"})),
        Node("aten.ones.default", "v2", ([{"v": "v1"}, {"v": "v1"}],)),
        Node("aten.mm.default", "v3", ({"v": "v2"}, {"v": "v2"})),
    ),
}


def _stored(world: World, folder: Path, file: ModuleFile) -> str:
    path = folder / "module"
    file.save(path)
    return world.store.put_file(path).digest


@pytest.mark.parametrize("name", STEEP)
def test_what_grows_steeply_is_refused_where_it_is_too_much_and_not_before(
    world: World, tmp_path: Path, name: str
) -> None:
    digest, found = _stored(world, tmp_path, STEEP[name]), Sizes(world.store, Limits())
    found.check([Way((digest,), (1, 8, 8))])
    large = [Way((digest,), (1, 140, 8))]
    for _ in range(2):
        with pytest.raises(InferenceRefused) as caught:
            found.check(large)
        assert caught.value.code == "request_too_large"
    with pytest.raises(InferenceRefused):
        found.known(large)


def test_modules_are_looked_at_one_behind_the_other(world: World, tmp_path: Path) -> None:
    """The second one is steep: what counts is the height of what it reads."""
    doubling = Graph(IMAGE, (Node("aten.repeat.default", "v0", ({"v": "x0"}, [1, 1, 16, 1])),), {"features": "v0"})
    steep = STEEP["a value"]
    first = _stored(world, tmp_path, ModuleFile(steep.manifest, doubling, {}))
    way = Way((first, _stored(world, tmp_path, steep)), (1, 8, 8))
    with pytest.raises(InferenceRefused, match=r"\[1, 128, 8\]"):
        Sizes(world.store, Limits()).check([way])


def _model(world: World, name: str) -> Model:
    with world.database.read() as session:
        return models.find(session, name)


def test_a_model_of_one_size_is_never_looked_at(world: World) -> None:
    found, model = Sizes(world.store, Limits()), _model(world, "eight-teacher")
    assert found.ways(model, list(model.outputs), (1, 8, 8)) == []


def test_each_size_is_looked_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Counting(Work):
        def __call__(self, given: Any) -> Any:
            asked.append(tuple(given))
            return super().__call__(given)

    monkeypatch.setattr(sizes, "Work", Counting)
    found, model = Sizes(world.store, Limits()), _model(world, ANY_SIZE)
    for side in (8, 9, 8, 9):
        ways = found.ways(model, list(model.outputs), (1, side, 8))
        if not found.known(ways):
            found.check(ways)
    assert asked == [(1, 8, 8), (4, 8, 8), (1, 9, 8), (4, 9, 8)]


def test_old_sizes_are_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "MOST_SIZES", 2)
    found, model = Sizes(world.store, Limits()), _model(world, ANY_SIZE)
    ways = [found.ways(model, list(model.outputs), (1, side, 8)) for side in (8, 9, 10)]
    for each in ways:
        found.check(each)
    assert [found.known(each) for each in ways] == [False, True, True]


def test_bytes_that_are_missing_are_told_by_who_loads_them(world: World) -> None:
    found, way = Sizes(world.store, Limits()), Way(("0" * 64,), (1, 8, 8))
    found.check([way])
    assert not found.known([way])


def test_over_http(world: World) -> None:
    limits = Limits(elements_per_sample=20_000)
    with TestClient(mounted(world, world.settings.model_copy(update={"limits": limits}))) as client:

        def ask(side: int) -> Any:
            x = np.zeros((1, 1, side, side), np.float32)
            tensor = {"name": "input", "shape": x.shape, "datatype": "FP32", "data": x.flatten().tolist()}
            named = client.get(f"/v2/models/{ANY_SIZE}").json()["inputs"][0]["name"]
            return client.post(f"/v2/models/{ANY_SIZE}/infer", json={"inputs": [{**tensor, "name": named}]})

        assert ask(32).status_code == 200
        refused = ask(80)  # four channels of it
        assert refused.status_code == 413 and "elements" in refused.json()["error"]
        assert ask(64).status_code == 200
