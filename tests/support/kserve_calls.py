"""`python -m tests.support.kserve_calls HTTP GRPC FOLDER`: KServe's own clients against a real server; prints what they got.

A process of its own, as kserve and tritonclient register messages of the same names with protobuf. FOLDER has x.npy, which
is asked of `eight-in-even`, and image.png, which is asked of `photo`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

NETWORK, PHOTO = "eight-in-even", "photo"


def request(name: str, x: Any, binary: bool, datatype: str = "FP32", input_name: str = "input") -> InferRequest:
    tensor = InferInput(input_name, list(x.shape), datatype)
    tensor.set_data_from_numpy(x, binary_data=binary)
    return InferRequest(name, [tensor], request_id="7", from_grpc=False)


def described(response: Any) -> dict[str, Any]:
    (output,) = response.outputs
    return {
        "model": [response.model_name, response.model_version, response.id],
        "values": np.asarray(output.as_numpy(), np.float64).ravel().tolist(),
    }


async def over_http(address: str, x: Any, image: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    url = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        found["live"], found["ready"] = await client.is_server_live(url), await client.is_server_ready(url)
        found["model"] = [await client.is_model_ready(url, name) for name in (NETWORK, "nope")]
        for binary in (True, False):
            found[f"binary {binary}"] = described(await client.infer(url, request(NETWORK, x, binary), NETWORK))
        found["alias"] = described(await client.infer(url, request(NETWORK, x, True), f"{NETWORK}@stable"))
        found["image"] = described(await client.infer(url, request(PHOTO, image, True, "BYTES"), PHOTO))
        try:
            await client.infer(url, request(NETWORK, x[:, :, :4], False), NETWORK)
        except httpx.HTTPStatusError as error:
            found["refusal"] = [str(error.response.status_code), str(error)]
    return found


async def over_grpc(address: str, x: Any, image: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with InferenceGRPCClient(address) as client:
        found["live"], found["ready"] = await client.is_server_live(), await client.is_server_ready()
        found["model"] = [await client.is_model_ready(NETWORK)]
        for binary in (True, False):
            found[f"binary {binary}"] = described(await client.infer(request(NETWORK, x, binary)))
        found["alias"] = described(await client.infer(request(f"{NETWORK}@stable", x, True)))
        found["image"] = described(await client.infer(request(PHOTO, image, True, "BYTES")))
        try:
            await client.infer(request(NETWORK, x[:, :, :4], True))
        except grpc.RpcError as error:
            found["refusal"] = [error.code().name, error.details()]
    return found


def main(http_address: str, grpc_address: str, folder: str) -> None:
    x = np.load(Path(folder) / "x.npy")
    image = np.array([Path(folder, "image.png").read_bytes()], dtype=object)
    found = {
        "http": asyncio.run(over_http(http_address, x, image)),
        "grpc": asyncio.run(over_grpc(grpc_address, x, image)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
