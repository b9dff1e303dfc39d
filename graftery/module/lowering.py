"""torch.export's graph -> our graph, step by step.

We walk the graph as exported, not its decomposition: that turns reshape into view, which fails behind the math
attention kernel.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from graftery.errors import TraceRefused
from graftery.module.check import EXTRA_PREFIXES
from graftery.module.container import NAME
from graftery.module.graph import BATCH, DEVICE, INPUT, Node
from graftery.module.ops import DTYPE_NAMES, STORED_NAMES, texts
from graftery.module.opset import operators

_ASSERTIONS = frozenset(
    {"aten._assert_tensor_metadata.default", "aten._assert_scalar.default", "aten._assert_async.msg"}
    | {"aten.sym_constrain_range.default", "aten.sym_constrain_range_for_size.default"}
)
_DROPOUT = frozenset(
    f"aten.{name}{mark}.default" for name in ("dropout", "alpha_dropout", "feature_dropout") for mark in ("", "_")
)
_SAME = frozenset({"aten.lift_fresh_copy.default", "aten.lift.default"})
_DETACH = frozenset({"aten.detach.default", "aten.detach_.default"})
_HARDSIGMOID = frozenset({"aten.hardsigmoid.default", "aten.hardsigmoid_.default"})
_DROPPED_KWARGS = frozenset({"layout", "pin_memory", "memory_format"})


class Lowering:
    """One walk over an exported program.

    After `run`, `nodes`, `outputs` (in the net's order), `names` and `weights` hold the result.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.nodes: list[Node] = []
        self.outputs: list[str] = []
        self.names: dict[str, str] = {}
        self.weights: dict[str, Tensor] = {}
        self._meaning: dict[fx.Node, Any] = {}
        self._memory: dict[fx.Node, fx.Node] = {}
        self._order = {node: index for index, node in enumerate(program.graph.nodes)}
        self._batch: Any = None

    def run(self) -> Lowering:
        """Walk the graph.

        Raises:
            TraceRefused: an operator or argument that a module file cannot hold, with its layer path.
        """
        self._check_signature()
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self.outputs = [self._output(value) for value in node.args[0]]
            else:
                raise refused(node, f"has a node of kind {node.op!r}")
        return self

    def _check_signature(self) -> None:
        for spec in self.program.graph_signature.output_specs:
            if spec.kind is OutputKind.BUFFER_MUTATION:
                raise TraceRefused(f"the net changes its buffer {spec.target} when it runs")

    def _placeholder(self, node: fx.Node) -> None:
        spec = next(spec for spec in self.program.graph_signature.input_specs if spec.arg.name == node.name)
        self._memory[node] = node
        if spec.kind is InputKind.USER_INPUT:
            self._meaning[node] = {"v": INPUT}
            self._batch = expression(node.meta["val"].shape[0])
            return
        found = {**self.program.state_dict, **self.program.constants}.get(str(spec.target))
        if not isinstance(found, Tensor):
            raise TraceRefused(f"the net has an input or constant {spec.target!r} that is no tensor")
        name = self._weight_name(str(spec.target))
        self.weights[name] = _storable(name, found)
        self._meaning[node] = {"w": name}

    def _weight_name(self, target: str) -> str:
        fits = NAME.fullmatch(target) and not target.startswith(EXTRA_PREFIXES) and target not in self.weights
        return target if fits else f"weight.{len(self.weights)}"

    def _call(self, node: fx.Node) -> None:
        text = _text(node)
        if text in _ASSERTIONS:
            return
        self._memory[node] = self._origin(node, text)
        size = node.meta.get("val")
        if isinstance(size, (torch.SymInt, int)):
            self._meaning[node] = self._size(node, size)
        elif text in _DROPOUT:
            self._meaning[node] = self._dropout(node)
        elif text in _SAME or (text in _DETACH and "w" in self._of(node.args[0])):
            self._meaning[node] = self._of(node.args[0])  # Weights carry no gradient.
        elif text in _HARDSIGMOID:
            self._write(node, text, self._hardsigmoid(node))
        else:
            self._write(node, text, self._step(node, text))
        self._name(node)

    def _size(self, node: fx.Node, size: torch.SymInt | int) -> Any:
        found = expression(size)
        if found == self._batch:
            return dict(BATCH)
        return int(found) if found.is_number else self._step(node, _text(node))

    def _dropout(self, node: fx.Node) -> Any:
        if node.args[2] is not False:
            raise refused(node, "drops units although the net is in eval mode")
        return self._of(node.args[0])

    def _hardsigmoid(self, node: fx.Node) -> Any:
        # relu6(x + 3) / 6 is the same function; the operator itself has no second derivative.
        shifted = self._add("aten.add.Scalar", [self._of(node.args[0]), 3], {})
        clipped = self._add("aten.relu6.default", [shifted], {})
        return self._add("aten.div.Scalar", [clipped, 6], {})

    def _step(self, node: fx.Node, text: str) -> Any:
        args = [self._json(node, value) for value in node.args]
        kwargs = {key: self._json(node, value) for key, value in node.kwargs.items() if key not in _DROPPED_KWARGS}
        if text == "aten.clone.default" and node.kwargs.get("memory_format") is torch.contiguous_format:
            text = "aten.contiguous.default"
        if text == "aten.instance_norm.default" and args[5] is False:
            text = "aten.batch_norm.default"  # of the same arguments; this one would write to its statistics
        target = _functional(text) or text
        if target not in operators():
            raise refused(node, "is not on the list of allowed operators")
        if text == "aten.batch_norm.default" and args[5] is not False:
            raise refused(
                node, "is a batch norm that uses the statistics of the batch", hint="track running statistics"
            )
        return self._add(target, args, kwargs)

    def _add(self, op: str, args: list[Any], kwargs: dict[str, Any]) -> dict[str, str]:
        ref = f"v{len(self.nodes)}"
        self.nodes.append(Node(op, ref, tuple(args), kwargs))
        return {"v": ref}

    def _write(self, node: fx.Node, text: str, result: Any) -> None:
        """Give `node` its result; after an in-place operator all who held the old value hold the new one."""
        if _in_place(text):
            self._overwrite(node, node.args[0], result)
        self._meaning[node] = result

    def _overwrite(self, node: fx.Node, target: Any, result: Any) -> None:
        old, memory = self._of(target), self._memory[target]
        if memory.op == "placeholder" and "w" in self._of(memory):
            raise refused(node, f"changes the weight {self._of(memory)['w']} in place")
        for other, origin in self._memory.items():
            if origin is not memory or other is node:
                continue
            if self._meaning.get(other) == old:
                self._meaning[other] = result
            elif any(self._order[user] > self._order[node] for user in other.users):
                raise refused(
                    node, f"changes in place what {_layer(other) or 'the net'} still sees as a view ({other.name})"
                )

    def _origin(self, node: fx.Node, text: str) -> fx.Node:
        """The node whose memory this one may share: itself, or that of what it views."""
        first = node.args[0] if node.args else None
        allowed = operators().get(text)
        shares = text in _DROPOUT or text == "sym.getitem" or _in_place(text) or (allowed and allowed.views)
        return self._memory[first] if shares and isinstance(first, fx.Node) else node

    def _name(self, node: fx.Node) -> None:
        meaning = self._meaning[node]
        if not isinstance(node.meta.get("val"), Tensor) or meaning.get("v", INPUT) == INPUT:
            return
        for path in layers(node):
            if NAME.fullmatch(path):
                self.names[path] = meaning["v"]

    def _output(self, value: Any) -> str:
        meaning = self._of(value) if isinstance(value, fx.Node) else None
        if not isinstance(meaning, dict) or "v" not in meaning or not isinstance(value.meta["val"], Tensor):
            raise TraceRefused(f"an output of the net ({value}) is no tensor that depends on the input")
        return str(meaning["v"])

    def _of(self, value: Any) -> Any:
        return self._meaning[value]

    def _json(self, node: fx.Node, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self._of(value)
        if isinstance(value, (list, tuple)):
            return [self._json(node, item) for item in value]
        if isinstance(value, torch.dtype) and value in DTYPE_NAMES:
            return {"dtype": DTYPE_NAMES[value]}
        if isinstance(value, torch.device):
            return dict(DEVICE)
        if isinstance(value, float) and math.isinf(value):
            return {"f": "inf" if value > 0 else "-inf"}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise refused(node, f"has the argument {str(value)[:80]}, which a module file cannot hold")


def expression(size: torch.SymInt | int) -> Any:
    """A size as a sympy expression of the free sizes."""
    # Here: loading it is a sixth of a process's start, and most processes that load this file never trace.
    import sympy

    return size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)


def layers(node: fx.Node) -> Iterator[str]:
    """The layer paths that a node was made in, outermost first."""
    for path, *_ in (node.meta.get("nn_module_stack") or {}).values():
        if path and not path.startswith("_empty_nn_module_stack"):
            yield path


def refused(node: fx.Node, what: str, *, hint: str | None = None) -> TraceRefused:
    """The error for one node: its layer, its operator, and what is wrong."""
    return TraceRefused(f"layer {_layer(node) or '(the net itself)'}: {_text(node)} {what}", hint=hint)


def _layer(node: fx.Node) -> str:
    return ([*layers(node)] or [""])[-1]


_PYTHON: Mapping[Any, str] = {
    operator.add: "sym.add",
    operator.sub: "sym.sub",
    operator.mul: "sym.mul",
    operator.floordiv: "sym.floordiv",
    operator.mod: "sym.mod",
    operator.getitem: "sym.getitem",
}


def _text(node: fx.Node) -> str:
    return _PYTHON.get(node.target) or texts().get(node.target) or str(node.target)


def _in_place(text: str) -> bool:
    return _functional(text) is not None or text == "aten.hardsigmoid_.default"


def _functional(text: str) -> str | None:
    """The functional twin of an in-place operator: aten.relu_.default -> aten.relu.default."""
    namespace, name, *overload = text.split(".")
    if namespace != "aten" or not name.endswith("_") or not overload:
        return None
    return f"aten.{name[:-1]}.{overload[0]}"


def _storable(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype not in STORED_NAMES or tensor.is_sparse or 0 in tensor.shape:
        raise TraceRefused(
            f"the weight {name} is {tensor.dtype} of shape {list(tensor.shape)}, which a file cannot hold"
        )
    return tensor.detach().contiguous()
