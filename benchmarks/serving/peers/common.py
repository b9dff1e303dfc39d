"""What every peer's server needs: its job, its nets, its rows. Runs in the peers' environments: torch or onnxruntime, numpy."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Run = Callable[[Array], Array]
INPUTS = {"small": (3, 32, 32), "nothing": (3, 32, 32), "resnet": (3, 224, 224), "adapted": (3, 224, 224)}
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


@dataclass(frozen=True)
class Job:
    """What to serve and how; comes as JSON in BENCH_JOB."""

    port: int
    net: str
    engine: str
    """torch (eager) or onnx (onnxruntime)."""
    content: str
    """json, raw or jpeg: what comes in."""
    models: dict[str, int]
    """Of each name, the seed of its f and h; g is the same in all, as far as a peer can tell another net's."""
    folder: str
    """Where NAME.onnx lies."""
    batch: int = 1
    """Largest batch of several requests; 1: no batching."""
    wait_ms: float = 0.0
    mode: str = ""
    """A choice of the peer's own."""

    @property
    def shape(self) -> tuple[int, ...]:
        return INPUTS[self.net]

    @classmethod
    def given(cls) -> Job:
        return cls(**json.loads(os.environ["BENCH_JOB"]))


def nets_of(job: Job) -> dict[str, Run]:
    """All nets of the job, loaded, on one thread."""
    return {name: _run(job, name) for name in job.models}


def _run(job: Job, name: str) -> Run:
    if job.engine == "onnx":
        return onnx_run(Path(job.folder) / f"{name}.onnx")
    return torch_run(job.net, job.models[name])


def onnx_run(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"input": x})[0]


def torch_run(net: str, seed: int) -> Run:
    import torch

    from benchmarks.serving.nets import whole

    torch.set_num_threads(1)
    made = whole(net, {"f": seed, "h": seed})

    def run(x: Array) -> Array:
        with torch.inference_mode():
            return made(torch.from_numpy(x)).numpy()

    return run


def rows(values: Sequence[float], shape: tuple[int, ...]) -> Array:
    """Numbers of any number of rows as [n, *shape]."""
    return np.asarray(values, np.float32).reshape(-1, *shape)


def image(jpeg: bytes) -> Array:
    """A JPEG as the nets' input [1, 3, H, W]."""
    from PIL import Image

    return normalised(Image.open(io.BytesIO(jpeg)))


def normalised(picture) -> Array:  # type: ignore[no-untyped-def]
    pixels = np.asarray(picture.convert("RGB"), np.float32) / 255
    x = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(x.transpose(2, 0, 1))[None]


def image_of_text(text: str) -> Array:
    return image(base64.b64decode(text))


def run_mixed(nets: dict[str, Run], names: Sequence[str], groups: Sequence[Array]) -> list[Array]:
    """What each net says of each group of rows: one run for all groups of a net."""
    found: list[Array] = [groups[0]] * len(groups)
    for name in dict.fromkeys(names):
        at = [index for index, other in enumerate(names) if other == name]
        y = nets[name](np.concatenate([groups[index] for index in at]))
        ends = np.cumsum([len(groups[index]) for index in at])[:-1]
        for index, part in zip(at, np.split(y, ends), strict=True):
            found[index] = part
    return found
