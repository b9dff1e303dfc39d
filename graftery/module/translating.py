"""Export a net, translate the program, and check the result against the net, with as many free sizes as it allows."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from graftery.errors import GrafteryError, TraceRefused, first_line
from graftery.module.build import build
from graftery.module.check import check_graph
from graftery.module.derivatives import Derivatives, close, close_on_the_whole, derivatives, seeded
from graftery.module.graph import Graph, needed, renumbered
from graftery.module.lowering import Lowering, expression
from graftery.module.shapes import larger, survey
from graftery.spec.limits import Limits
from graftery.spec.manifest import Size, TensorSpec

TOLERANCE = 1e-4
_NO_BOUND = 2**40


@dataclass(frozen=True)
class _Sizes:
    """One choice of free sizes: x's shape with their names, the shape to export at, and others to compare at."""

    symbols: tuple[Size, ...]
    exported: tuple[int, ...]
    compared: tuple[tuple[int, ...], ...]


def translate(net: nn.Module, shape: tuple[int, ...], names: tuple[str, ...]) -> tuple[Graph, dict[str, Tensor]]:
    """Translate a net that is on the CPU, in float32 and in eval mode.

    Args:
        shape: of an input; the batch is at least 2, since export takes a batch of 1 for a constant.
        names: of the outputs, in the net's order.

    Raises:
        TraceRefused: with the layer and operator, or with the check that failed.
    """
    exported, *others = ((n, *shape[1:]) for n in (2, 3, 1))
    fixed = _Sizes(("N", *shape[1:]), exported, tuple(others))
    if len(shape) == 4:
        symbols: tuple[Size, ...] = ("N", shape[1], "H", "W")
        odd = (2, shape[1], shape[2] + 3, shape[3] + 7)
        # Export takes long to find out what the net itself tells at once.
        if _runs(net, odd) and _runs(net, larger(symbols, shape)):
            with suppress(GrafteryError):  # What is wrong besides shows again below.
                return _translate(net, _Sizes(symbols, exported, (*others, odd)), names)
    return _translate(net, fixed, names)


def _runs(net: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        with torch.no_grad():
            net(seeded(shape, 0))
    except Exception:
        return False
    return True


def _translate(net: nn.Module, sizes: _Sizes, names: tuple[str, ...]) -> tuple[Graph, dict[str, Tensor]]:
    program = _exported(net, sizes)
    below = [shape for shape in _next_to_ranges(program, sizes) if _runs(net, shape)]
    lowering = Lowering(program).run()
    if len(lowering.outputs) != len(names):
        raise TraceRefused(f"the net returns {len(names)} outputs, export finds {len(lowering.outputs)}")
    spec = TensorSpec(dtype="float32", shape=sizes.symbols)
    outputs = dict(zip(names, lowering.outputs, strict=True))
    graph = pruned(Graph(spec, tuple(lowering.nodes), outputs, lowering.names))
    weights = {name: lowering.weights[name] for name in sorted(graph.weights())}
    try:
        check_graph(graph, weights, Limits())
        survey(graph, weights, sizes.exported, Limits())
    except GrafteryError as error:
        raise TraceRefused(error.message, hint=error.hint) from error
    _self_check(net, build(graph, weights), (*sizes.compared, *below), names)
    return graph, weights


def pruned(graph: Graph) -> Graph:
    """The graph without steps that no output depends on, and without names for them, renumbered."""
    nodes = needed(graph, graph.outputs)
    kept = {node.id for node in nodes}
    names = {path: ref for path, ref in graph.names.items() if ref in kept}
    return renumbered(Graph(graph.input, tuple(nodes), graph.outputs, names))


def _exported(net: nn.Module, sizes: _Sizes) -> ExportedProgram:
    free = {index: Dim.DYNAMIC for index, size in enumerate(sizes.symbols) if isinstance(size, str)}
    try:
        with _plain_attention(), _quiet():
            return export(net, (seeded(sizes.exported, 0),), dynamic_shapes=(free,), strict=False)
    except Exception as error:
        raise TraceRefused(
            f"torch.export refuses the net: {first_line(error)}",
            hint="the net may not decide by its values or its batch size what it computes",
        ) from error


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep nn.MultiheadAttention off its fused inference path, which has no gradient."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Export logs and prints what it refuses, and warns of what we check anyway; our own error says it once."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _next_to_ranges(program: ExportedProgram, sizes: _Sizes) -> Iterator[tuple[int, ...]]:
    """Shapes just below the least size that the program holds for: a net that runs there may do something else.

    Raises:
        TraceRefused: the program holds up to some size only: beyond, the net does something else.
    """
    (x,) = (node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs)
    for dim, size in enumerate(x.meta["val"].shape):
        found = program.range_constraints.get(expression(size))
        if found is None:
            continue
        if found.upper < _NO_BOUND:
            raise TraceRefused(
                f"the net decides by the size of dimension {dim} of its input what it computes: up to {found.upper} it does what it"
                " did here, beyond something else",
                hint="let it do the same at every size",
            )
        least = int(found.lower)
        if dim and least > 2:
            yield (*sizes.exported[:dim], least - 1, *sizes.exported[dim + 1 :])


def _self_check(net: nn.Module, built: nn.Module, shapes: Sequence[tuple[int, ...]], names: tuple[str, ...]) -> None:
    for seed, shape in enumerate(shapes):
        x = seeded(shape, seed)
        try:
            found = derivatives(built, x, names)
            wanted = _of_original(net, x, names)
        except Exception as error:
            raise TraceRefused(
                f"at input shape {list(shape)} the net does not run forward and twice backward: {first_line(error)}"
            ) from error
        if not all(bool(torch.isfinite(value).all()) for value in (*wanted.y.values(), wanted.gradient)):
            raise TraceRefused(f"the net's output or gradient is not finite on noise of shape {list(shape)}")
        for what, difference in _differences(found, wanted):
            raise TraceRefused(f"at input shape {list(shape)} the file differs from the net in {what}: {difference}")


def _of_original(net: nn.Module, x: Tensor, names: tuple[str, ...]) -> Derivatives:
    with _plain_attention():
        try:
            return derivatives(net, x, names)
        except RuntimeError:
            # The file may hold an operator that the net has no second derivative for (hardsigmoid), rewritten.
            return derivatives(net, x, names, twice=False)


def _differences(found: Derivatives, wanted: Derivatives) -> Iterator[tuple[str, str]]:
    for name, y in wanted.y.items():
        if not close(found.y[name], y, TOLERANCE):
            yield f"output {name}", _distance(found.y[name], y)
    gradients = [("dy/dx", found.gradient, wanted.gradient)]
    gradients += [("the second derivative", *pair) for pair in zip(found.second, wanted.second, strict=False)]
    for what, ours, theirs in gradients:
        if not close_on_the_whole(ours, theirs, TOLERANCE):
            yield what, _distance(ours, theirs)


def _distance(found: Tensor, wanted: Tensor) -> str:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return f"{found.dtype} {list(found.shape)}, not {wanted.dtype} {list(wanted.shape)}"
    return f"by up to {float((found.double() - wanted.double()).abs().max()):.3g}"
