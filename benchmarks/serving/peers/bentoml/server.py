"""BentoML: a service with one worker and an API a model, with adaptive batching where the job has a batch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from PIL import Image

from benchmarks.serving.peers.common import Job, nets_of, normalised

job = Job.given()
# A request over this is answered 503: far above what the load brings about, so that only the batching is measured.
MAX_LATENCY_MS = 10_000
ROOT = Path(__file__).resolve().parents[4]
BATCHING = {"batchable": True, "batch_dim": 0, "max_batch_size": job.batch, "max_latency_ms": MAX_LATENCY_MS}


def api(model: str) -> Any:
    def numbers(self: Any, x: np.ndarray) -> np.ndarray:
        return self.nets[model](np.asarray(x, np.float32).reshape(-1, *job.shape))

    def picture(self: Any, image: Image.Image) -> np.ndarray:
        return self.nets[model](normalised(image))

    # BentoML calls an API by its function's own name. A positional argument alone is the whole body.
    scope: dict[str, Any] = {"picture": picture, "Image": Image, "np": np}
    # Without this module's annotations-as-text, which nobody could look up where there is no module.
    text = "def root(self, image: Image.Image, /) -> np.ndarray: return picture(self, image)"
    exec(compile(text, "root", "exec", dont_inherit=True), scope)
    chosen = scope["root"] if job.content == "jpeg" else numbers
    chosen.__name__ = f"api_{model}"
    batching = BATCHING if job.batch > 1 and job.content == "json" else {}
    return bentoml.api(chosen, route=f"/{model}", **batching)


def start(self: Any) -> None:
    self.nets = nets_of(job)


methods: dict[str, Callable[..., Any]] = {f"api_{model}": api(model) for model in job.models}
# No server is to write a line a request.
QUIET = {"access": {"enabled": False}}
Service = bentoml.service(workers=1, traffic={"timeout": 60}, metrics={"enabled": False}, logging=QUIET)(
    type("Service", (), {"__init__": start, **methods})
)


if __name__ == "__main__":
    command = ["serve", "benchmarks.serving.peers.bentoml.server:Service", "--working-dir", str(ROOT)]
    command += ["--host", "127.0.0.1", "--port", str(job.port), "--api-workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", *command])
