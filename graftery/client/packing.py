"""What a person has in hand (a net, a module file, a path, arrays) as a file that can be sent.

torch is loaded only where a net or a module file is given: there it is loaded already.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from graftery.errors import GrafteryError, SamplesRefused, TraceRefused, first_line
from graftery.spec.manifest import OutputMeaning, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from graftery.module import ModuleFile

Source: TypeAlias = "nn.Module | ModuleFile | str | os.PathLike[str]"


def existing(path: str | os.PathLike[str]) -> Path:
    """The path, if a file is there."""
    if not Path(path).is_file():
        raise GrafteryError(f"there is no file {Path(path)}", code="not_found")
    return Path(path)


@dataclass(frozen=True)
class SketchOf:
    """A wish for a sketch of the features on the owner's own images; made here, so that no image leaves him.

    Args:
        images: [n, ...], preprocessed, at least two.
        cut: the layer whose output the features are, for a teacher.
        crops: of feature maps, beside the statistics.
    """

    images: ArrayLike
    cut: str | None = None
    crops: int = 0


@contextmanager
def packed(source: Source, example: Tensor | None, sketch: SketchOf | None = None, **how: Any) -> Iterator[Path]:
    """The file itself, or one that is written for as long as it is sent.

    Raises:
        TraceRefused: the net cannot be written as a module file; says which layer and operator.
    """
    if isinstance(source, str | os.PathLike) and sketch is None:
        yield existing(source)
        return
    module = _as_module_file(source, example, how)
    if sketch is not None:
        module = _with_sketch(module, sketch)
    with TemporaryDirectory(prefix="graftery-") as folder:
        path = Path(folder) / "module.safetensors"
        module.save(path)
        yield path


@contextmanager
def packed_samples(x: ArrayLike | str | os.PathLike[str], y: ArrayLike | None = None) -> Iterator[Path]:
    """Samples as a safetensors file with `x` [n, ...] and, where there are labels, `y` [n] or [n, ...].

    `x` may be a .safetensors file (sent as it is) or a .npz with the arrays `x` and `y`.
    """
    if isinstance(x, str | os.PathLike):
        path = existing(x)
        if path.suffix != ".npz":
            yield path
            return
        x, y = _read_npz(path)
    from safetensors.numpy import save_file

    with TemporaryDirectory(prefix="graftery-") as folder:
        path = Path(folder) / "samples.safetensors"
        save_file(_arrays(x, y), path)
        yield path


def _as_module_file(source: Any, example: Tensor | None, how: dict[str, Any]) -> ModuleFile:
    from graftery.module import ModuleFile, trace

    if isinstance(source, ModuleFile):
        return source
    if isinstance(source, str | os.PathLike):
        return ModuleFile.load(existing(source))
    if example is None:
        raise TraceRefused("a net is traced with an example", hint="give an input tensor of at least two rows")
    if how.get("outputs"):
        how["outputs"] = {name: _meaning(given) for name, given in how["outputs"].items()}
    if isinstance(how.get("preprocessing"), Mapping):
        how["preprocessing"] = Preprocessing.model_validate(how["preprocessing"])
    module: ModuleFile = trace(source, example, **how)
    return module


def _with_sketch(module: ModuleFile, wish: SketchOf) -> ModuleFile:
    import torch

    from graftery.module import cut
    from graftery.transplant import sketch

    category = module if wish.cut is None else cut(module, wish.cut)[0]
    images = torch.as_tensor(np.asarray(wish.images, np.float32))
    return replace(module, extras={**module.extras, **sketch(category, images, crops=wish.crops)})


def _meaning(given: OutputMeaning | str) -> OutputMeaning:
    return given if isinstance(given, OutputMeaning) else OutputMeaning.model_validate({"semantics": given})


def _arrays(x: ArrayLike, y: ArrayLike | None) -> dict[str, np.ndarray[Any, Any]]:
    """Contiguous arrays in the dtypes of sample sets: x float32, labels int64, other targets float32."""
    arrays = {"x": np.ascontiguousarray(x, np.float32)}
    if y is not None:
        target = np.asarray(y)
        dtype = np.float32 if np.issubdtype(target.dtype, np.floating) else np.int64
        arrays["y"] = np.ascontiguousarray(target, dtype)
        if len(arrays["y"]) != len(arrays["x"]):
            raise SamplesRefused(f"x has {len(arrays['x'])} rows, y has {len(arrays['y'])}")
    return arrays


def read_images(path: Path) -> np.ndarray[Any, Any]:
    """The array of a .npy file, or `x` of a .npz file."""
    if path.suffix == ".npz":
        return _read_npz(path)[0]
    with reading(path):
        array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise SamplesRefused(f"{path} has several arrays in it", hint="call it .npz")
    return array


@contextmanager
def reading(path: Path, refusal: type[GrafteryError] = SamplesRefused) -> Iterator[None]:
    """Around what reads an array file: whatever NumPy and its ZIP reader raise of a damaged one is `refusal`."""
    try:
        yield
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise refusal(f"{path} cannot be read: {first_line(error)}") from error


def _read_npz(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    with reading(path), np.load(path, allow_pickle=False) as arrays:
        if "x" not in arrays:
            raise SamplesRefused(f"{path} has no array x", hint=f"it has {', '.join(arrays) or 'none'}")
        return arrays["x"], arrays.get("y")
