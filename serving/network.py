"""Running a composed network: f, h and gS one after the other, as `graftery.transplant.compose` does. Eager torch.

On the same device, number of threads and batch, the answers are those of the local module to the bit.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graftery.errors import GrafteryError, InferenceRefused, Unavailable, first_line
from graftery.module import ModuleFile
from registry.store import Store
from serving.models import Branch, Model
from serving.pool import not_ready
from serving.tensors import Array


@dataclass(frozen=True)
class Run:
    """What a run gave, and what it took: seconds to move the input, to compute, and to move the outputs back."""

    outputs: dict[str, Array]
    input_s: float
    infer_s: float
    output_s: float


def device_of(setting: str) -> torch.device:
    """The device of a setting; `auto` is CUDA where there is one."""
    return torch.device(setting if setting != "auto" else "cuda" if torch.cuda.is_available() else "cpu")


def load(store: Store, digest: str, device: torch.device) -> tuple[nn.Module, int]:
    """A module from the store, checked against its digest, on its device; and the bytes of its weights.

    Raises:
        Unavailable: `not_ready`: the bytes are missing, damaged or unreadable.
    """
    what = f"the module sha256 {digest[:12]}"
    try:
        path = store.local_path(digest)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise Unavailable(f"its bytes have sha256 {found[:12]}, they are damaged")
        net = ModuleFile.load(path).net().to(device)
    except (GrafteryError, OSError, RuntimeError) as error:
        raise not_ready(what, error) from error
    return net, sum(tensor.nbytes for tensor in _weights(net))


def unload(net: nn.Module) -> None:
    """Give a module's memory back at once. An fx module is part of a cycle, which would keep it until a collection."""
    on_cuda = any(tensor.is_cuda for tensor in _weights(net))
    for part in net.modules():
        part._buffers.clear()
        part._parameters.clear()
    if on_cuda:
        torch.cuda.empty_cache()


def run(model: Model, nets: Mapping[str, nn.Module], x: Array, wanted: Collection[str], device: torch.device) -> Run:
    """Run a model's wanted outputs.

    Args:
        nets: the model's modules by digest.
        x: the input [N, ...], checked against the model's declaration.

    Raises:
        InferenceRefused: a net with free sizes cannot run on these.
        Unavailable: the device has too little memory for this.
    """
    began = time.perf_counter()
    try:
        with torch.inference_mode():
            value = _tensor(x, model.input.datatype).to(device)
            moved = time.perf_counter()
            results = _outputs(model, nets, value, wanted)
            _wait(device)
            computed = time.perf_counter()
            arrays = {name: _array(result) for name, result in results.items()}
    except (RuntimeError, IndexError, ArithmeticError) as error:
        raise _explained(error, model, x) from error
    return Run(arrays, moved - began, computed - moved, time.perf_counter() - computed)


def _outputs(model: Model, nets: Mapping[str, nn.Module], x: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
    features = nets[model.category](x)
    found: dict[str, Tensor] = {}
    for branch in model.branches:
        if any(output.declared.name in wanted for output in branch.outputs):
            found |= _branch_outputs(branch, nets, features)
    return {name: found[name] for name in wanted}


def _branch_outputs(branch: Branch, nets: Mapping[str, nn.Module], features: Tensor) -> dict[str, Tensor]:
    if branch.adapter is not None:
        features = nets[branch.adapter](features)
    value = nets[branch.task](features)
    by_inner = value if isinstance(value, dict) else {branch.outputs[0].inner: value}
    return {output.declared.name: by_inner[output.inner] for output in branch.outputs}


def _weights(net: nn.Module) -> list[Tensor]:
    return [*net.buffers(), *net.parameters()]


def _tensor(array: Array, datatype: str) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if datatype == "BF16" else tensor


def _array(tensor: Tensor) -> Array:
    tensor = tensor.cpu().contiguous()
    array: Array = (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _explained(error: Exception, model: Model, x: Array) -> Exception:
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return Unavailable("the device has too little memory for this request", hint="send a smaller batch")
    if -1 in model.input.shape[1:]:
        return InferenceRefused(
            f"input {model.input.name!r}: the network cannot run on shape {list(x.shape)}: {first_line(error)}"
        )
    return error
