"""A thousand clients at once, while models are loaded, unloaded and evicted: no deadlock, and every answer is the right one."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

import httpx
import numpy as np
import pytest

from serving.service import Serving
from tests.support.inference import mounted
from tests.support.world import NETWORK, World, images

CLIENTS = 1000
STABLE = (f"{NETWORK}:1", "eight-teacher:1")
UNLOADED = f"{NETWORK}:2"
PATIENCE_S = 120


def request_of(x: np.ndarray) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "input", "shape": x.shape, "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + x.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


async def ask(client: httpx.AsyncClient, ref: str, x: np.ndarray, expected: np.ndarray) -> str:
    body, headers = request_of(x)
    response = await client.post(f"/v2/models/{ref}/infer", content=body, headers=headers)
    if response.status_code == 503:
        return "unloaded" if "was unloaded" in response.text else response.text
    assert response.status_code == 200, response.text
    (output,) = response.json()["outputs"]
    found = np.array(output["data"], np.float32).reshape(output["shape"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    return "answered"


async def shake(client: httpx.AsyncClient, stop: asyncio.Event) -> int:
    """Load and unload in turns until told to stop; ends with everything loaded."""
    turns = 0
    while not stop.is_set():
        for verb in ("unload", "load"):
            response = await client.post(f"/v2/repository/models/{UNLOADED}/{verb}")
            assert response.status_code == 200, response.text
            await asyncio.sleep(random.Random(turns).random() / 200)
        turns += 1
    return turns


@pytest.mark.slow
@pytest.mark.parametrize("room", ["for all", "for one network"])
def test_a_thousand_clients_while_models_come_and_go(world: World, room: str) -> None:
    with world.database.read() as session:
        from serving import models

        sizes = {ref: sum(models.find(session, ref).parts.values()) for ref in (*STABLE, UNLOADED)}
    pool_bytes = sum(sizes.values()) if room == "for all" else max(sizes.values())
    changed = {"pool_bytes": pool_bytes, "infer_queue": 4 * CLIENTS}
    app = mounted(world, world.settings.model_copy(update=changed))
    inputs = {seed: images(1 + seed % 3, seed) for seed in range(20)}
    known = {(ref, seed): world.answer(ref, x) for ref in (*STABLE, UNLOADED) for seed, x in inputs.items()}

    async def main() -> Counter[str]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=PATIENCE_S) as client:
            stop = asyncio.Event()
            shaking = asyncio.ensure_future(shake(client, stop))
            pairs = [list(known)[n % len(known)] for n in range(CLIENTS)]
            calls = (ask(client, ref, inputs[seed], known[ref, seed]) for ref, seed in pairs)
            found = await asyncio.wait_for(asyncio.gather(*calls), PATIENCE_S)
            stop.set()
            assert await asyncio.wait_for(shaking, PATIENCE_S) > 0
            assert await ask(client, UNLOADED, inputs[0], known[UNLOADED, 0]) == "answered"
            return Counter(found)

    found = asyncio.run(main())
    assert set(found) <= {"answered", "unloaded"}, found
    assert found["answered"] >= 2 * CLIENTS // 3
    serving: Serving = app.state.serving
    assert serving.batcher.rows == 0 and serving.pool.size_bytes <= pool_bytes
    assert all(part.users == 0 for part in serving.pool.residents())
    serving.close()
