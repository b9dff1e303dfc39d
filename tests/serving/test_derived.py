"""Faster forms: made by a real child, compared, swapped in, kept for the next time; and refused where they are wrong."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fastapi.testclient import TestClient
from torch import nn

from graftery.errors import Unavailable
from graftery.module import ModuleFile, trace
from graftery.module.probes import with_probe
from graftery.spec.limits import Limits
from registry.store import Store
from serving import derive, derived, parts
from serving.derived import Deriver, OnnxForm
from serving.pace import SIZES
from serving.service import Serving
from serving.tolerance import BATCHES, TOLERANCE
from tests.support import files
from tests.support.inference import mounted
from tests.support.world import NETWORK, World, images

CPU = torch.device("cpu")


def until(ready: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def fast(world: World) -> Iterator[TestClient]:
    app = mounted(world, world.settings.model_copy(update={"fast_forms": "auto"}))
    with TestClient(app) as client:
        yield client


def serving_of(client: TestClient) -> Serving:
    found: Serving = client.app.state.serving  # type: ignore[attr-defined]
    return found


def logits(client: TestClient, x: np.ndarray) -> np.ndarray:
    tensor = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    response = client.post(f"/v2/models/{NETWORK}/infer", json={"inputs": [tensor]})
    assert response.status_code == 200, response.text
    return np.array(response.json()["outputs"][0]["data"], np.float32).reshape(len(x), 1)


@pytest.mark.slow
def test_a_network_is_ready_at_once_and_faster_forms_come_in_behind(fast: TestClient, world: World) -> None:
    x = images(3)
    np.testing.assert_array_equal(logits(fast, x), world.answer(f"{NETWORK}:2", x))
    serving = serving_of(fast)
    until(lambda: serving.deriver.pending == 0)
    assert serving.deriver.reasons == {}
    assert {part.form for part in serving.pool.residents()} == {"onnxruntime"}
    for rows in (1, 2, 5):
        x = images(rows, rows)
        np.testing.assert_allclose(logits(fast, x), world.answer(f"{NETWORK}:2", x), rtol=1e-4, atol=1e-5)
    kept = sorted(path.name for path in serving.deriver.folder.iterdir())
    assert len(kept) == 3 and all(name.endswith(".onnx") for name in kept)

    # The next one finds them on the disk, and asks no child.
    fast.post(f"/v2/repository/models/{NETWORK}/unload")
    assert serving.pool.residents() == []
    fast.post(f"/v2/repository/models/{NETWORK}/load")
    assert {part.form for part in serving.pool.residents()} == {"onnxruntime"} and serving.deriver.pending == 0
    x = images(2)
    np.testing.assert_allclose(logits(fast, x), world.answer(f"{NETWORK}:2", x), rtol=1e-4, atol=1e-5)


# Answers every request as a child does that cannot export.
REFUSING = """
import json, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    problem = {"code": "not_ready", "message": "no ONNX form: aten.nothing", "hint": None}
    print(json.dumps({"id": json.loads(line)["id"], "problem": problem}), flush=True)
