"""Memory that is given back is given back to the machine, as the kernel counts it.

By processes of their own: the memory of one that ran other tests before is also theirs.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path

import anyio
import httpx
import pytest
import torch
from torch import nn

from graftery.module import ModuleFile, cut, trace
from graftery.module.probes import with_probe
from graftery.spec.manifest import OutputMeaning
from registry.db import Database
from registry.settings import Settings
from registry.store import Store
from serving import derive
from serving.derived import Deriver, OnnxForm
from serving.memory import give_back
from tests.support.alone import alone
from tests.support.inference import mounted
from tests.support.world import World

WIDTH, MIB = 16 * 1024, 2**20
WEIGHTS = 2 * 1024 * WIDTH * 4
"""Bytes of the big category module: 128 MiB."""


def resident() -> int:
    """Bytes of this process's own memory that are in the machine's, files left out."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def big() -> ModuleFile:
    hidden = nn.Sequential(nn.Linear(1024, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1024))
    net = nn.Sequential(OrderedDict(f=hidden, g=nn.Linear(1024, 1))).eval()
    return trace(net, torch.zeros(2, 1024), outputs={"y": OutputMeaning(semantics="regression")})


def infer(app: object) -> None:
    tensor = {"name": "input", "shape": [1, 1024], "datatype": "FP32", "data": [0.5] * 1024}
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]

    async def asked() -> None:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post("/v2/models/big/infer", json={"inputs": [tensor]})
            assert answer.status_code == 200, answer.text

    anyio.run(asked)


def world_of(home: Path) -> World:
    settings = Settings(home=home, free_bytes=0, device="cpu")
    return World(settings, Database(settings.database), Store(settings))


def unloaded(home: Path) -> tuple[int, int]:
    """Bytes that a network takes, and that are left of it."""
    world = world_of(home)
    file = big()
    category, tasks = cut(file, "f")
    world.compose("big", category, None, tasks["y"])
    world.networks.clear()
    del file, category, tasks
    app = mounted(world)
    serving = app.state.serving
    try:
        before = resident()
        infer(app)
        taken = resident() - before
        serving.unload("big")
        return taken, resident() - before
    finally:
        serving.close()


@pytest.mark.slow
def test_an_unloaded_network_is_out_of_the_machines_memory(world: World) -> None:
    taken, left = alone(unloaded, world.settings.home)
    assert taken > 0.9 * WEIGHTS
    assert left < 0.1 * WEIGHTS


def freed(path: Path) -> tuple[int, int]:
    """Bytes that a form takes, and that are left of it."""
    derive.export(big(), path)
    before = resident()
    form = OnnxForm(path, 1)
    form.warm_up((1024,))
    taken = resident() - before
    form.free()
    return taken, resident() - before


@pytest.mark.slow
def test_a_faster_form_that_is_freed_is_out_of_the_machines_memory(tmp_path: Path) -> None:
    taken, left = alone(freed, tmp_path / "a.onnx")
    assert taken > 0.9 * WEIGHTS
    assert left < 0.1 * WEIGHTS


def read(home: Path, path: Path) -> tuple[int, int]:
    """Bytes that three forms take, and that their files have."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(256, 256, 3, padding=1) for _ in range(24)]  # 54 MiB
    x = torch.zeros(2, 256, 4, 4)
    derive.export(with_probe(trace(nn.Sequential(*layers).eval(), x), x), path)
    world = world_of(home)
    deriver = Deriver(world.settings, world.store, torch.device("cpu"), lambda *_: None)
    give_back()
    before = resident()
    forms = [deriver._warmed(path, (256, 4, 4)) for _ in range(3)]
    return resident() - before, sum(form.size_bytes for form in forms)


@pytest.mark.slow
def test_what_a_form_was_read_from_is_out_of_the_machines_memory(world: World, tmp_path: Path) -> None:
    """ONNX Runtime rearranges weights as it reads them, and leaves what they were between those that it keeps."""
    taken, size = alone(read, world.settings.home, tmp_path / "a.onnx")
    assert taken < 1.2 * size


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_an_unloaded_network_is_out_of_cudas_memory(world: World) -> None:
    category, tasks = cut(big(), "f")
    world.compose("big", category, None, tasks["y"])
    app = mounted(world, world.settings.model_copy(update={"device": "cuda"}))
    serving = app.state.serving
    try:
        before = torch.cuda.memory_reserved()
        infer(app)
        assert torch.cuda.memory_reserved() - before > 0.9 * WEIGHTS
        serving.unload("big")
        assert torch.cuda.memory_reserved() - before < 0.1 * WEIGHTS
    finally:
        serving.close()
