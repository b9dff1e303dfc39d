"""What all contenders serve and are asked, made once into the scratch folder: ONNX files, rows, the numbers that answer them."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.serving.nets import parts, whole
from benchmarks.serving.peers.common import INPUTS, image
from benchmarks.serving.wire import Array

CATEGORIES = 8
TASKS = 3
ROWS = {"small": 64, "nothing": 64, "resnet": 8, "adapted": 8}
"""Distinct rows: as many as fill the largest batch that is asked, and few where a row is 3 MB of JSON."""
MODELS = {f"m{seed}": seed for seed in range(CATEGORIES)}
QUALITY = 90


def onnx_folder(scratch: Path, net: str) -> Path:
    return scratch / "nets" / net


def rows_file(scratch: Path, net: str, kind: str = "rows") -> Path:
    return scratch / "nets" / f"{net}-{kind}.npz"


def export(scratch: Path, net: str, models: dict[str, int]) -> None:
    """Write NAME.onnx of each whole net, with a free batch."""
    folder = onnx_folder(scratch, net)
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in models.items():
        path = folder / f"{name}.onnx"
        if not path.exists():
            draft = folder / f"{name}.part.onnx"
            _exported(whole(net, {"f": seed, "h": seed}), INPUTS[net]).save(str(draft))  # type: ignore[attr-defined]
            draft.replace(path)


def _exported(net: nn.Module, shape: tuple[int, ...]) -> object:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            net,
            (torch.zeros(2, *shape),),
            dynamo=True,
            input_names=["input"],
            output_names=["y"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            external_data=False,
            verbose=False,
        )


def export_trio(scratch: Path, net: str) -> None:
    """Write f.onnx, and h and g of each task: what the bare cost of a category under its tasks is measured on."""
    folder = onnx_folder(scratch, net) / "trio"
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "done").exists():
        return
    category = parts(net, {"f": 100})["f"]
    cut = tuple(category(torch.zeros(1, *INPUTS[net])).shape[1:])
    _exported(category, INPUTS[net]).save(str(folder / "f.onnx"))  # type: ignore[attr-defined]
    for task in range(TASKS):
        made = parts(net, {"h": 100 + task, "g": 100 + task})
        for letter in "hg":
            _exported(made[letter], cut).save(str(folder / f"{letter}{task}.onnx"))  # type: ignore[attr-defined]
    (folder / "done").touch()


def write_rows(scratch: Path, net: str) -> None:
    """Rows, and what each model answers; of images as JPEGs too."""
    path = rows_file(scratch, net)
    if path.exists():
        return
    x = np.random.default_rng(0).standard_normal((ROWS[net], *INPUTS[net]), np.float32)
    arrays = {"x": x, **{name: _answers(net, seed, x) for name, seed in MODELS.items()}}
    if net in ("small", "adapted"):
        arrays["trio"] = np.stack([_answer(trio(net, task), x) for task in range(TASKS)])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    if net == "resnet":
        _write_images(rows_file(scratch, net, "jpeg"), net)


def trio(net: str, task: int) -> nn.Module:
    """One category, and the adapter and task module of its own that a task has."""
    made = parts(net, {"f": 100, "h": 100 + task, "g": 100 + task})
    return nn.Sequential(*made.values()).eval()


def _write_images(path: Path, net: str) -> None:
    jpegs = [jpeg(seed, INPUTS[net][1]) for seed in range(ROWS[net])]
    x = np.concatenate([image(one) for one in jpegs])
    kept = {f"jpeg{index}": np.frombuffer(one, np.uint8) for index, one in enumerate(jpegs)}
    np.savez(path, x=x, m0=_answers(net, 0, x), **kept)


def jpeg(seed: int, side: int) -> bytes:
    """A picture with edges and soft colours, at about the size in bytes of a photograph."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (14, 14, 3), np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    noise = random.normal(0, 8, (side, side, 3))
    pixels = np.clip(np.asarray(coarse, np.float32) + noise, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _answers(net: str, seed: int, x: Array) -> Array:
    return _answer(whole(net, {"f": seed, "h": seed}), x)


@torch.inference_mode()
def _answer(net: nn.Module, x: Array) -> Array:
    found: list[Tensor] = [net(rows) for rows in torch.from_numpy(x).split(8)]
    return torch.cat(found).numpy()


def prepare(scratch: Path, net: str, models: int = 1) -> None:
    """All that a cell on this net needs, as far as it is not there yet."""
    torch.set_num_threads(1)
    write_rows(scratch, net)
    export(scratch, net, dict(list(MODELS.items())[:models]))
