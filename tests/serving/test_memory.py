"""Memory that is given back is given back to the machine, as the kernel counts it."""

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
from serving import derive
from serving.derived import Deriver, OnnxForm
from serving.memory import give_back
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


def test_an_unloaded_network_is_out_of_the_machines_memory(world: World) -> None:
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
        assert resident() - before > 0.9 * WEIGHTS
        serving.unload("big")
        assert resident() - before < 0.1 * WEIGHTS
    finally:
        serving.close()


def test_a_faster_form_that_is_freed_is_out_of_the_machines_memory(tmp_path: Path) -> None:
    file = big()
    derive.export(file, tmp_path / "a.onnx")
    del file
    before = resident()
    form = OnnxForm(tmp_path / "a.onnx", 1)
    form.warm_up((1024,))
    assert resident() - before > 0.9 * WEIGHTS
    form.free()
    assert resident() - before < 0.1 * WEIGHTS


def test_what_a_form_was_read_from_is_out_of_the_machines_memory(world: World, tmp_path: Path) -> None:
    """ONNX Runtime rearranges weights as it reads them, and leaves what they were between those that it keeps."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(256, 256, 3, padding=1) for _ in range(24)]  # 54 MiB
    derive.export(
        with_probe(trace(nn.Sequential(*layers).eval(), torch.zeros(2, 256, 4, 4)), torch.zeros(2, 256, 4, 4)),
        tmp_path / "a.onnx",
    )
    deriver = Deriver(world.settings, world.store, torch.device("cpu"), lambda *_: None)
    give_back()
    before = resident()
    forms = [deriver._warmed(tmp_path / "a.onnx", (256, 4, 4)) for _ in range(3)]
    assert resident() - before < 1.2 * sum(form.size_bytes for form in forms)


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
