"""MLServer: a custom MLModel a net, V2 protocol, adaptive batching by max_batch_size and max_batch_time."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.cli.serve import load_settings
from mlserver.codecs import NumpyCodec
from mlserver.server import MLServer
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput

from benchmarks.serving.peers.common import Array, Job, image, nets_of

job = Job.given()


class Net(MLModel):
    async def load(self) -> bool:
        self._net = nets_of(job)[self.name] if len(job.models) == 1 else _only(self.name)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        y = self._net(_rows(payload.inputs[0]))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])


def _only(name: str):  # type: ignore[no-untyped-def]
    one = Job(**{**vars(job), "models": {name: job.models[name]}})
    return nets_of(one)[name]


def _rows(tensor: RequestInput) -> Array:
    if job.content == "jpeg":
        return np.concatenate([image(base64.b64decode(text)) for text in tensor.data.root])
    return NumpyCodec.decode_input(tensor).astype(np.float32, copy=False)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def write(folder: Path) -> None:
    """The settings files that MLServer reads: one of the server, one of each model."""
    grpc, metrics = _free_ports(2)
    folder.mkdir(parents=True, exist_ok=True)
    server = {"host": "127.0.0.1", "http_port": job.port, "grpc_port": grpc, "metrics_port": metrics}
    server |= {"parallel_workers": 0, "metrics_endpoint": None, "debug": False}
    (folder / "settings.json").write_text(json.dumps(server))
    for name in job.models:
        (folder / name).mkdir(exist_ok=True)
        model = {"name": name, "implementation": "benchmarks.serving.peers.mlserver.server.Net"}
        if job.batch > 1:
            model |= {"max_batch_size": job.batch, "max_batch_time": job.wait_ms / 1e3}
        (folder / name / "model-settings.json").write_text(json.dumps(model))


async def main() -> None:
    folder = Path.cwd() / f"mlserver-{job.port}"
    write(folder)
    settings, models = await load_settings(str(folder))
    await MLServer(settings).start(models)


if __name__ == "__main__":
    asyncio.run(main())