"""


def test_what_cannot_be_derived_stays_eager_and_says_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived, "COMMAND", (sys.executable, "-c", REFUSING))
    serving = Serving(world.settings.model_copy(update={"fast_forms": "auto"}), world.database, world.store)
    digest = world.store.put_bytes(files.file_bytes(files.parts()[0])).digest
    part, _ = serving._load(digest)
    until(lambda: serving.deriver.pending == 0)
    assert part.form == "eager" and "aten.nothing" in serving.deriver.reasons[digest]
    serving.deriver.want(part)
    assert serving.deriver.pending == 0  # what could not be made is not tried for every load
    serving.close()


def probed(file: ModuleFile) -> ModuleFile:
    return with_probe(
        file, torch.randn(2, *(size if isinstance(size, int) else 8 for size in file.manifest.input.shape[1:]))
    )


def test_a_form_is_compared_at_several_batches_and_sizes(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()).eval()
    file = probed(trace(net, torch.zeros(2, 1, 8, 8)))
    assert [list(x.shape) for x in derive.examples(file, BATCHES)] == [
        [1, 1, 8, 8], [2, 1, 8, 8], [3, 1, 8, 8], [17, 1, 16, 16],
    ]  # fmt: skip
    path = tmp_path / "a.onnx"
    derive.export(file, path)
    assert derive.compare(file, path) < TOLERANCE
    form = OnnxForm(path, 1)
    x = torch.randn(4, 1, 12, 20)
    torch.testing.assert_close(form(x)[0], net(x), rtol=1e-4, atol=1e-5)


def test_a_form_of_free_sizes_is_warmed_with_those_of_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = probed(trace(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU()).eval(), torch.zeros(2, 1, 8, 8)))
    path = tmp_path / "a.onnx"
    derive.export(file, path)
    form, seen = OnnxForm(path, 1), list[tuple[int, ...]]()
    monkeypatch.setattr(OnnxForm, "__call__", lambda _form, x: seen.append(tuple(x.shape)))
    form.warm_up(None)
    assert seen == []  # nobody knows which sizes will come
    form.warm_up(parts.probe_sizes(file))
    assert seen == [(1, 1, 8, 8), (2, 1, 8, 8), (8, 1, 8, 8)]


def test_a_form_knows_its_pace(tmp_path: Path) -> None:
    file, out = probed(files.parts()[0]), tmp_path / "a.onnx"
    path = tmp_path / "a.safetensors"
    file.save(path)
    derive.answer({"path": str(path), "out": str(out), "threads": 1}, Limits())
    found = OnnxForm(out, 1).pace
    assert found is not None and set(found) == set(SIZES) and all(seconds > 0 for seconds in found.values())


def test_a_form_with_other_weights_is_refused(tmp_path: Path) -> None:
    file = probed(files.parts()[0])
    path = tmp_path / "a.onnx"
    derive.export(file, path)
    model = onnx.load(path)
    weight = next(each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT and each.dims)
    values = onnx.numpy_helper.to_array(weight) * 1.01
    weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weight.name))
    onnx.save(model, path)
    with pytest.raises(Unavailable, match="differs by"):
        derive.compare(file, path)


def test_a_form_whose_child_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(_file: ModuleFile, path: Path) -> float:
        assert path.exists()
        raise Unavailable("no", code="not_ready")

    monkeypatch.setattr(derive, "compare", wrong)
    source = tmp_path / "a.safetensors"
    probed(files.parts()[0]).save(source)
    with pytest.raises(Unavailable):
        derive.answer({"path": str(source), "out": str(tmp_path / "out.onnx")}, derive.Limits())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors"]


def test_a_damaged_kept_form_is_no_harm(world: World, tmp_path: Path) -> None:
    deriver = Deriver(
        world.settings.model_copy(update={"fast_forms": "auto", "home": tmp_path}), world.store, CPU, lambda *_: None
    )
    digest = world.store.put_bytes(files.file_bytes(files.parts()[0])).digest
    deriver.folder.mkdir()
    deriver.path(digest).write_bytes(b"no ONNX")
    assert deriver.kept(digest) is None
    deriver.close()


def test_the_cache_of_forms_keeps_within_its_bytes(world: World, tmp_path: Path) -> None:
    settings = world.settings.model_copy(update={"home": tmp_path, "derived_bytes": 250})
    deriver = Deriver(settings, Store(settings), CPU, lambda *_: None)
    deriver.folder.mkdir()
    for age, name in enumerate("cba"):
        path = deriver.folder / f"{name}.onnx"
        path.write_bytes(b"x" * 100)
        stamp = time.time() - 100 * (3 - age)
        os.utime(path, (stamp, stamp))
    deriver._sweep()
    assert sorted(path.name for path in deriver.folder.iterdir()) == ["a.onnx", "b.onnx"]


def test_switched_off_nothing_is_derived(world: World) -> None:
    deriver = Deriver(world.settings.model_copy(update={"fast_forms": "off"}), world.store, CPU, lambda *_: None)
    digest = world.store.put_bytes(files.file_bytes(files.parts()[0])).digest
    deriver.want(parts.load(world.store, digest, CPU))
    assert deriver.pending == 0 and deriver.kept(digest) is None
