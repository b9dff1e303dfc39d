"""The forward pass with nothing around it, a process of its own: `python -m benchmarks.serving.bare SPEC.json`.

Prints milliseconds of each pass, by the clock and by the process's own CPU time, as JSON. One thread.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.peers.common import INPUTS, Array, image, onnx_run
from benchmarks.serving.prepare import TASKS, jpeg
from benchmarks.serving.wire import FORMS, HEADER_LENGTH

LETTERS = ("f", "h", "g")


def passes(spec: dict[str, Any]) -> Callable[[], object]:
    """What is timed: a whole net, a category under its tasks, or decoding an image."""
    x = np.random.default_rng(0).standard_normal((spec["batch"], *INPUTS[spec["net"]]), np.float32)
    if spec["what"] == "decode":
        data = jpeg(0, INPUTS[spec["net"]][1])
        return lambda: image(data)
    if spec["what"].startswith("read "):
        return _reader(spec["what"].removeprefix("read "), x)
    if spec["what"] == "trio":
        return _trio(spec, x)
    if spec["engine"] == "onnx":
        run = onnx_run(Path(spec["onnx"]))
        return lambda: run(x)
    from benchmarks.serving.peers.common import torch_run

    eager = torch_run(spec["net"], 0)
    return lambda: eager(x)


def _reader(form: str, x: Array) -> Callable[[], object]:
    """Our server's own reading of a request: from a body to an array that was checked."""
    from serving import protocol

    body, headers = FORMS[form](x, "m0", b"")
    declared = [protocol.Declared("input", "FP32", (-1, *x.shape[1:]))]

    def read() -> object:
        request, binary = protocol.parse(body, headers.get(HEADER_LENGTH))
        return protocol.inputs_of(request, binary, declared, len(x))

    return read


def _trio(spec: dict[str, Any], x: Array) -> Callable[[], object]:
    """f once, then h and g of each task."""
    import torch

    from benchmarks.serving.nets import parts

    torch.set_num_threads(1)
    category = parts(spec["net"], {"f": 100})["f"]
    made = [parts(spec["net"], {"h": 100 + task, "g": 100 + task}) for task in range(TASKS)]
    rows = torch.from_numpy(x)

    def eager() -> object:
        with torch.inference_mode():
            features = category(rows)
            return [one["g"](one["h"](features)) for one in made]

    if spec["engine"] == "torch":
        return eager
    f = onnx_run(Path(spec["onnx"]) / "f.onnx")
    upper = [
        (onnx_run(Path(spec["onnx"]) / f"h{task}.onnx"), onnx_run(Path(spec["onnx"]) / f"g{task}.onnx"))
        for task in range(TASKS)
    ]

    def by_parts() -> object:
        features = f(x)
        return [g(h(features)) for h, g in upper]

    return by_parts


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    run = passes(spec)
    for _ in range(3):
        run()
    clock_ms, cpu, count = [], time.process_time(), 0
    until = time.perf_counter() + spec["seconds"]
    while (began := time.perf_counter()) < until or count < 5:
        run()
        clock_ms.append(round(1e3 * (time.perf_counter() - began), 4))
        count += 1
    print(json.dumps({"clock_ms": clock_ms, "cpu_ms": 1e3 * (time.process_time() - cpu) / count}))


if __name__ == "__main__":
    main()
