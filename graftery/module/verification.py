"""All checks of a module file in this process, and the facts that come of them."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from graftery.errors import ModuleFileError, ShapesRefused, WeightsRefused, refusing
from graftery.module.check import CLONE_OLD, shape_text
from graftery.module.derivatives import Derivatives, close, derivatives, seeded
from graftery.module.file import ModuleFile
from graftery.module.meaning import check_meaning
from graftery.module.ops import DTYPE_NAMES
from graftery.module.probes import PROBE_X, outputs_at, probe_y, stated
from graftery.module.rows import check_rows
from graftery.module.shapes import Survey, survey
from graftery.spec.limits import Limits
from graftery.spec.manifest import Facts, Manifest, TensorSpec

# Between machines and releases rounding differs; a wrong weight or operator differs by much more.
PROBE_TOLERANCE = 1e-3
MIXING_TOLERANCE = 1e-4
MIXED_ROWS = 5
_BLOCK = 2**22


def verify(path: str | os.PathLike[str], limits: Limits = Limits()) -> Facts:  # noqa: B008
    """Check a file whole: header, graph, shapes and work, values, probe, second derivative.

    It runs the net, once it has passed the checks before that, with the limits of this process only; a service runs
    it in a child (`python -m graftery.module.verify --serve`).

    Raises:
        ModuleFileError: with the code of the first check that fails, in the order of docs/module-file.md.
    """
    return examine(ModuleFile.load(path, limits), limits)


def examine(file: ModuleFile, limits: Limits) -> Facts:
    """The checks of a file that is loaded: everything after header and graph."""
    check_meaning(file.manifest)
    x = _check_extras(file)
    found = survey(file.graph, file.weights, x.shape, limits)
    _check_stated(file.manifest, found)
    for name, tensor in {**file.weights, **file.extras}.items():
        check_values(name, tensor)
    _check_probe(file, x)
    check_rows(file.graph, file.weights, x.shape)
    _check_batch_and_gradient(file, x)
    return _facts(file, found)


def check_values(name: str, tensor: Tensor, *, masks: bool = True) -> None:
    """Refuse NaN and Inf, except for -Inf in a tensor of nothing but 0 and -Inf, which is an attention mask.

    Args:
        masks: whether there is this exception.

    Raises:
        WeightsRefused: with the tensor's name.
    """
    flat = tensor.reshape(-1)
    if tensor.dtype is torch.bool and bool((flat.view(torch.uint8) > 1).any()):
        raise WeightsRefused(f"tensor {name} is of booleans and holds a byte over 1")
    if not tensor.is_floating_point():
        return
    for block in torch.split(flat, _BLOCK):
        if not bool(torch.isfinite(block).all()) and not (masks and _is_mask(flat)):
            raise WeightsRefused(f"tensor {name} holds {'NaN' if bool(torch.isnan(block).any()) else 'Inf'}")


def _is_mask(flat: Tensor) -> bool:
    return all(bool(((block == 0) | (block == float("-inf"))).all()) for block in torch.split(flat, _BLOCK))


def _check_extras(file: ModuleFile) -> Tensor:
    x, ys = stated(file)
    if x is None or None in ys.values():
        missing = PROBE_X if x is None else next(probe_y(file, name) for name, y in ys.items() if y is None)
        raise WeightsRefused(f"the file has no tensor {missing}", code="probe_mismatch", hint="trace and save add it")
    known = {PROBE_X, *(probe_y(file, name) for name in ys)}
    odd = sorted(name for name in file.extras if name.startswith("probe.") and name not in known)
    if odd:
        raise WeightsRefused(f"the file has the tensor {odd[0]}, which belongs to no output", code="weight_unused")
    _check_kinds_own(file)
    if DTYPE_NAMES[x.dtype] != file.graph.input.dtype:
        raise ShapesRefused(f"the input is {file.graph.input.dtype}, {PROBE_X} is {DTYPE_NAMES[x.dtype]}")
    return x


def _check_kinds_own(file: ModuleFile) -> None:
    """Tensors beside the weights that files of one kind alone have."""
    for prefix, kind, what in (("group.", "group", "compatibility group"), ("clone.", "clone", "clone")):
        odd = sorted(name for name in file.extras if name.startswith(prefix))
        if odd and file.manifest.kind != kind:
            raise WeightsRefused(f"only a {what} has tensors like {odd[0]}", code="weight_unused")
    if file.manifest.clone is not None:
        _check_old(file, len(file.manifest.clone.classes))


def _check_old(file: ModuleFile, classes: int) -> None:
    """What a clone's logits get of the target's last features, whose number D only the target knows."""
    odd = sorted(name for name in file.extras if name.startswith("clone.") and name != CLONE_OLD)
    if odd:
        raise WeightsRefused(f"the clone has the tensor {odd[0]}, which nothing reads", code="weight_unused")
    old, wanted = file.extras.get(CLONE_OLD), next(iter(file.manifest.outputs.values())).dtype
    said = "missing" if old is None else f"{DTYPE_NAMES[old.dtype]} {list(old.shape)}"
    fits = (
        old is not None and old.is_floating_point() and old.ndim == 2 and old.shape[0] == classes and old.shape[1] > 0
    )
    if old is None or not fits or DTYPE_NAMES[old.dtype] != wanted:
        raise ShapesRefused(f"the clone's tensor {CLONE_OLD} is {said}, it has to be {wanted} [{classes}, D]")
    check_values(CLONE_OLD, old, masks=False)


def _check_stated(manifest: Manifest, found: Survey) -> None:
    for name, spec in found.outputs.items():
        said = TensorSpec(dtype=manifest.outputs[name].dtype, shape=manifest.outputs[name].shape)
        if said != spec:
            raise ShapesRefused(
                f"output {name}: the manifest says {shape_text(said)}, the graph gives {shape_text(spec)}"
            )


def _check_probe(file: ModuleFile, x: Tensor) -> None:
    _, wanted = stated(file)
    for name, y in _outputs(file, x).items():
        want = wanted[name]
        assert want is not None  # noqa: S101 - _check_extras has seen it
        if not close(y, want, PROBE_TOLERANCE):
            fits = y.shape == want.shape
            what = f"off by {_distance(y, want):.3g}" if fits else f"{list(y.shape)}, not {list(want.shape)}"
            raise WeightsRefused(
                f"output {name} at {PROBE_X} is not {probe_y(file, name)}: {what}", code="probe_mismatch"
            )


def _check_batch_and_gradient(file: ModuleFile, x: Tensor) -> None:
    """A row, alone and beside others: its outputs are the same, and another row has no part in the gradient of row 0."""
    rows = torch.cat([x[:1], 3 * seeded((MIXED_ROWS - 1, *x.shape[1:]), 7, x.dtype) + 1])
    both = _twice_backward(file, rows[:2])
    values = [*both.y.values(), both.gradient, *both.second]
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise ModuleFileError("an output, its gradient or the gradient of that is not finite", code="gradient_invalid")
    together = _outputs(file, rows)
    for row in range(MIXED_ROWS):
        for name, y in _outputs(file, rows[row : row + 1]).items():
            if not close(together[name][row : row + 1], y, MIXING_TOLERANCE):
                difference = _distance(together[name][row : row + 1], y)
                raise ModuleFileError(
                    f"output {name} of a row changes by {difference:.3g} when others are beside it", code="batch_mixing"
                )
    if bool(both.gradient[1:].any()):
        raise ModuleFileError("the outputs of a row have a gradient in another row", code="batch_mixing")


def _twice_backward(file: ModuleFile, x: Tensor) -> Derivatives:
    with _refusing("the net has no second derivative", "gradient_invalid"):
        return derivatives(file.net(), x, tuple(file.graph.outputs), rows=1)


def _outputs(file: ModuleFile, x: Tensor) -> dict[str, Tensor]:
    with _refusing(f"the net fails at {PROBE_X}", "probe_mismatch"):
        return outputs_at(file, x)


def _refusing(what: str, code: str) -> AbstractContextManager[None]:
    """Turn what an operator raises into a refusal."""
    kinds = RuntimeError, IndexError, ValueError, TypeError, NotImplementedError
    return refusing(lambda why: ModuleFileError(f"{what}: {why}", code=code), *kinds)


def _distance(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).abs().max())


def _facts(file: ModuleFile, found: Survey) -> Facts:
    return Facts(
        input=file.graph.input,
        outputs=dict(found.outputs),
        parameters=sum(tensor.numel() for tensor in file.weights.values()),
        flops_per_sample=found.flops_per_sample,
        elements_per_sample=found.elements_per_sample,
        largest_per_sample=found.largest_per_sample,
        nodes=len(file.graph.nodes),
        operators=file.graph.operators(),
        layers=tuple(file.graph.names),
        has_batch_norm="aten.batch_norm.default" in file.graph.operators(),
        has_sketch=any(name.startswith("sketch.") for name in file.extras),
        has_crops="sketch.crops" in file.extras,
        content_digest=file.content_digest,
    )
