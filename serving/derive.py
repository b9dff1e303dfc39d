"""The child that makes derived forms: a module file in, an ONNX file out, compared with the module at several sizes.

Requests and answers are JSON lines, like the verifier's child. The ONNX file is made here from a file that was verified when
it was published; it is a cache, and is never taken from outside.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from graftery.errors import Unavailable, first_line
from graftery.module import ModuleFile
from graftery.module.probes import PROBE_X, outputs_at
from graftery.module.protocol import serve
from graftery.spec.limits import Limits
from serving import pace
from serving.tolerance import BATCHES, TOLERANCE, distance

INPUT = "input"
_NICE = 10


def main() -> None:
    """Answer until stdin ends. Requests of users come first: this runs at a low priority."""
    os.nice(_NICE)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    serve({"derive": answer})


def answer(request: Mapping[str, Any], _limits: Limits) -> dict[str, Any]:
    """One derived form.

    Args:
        request: `path` is the module's file, `out` where the ONNX file goes, `threads` that it will run on.

    Returns:
        `difference`: the greatest distance from eager, relative to its greatest number; `sizes`: batches compared.

    Raises:
        Unavailable: `not_ready`: the module cannot be exported, or the form differs by more than the tolerance.
    """
    file = ModuleFile.load(request["path"])
    out = Path(request["out"])
    part = out.with_suffix(f".{os.getpid()}.part")
    try:
        export(file, part)
        difference = compare(file, part)
        note_pace(file, part, request["threads"])
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return {"difference": difference, "sizes": list(BATCHES)}


def export(file: ModuleFile, out: Path) -> None:
    """Write a module as ONNX, its batch free, and height and width where the manifest leaves them free."""
    example = examples(file, (2,))[0]
    free = {
        axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(file.manifest.input.shape) if isinstance(size, str)
    }
    try:
        program = torch.onnx.export(
            _Named(file.net()),
            (example,),
            dynamo=True,
            dynamic_shapes=(free,),
            input_names=[INPUT],
            output_names=list(file.manifest.outputs),
            verbose=False,
        )
        if program is None:
            raise RuntimeError("the exporter gave nothing")
        onnx.save(program.model_proto, out)
    except Exception as error:
        raise Unavailable(f"no ONNX form: {first_line(error)}", code="not_ready") from error


def compare(file: ModuleFile, path: Path) -> float:
    """How far the form is from the module at most, over several batches and sizes, relative to its greatest number."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for x in examples(file, BATCHES):
        expected = outputs_at(file, x)
        found = session.run(list(expected), {INPUT: x.numpy()})
        worst = max(worst, *(distance(y.numpy(), z) for y, z in zip(expected.values(), found, strict=True)))
    if not worst <= TOLERANCE:
        raise Unavailable(f"the ONNX form differs by {worst:.2g} of the greatest number", code="not_ready")
    return worst


def note_pace(file: ModuleFile, path: Path, threads: int) -> None:
    """Measure how long the form takes for some rows at once, and keep it in the form's file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {len(x): {INPUT: x.numpy()} for x in examples(file, (*pace.SIZES, 1))[:-1]}
    found = pace.measured(lambda rows: session.run(None, inputs[rows]))
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {pace.KEY: pace.written(found)})
    onnx.save(model, path)


def examples(file: ModuleFile, batches: Sequence[int]) -> list[Tensor]:
    """Inputs of the file's shape [n, ...] for each n: normal noise, or where numbers are whole, rows of its probe.

    Free sizes are those of the probe; the last example is larger in them.

    Raises:
        Unavailable: `not_ready`: there is no probe, and the sizes or numbers cannot be guessed.
    """
    probe = file.extras.get(PROBE_X)
    stated = file.manifest.input.shape[1:]
    sizes = [size for size in stated if isinstance(size, int)] if probe is None else list(probe.shape[1:])
    if len(sizes) < len(stated) or (probe is None and not file.manifest.input.dtype.startswith("float")):
        raise Unavailable("the file has no probe to take an input from", code="not_ready")
    larger = [2 * size if isinstance(named, str) else size for size, named in zip(sizes, stated, strict=True)]
    each = [(n, sizes) for n in batches[:-1]] + [(batches[-1], larger if len(batches) > 1 else sizes)]
    if probe is not None and not probe.is_floating_point():
        return [probe[torch.arange(n) % len(probe)] for n in batches]
    dtype = getattr(torch, file.manifest.input.dtype)
    return [torch.from_numpy(np.random.default_rng(n).standard_normal([n, *shape])).to(dtype) for n, shape in each]


class _Named(nn.Module):
    """The net with its outputs as a tuple, in the order of the manifest."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        value = self.net(x)
        return tuple(value.values()) if isinstance(value, dict) else (value,)
