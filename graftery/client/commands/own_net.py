"""`--net`: the owner's own net, built by the owner's own code on the owner's machine.

This is the only place where the client runs code that a command line names. What leaves the machine is the traced
graph and the weights; the service never sees, and never runs, a line of it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from graftery.spec.manifest import OutputMeaning, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

_Model = TypeVar("_Model", bound=BaseModel)


def build(place: str, weights: Path | None) -> nn.Module:
    """The net at `package.module:name`: a net, or a function or class that gives one when it is called."""
    from torch import nn

    found = _at(place)
    net = _net(place, found if isinstance(found, nn.Module) else found())
    if weights is not None:
        _load_weights(net, weights)
    return net.eval()


def builder(place: str) -> Callable[[int], nn.Module]:
    """The function or class at `package.module:name` that gives a net for a number of logits."""
    found = _at(place)
    try:
        inspect.signature(found).bind(2)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(
            f"--net {place} must be a function or class that takes the number of logits: {error}"
        ) from error
    return lambda logits: _net(place, found(logits))


def _at(place: str) -> Any:
    module_name, _, attribute = place.partition(":")
    if not module_name or not attribute:
        raise typer.BadParameter(f"--net is written package.module:function, not {place!r}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise typer.BadParameter(f"--net {place}: {error}") from error


def _net(place: str, found: object) -> nn.Module:
    from torch import nn

    if not isinstance(found, nn.Module):
        raise typer.BadParameter(f"--net {place} gives a {type(found).__name__}, not a torch.nn.Module")
    return found


def example_of(text: str) -> Tensor:
    """Two rows to trace with: `3x32x32` for random numbers of that shape, or a .npy file with real ones."""
    import torch

    from graftery.client.packing import read_images

    if text.endswith(".npy"):
        return torch.from_numpy(read_images(Path(text))).float()
    if re.fullmatch(r"\d+(x\d+)*", text) is None:
        raise typer.BadParameter(f"--example is written 3x32x32 (one sample's shape), or is a .npy file, not {text!r}")
    sizes = [int(part) for part in text.split("x")]
    return torch.randn(2, *sizes, generator=torch.Generator().manual_seed(0))


def meanings(outputs: Mapping[str, str], classes: Mapping[str, str]) -> dict[str, OutputMeaning] | None:
    """`is=classification` and `is=no,yes` as meanings by output name; None where nothing is said."""
    if unknown := set(classes) - set(outputs):
        raise typer.BadParameter(f"--classes names {unknown.pop()}, which --outputs does not")
    names = {name: text.split(",") for name, text in classes.items()}
    return {
        name: _checked(OutputMeaning, {"semantics": semantics, "class_names": names.get(name)}, "--outputs")
        for name, semantics in outputs.items()
    } or None


def trace_options(
    outputs: Mapping[str, str], classes: Mapping[str, str], preprocessing: Any, licence: str | None
) -> dict[str, Any]:
    """The keyword arguments of `graftery.trace`, as far as they are given."""
    given = {
        "outputs": meanings(outputs, classes),
        "preprocessing": preprocessing_of(preprocessing),
        "licence": licence,
    }
    return {key: value for key, value in given.items() if value is not None}


def preprocessing_of(said: Any) -> Preprocessing | None:
    """What `--preprocessing` says, as far as it says anything."""
    return _checked(Preprocessing, said, "--preprocessing") if said else None


def _checked(model: type[_Model], value: Any, option: str) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise typer.BadParameter(f"{option}: {where}: {first['msg']}") from None


def _load_weights(net: nn.Module, weights: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        net.load_state_dict(load_file(weights))
    except (SafetensorError, OSError) as error:
        raise typer.BadParameter(
            f"--weights {weights} is no safetensors file ({error}); load other formats in the function of --net"
        ) from error
    except RuntimeError as error:
        raise typer.BadParameter(f"--weights {weights} do not fit the net: {' '.join(str(error).split())}") from error
