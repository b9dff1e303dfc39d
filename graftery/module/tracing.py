"""nn.Module -> ModuleFile, on the owner's machine: export, translate, and prove that the file is the same net."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from graftery.errors import TraceRefused, first_line
from graftery.module.check import OUTPUT_NAME
from graftery.module.derivatives import as_outputs, seeded
from graftery.module.file import ModuleFile
from graftery.module.meaning import check_meaning, default_meaning
from graftery.module.probes import with_probe
from graftery.module.shapes import survey
from graftery.module.translating import translate
from graftery.module.verification import examine
from graftery.spec.limits import Limits
from graftery.spec.manifest import UNNAMED, FileKind, Manifest, OutputMeaning, OutputSpec, Preprocessing, TensorSpec


def save(net: nn.Module, path: str | os.PathLike[str], example_x: Tensor, **options: Any) -> str:
    """Trace a net (see `trace`) and write the file.

    Returns:
        The sha256 of the file in hex.
    """
    return trace(net, example_x, **options).save(path)


def trace(
    net: nn.Module,
    example_x: Tensor,
    *,
    kind: FileKind = "teacher",
    outputs: Mapping[str, OutputMeaning] | None = None,
    preprocessing: Preprocessing | None = None,
    description: str = "",
    licence: str | None = None,
    metadata: Mapping[str, str] | None = None,
    sketch: Mapping[str, Tensor] | None = None,
) -> ModuleFile:
    """Write a net down as a module file, and check the file against the net: y, dy/dx and the gradient of that.

    The net is copied; its mode, device and dtype stay as they are. Only the shape of `example_x` is used. The batch is
    free; height and width are, where the net allows it.

    Args:
        net: returns a tensor, a dict of tensors or a tuple of tensors, each with the batch first.
        example_x: [N, ...], any device; traced as float32 on the CPU.
        outputs: what each output means; the names of a tensor's or a tuple's outputs are taken from it in order.
        sketch: statistics of the features on the owner's data, kept as `sketch.*`.

    Raises:
        TraceRefused: names the operator and the layer path that a module file cannot hold, or the check that failed.
        ModuleFileError: the file would be refused by a service, for example because rows of the batch mix.
    """
    copied = _prepared(net)
    shape = (2, *example_x.shape[1:])
    names = _output_names(copied, shape, kind, outputs)
    graph, weights = translate(copied, shape, names)
    found = survey(graph, weights, shape, Limits()).outputs
    manifest = Manifest(
        kind=kind,
        input=graph.input,
        outputs={name: _output_spec(kind, spec, (outputs or {}).get(name)) for name, spec in found.items()},
        preprocessing=preprocessing,
        description=description,
        licence=licence,
        metadata=dict(metadata or {}),
    )
    check_meaning(manifest)
    extras = {
        f"sketch.{name.removeprefix('sketch.')}": tensor.detach().cpu() for name, tensor in (sketch or {}).items()
    }
    file = with_probe(ModuleFile(manifest, graph, weights, extras), seeded(shape, 0))
    examine(file, Limits())
    return file


def _output_spec(kind: FileKind, spec: TensorSpec, meaning: OutputMeaning | None) -> OutputSpec:
    meant = meaning or default_meaning(kind, spec)
    return OutputSpec(**spec.model_dump(), **meant.model_dump())


def _prepared(net: nn.Module) -> nn.Module:
    try:
        # Without grad, as in the file: torch picks the same kernels then, and the two agree to the last bit.
        copied = copy.deepcopy(net).cpu().float().eval().requires_grad_(False)
        for part in copied.modules():
            _settle(part)
    except Exception as error:
        raise TraceRefused(f"the net cannot be copied: {error}") from error
    return copied


def _settle(part: nn.Module) -> None:
    """A weight or spectral norm becomes the weight that it gives.

    torch's own way out changes the class, which a copy shares with the owner's net.
    """
    parametrizations = getattr(part, "parametrizations", None)
    if not isinstance(parametrizations, nn.ModuleDict) or not is_parametrized(part):
        return
    settled = {name: getattr(part, name).detach() for name in parametrizations}
    part.__class__ = type(part).__bases__[0]
    del part.parametrizations
    for name, weight in settled.items():
        part.register_parameter(name, nn.Parameter(weight, requires_grad=False))


def _output_names(
    net: nn.Module, shape: tuple[int, ...], kind: FileKind, outputs: Mapping[str, OutputMeaning] | None
) -> tuple[str, ...]:
    try:
        with torch.no_grad():
            result = net(seeded(shape, 0))
        count = len(as_outputs(result))
    except Exception as error:
        raise TraceRefused(f"the net fails on noise of shape {list(shape)}: {first_line(error)}") from error
    if isinstance(result, dict):
        names = tuple(str(name) for name in result)
    elif outputs is not None:
        names = tuple(outputs)
    elif count == 1:
        names = ("features",) if kind in ("category", "adapter") else (UNNAMED,)
    else:
        names = tuple(f"output{index}" for index in range(count))
    if len(names) != count or (outputs is not None and set(outputs) != set(names)):
        raise TraceRefused(
            f"the net has {count} outputs, named {list(names)}; meanings are given for {list(outputs or ())}"
        )
    odd = [name for name in names if OUTPUT_NAME.fullmatch(name) is None]
    if odd:
        raise TraceRefused(f"{odd[0]!r} is not allowed as the name of an output")
    return names
