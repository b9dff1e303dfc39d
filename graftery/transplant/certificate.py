"""The non-interference certificate: what a composed network answered once, kept, and asked again later.

A record holds probe inputs, the outputs gS(h(f(x))) at them, and the device class on which they were computed. On the same
device class a replay has to give the same bits. On another one rounding differs, and a replay within a tolerance
is all that can be asked for: it finds a wrong module, not a small change of one weight.
Source: ours; the paper says that earlier nets stay as they are, and leaves the proof open.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from graftery.data.streams import generator
from graftery.errors import StoreError, WeightsRefused
from graftery.module import ModuleFile
from graftery.module.probes import PROBE_X
from graftery.module.verification import PROBE_TOLERANCE
from graftery.spec.certificate import Compared, DeviceClass
from graftery.spec.manifest import json_of

FORMAT = "graftery.probes/1"
ROWS = 8
"""Probe inputs of a network; fewer where they are large."""
MAX_BYTES = 2 * 1024**2
"""No more than this for the inputs of one network, but always one row."""
_METADATA_KEY = "graftery.probes"
_X, _Y = "x", "y"


@dataclass(frozen=True)
class Probes:
    """A record: probe inputs x [k, ...], the network's outputs at them, and where they were computed.

    Args:
        outputs: by the name of the output; `y` where there is one only.
    """

    x: Tensor
    outputs: Mapping[str, Tensor]
    device_class: DeviceClass

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, always in the same bytes."""
        tensors = {_X: self.x, **self.outputs}
        said = {"format": FORMAT, "device_class": json_of(self.device_class)}
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        save_file(contiguous, Path(path), {_METADATA_KEY: json.dumps(said, sort_keys=True)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a record.

        Raises:
            StoreError: `store_corrupt`; it is none.
        """
        try:
            with safe_open(path, framework="pt") as file:
                said = json.loads((file.metadata() or {})[_METADATA_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if said["format"] != FORMAT:
                raise ValueError(f"its format is {said['format']}")
            return cls(tensors.pop(_X), tensors, DeviceClass.model_validate(said["device_class"]))
        except (SafetensorError, KeyError, ValueError, ValidationError) as error:
            raise StoreError(f"the record of probes cannot be read: {error}") from error


@dataclass(frozen=True)
class Replay:
    """How a network answers at its probes now.

    Args:
        compared: `bitwise` on the device class of the record, else `tolerance`.
        identical: whether all outputs have the same bits.
        difference: the largest difference in units of the largest output; None where it is no number (another shape, NaN).
    """

    compared: Compared
    identical: bool
    difference: float | None

    @property
    def same(self) -> bool:
        """Whether the network is still what it was, as far as this device class can tell."""
        near = self.difference is not None and self.difference <= PROBE_TOLERANCE
        return self.identical or (self.compared == "tolerance" and near)

    @property
    def reason(self) -> str | None:
        """What is not the same; None where it is."""
        if self.same:
            return None
        if self.difference is None:
            return "the outputs have another shape, or are no numbers"
        return f"the outputs differ by {self.difference:.3g} of the largest, compared {self.compared}"


def probe_inputs(category: ModuleFile) -> Tensor:
    """Normal noise [k, ...] shaped like the probe in f's file; always the same. k is 8, less where inputs are large.

    Raises:
        WeightsRefused: `probe_mismatch`; the file has no probe.
    """
    shown = category.extras.get(PROBE_X)
    if shown is None:
        raise WeightsRefused(f"the category module has no tensor {PROBE_X}", code="probe_mismatch")
    rows = min(ROWS, max(1, MAX_BYTES // max(1, shown[0].nbytes)))
    return torch.randn(rows, *shown.shape[1:], generator=generator(0, "certificate")).to(shown.dtype)


def record(net: nn.Module, x: Tensor, device: str | torch.device = "cpu") -> Probes:
    """Ask a composed network for its outputs at x, on a device to which it is moved."""
    where = torch.device(device)
    return Probes(x, _outputs(net.to(where), x, where), device_class(where))


def replay(net: nn.Module, probes: Probes, device: str | torch.device = "cpu") -> Replay:
    """Ask again, and compare with the record: bit by bit on its device class, within `PROBE_TOLERANCE` elsewhere.

    The number of threads belongs to the device class: `torch.set_num_threads(probes.device_class.threads)` before.
    """
    again = record(net, probes.x, device)
    compared: Compared = "bitwise" if again.device_class == probes.device_class else "tolerance"
    if _bits(again.outputs) == _bits(probes.outputs):
        return Replay(compared, True, 0.0)
    return Replay(compared, False, _difference(again.outputs, probes.outputs))


def device_class(device: str | torch.device = "cpu") -> DeviceClass:
    """What decides the bits of a forward pass here."""
    where, threads = torch.device(device), torch.get_num_threads()
    if where.type == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        kernels = f"CUDA {torch.version.cuda}, cuDNN {cudnn}"
        model = torch.cuda.get_device_name(where)
        return DeviceClass(device="cuda", model=model, kernels=kernels, torch=torch.__version__, threads=threads)
    kernels = torch.backends.cpu.get_cpu_capability()
    return DeviceClass(device="cpu", model=_processor(), kernels=kernels, torch=torch.__version__, threads=threads)


def _processor() -> str:
    """The processor's model. Its name alone will not do: in virtual machines many models have one name."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    wanted = (("model name", ""), ("cpu family", "family "), ("model", "model "), ("CPU part", "part "))
    known = [f"{label}{fields[key]}" for key, label in wanted if fields.get(key)]
    return ", ".join(known) or platform.machine()


def _outputs(net: nn.Module, x: Tensor, device: torch.device) -> dict[str, Tensor]:
    with torch.no_grad(), _full_precision(device):
        # A copy: a first layer may work in place.
        value = net(x.to(device, copy=True))
    by_name = {f"{_Y}.{name}": each for name, each in value.items()} if isinstance(value, dict) else {_Y: value}
    return {name: each.cpu().contiguous() for name, each in by_name.items()}


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """On CUDA: float32 is float32. TF32 differs from every other device by more than rounding."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _bits(outputs: Mapping[str, Tensor]) -> list[tuple[str, torch.dtype, torch.Size, bytes]]:
    return [
        (name, value.dtype, value.shape, value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, value in sorted(outputs.items())
    ]


def _difference(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float | None:
    if {name: value.shape for name, value in found.items()} != {name: value.shape for name, value in wanted.items()}:
        return None
    each = [_relative(found[name].double(), value.double()) for name, value in wanted.items()]
    return max(each) if all(map(math.isfinite, each)) else None


def _relative(found: Tensor, wanted: Tensor) -> float:
    largest = max(float(wanted.abs().max()), 1e-7)
    return float((found - wanted).abs().max()) / largest
