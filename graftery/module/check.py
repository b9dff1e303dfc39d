"""The static check: from the text in a file's header to a manifest and a graph that keep every rule. Torch-free.

What it does not know is shapes; `graftery.module.shapes` finds those.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from graftery.errors import GraphRefused, ModuleFileError
from graftery.module.arguments import INDEXED, STATISTICS, Scope, bind, check_arguments
from graftery.module.container import NAME, parse_json
from graftery.module.graph import BATCH, FORMAT, INPUT, VERSION, Graph, Node
from graftery.module.opset import Operator, Returns, operators
from graftery.spec.limits import Limits
from graftery.spec.manifest import Manifest, TensorSpec

CLONE_OLD = "clone.old"
"""A clone's tensor [k, D]: what its logits get of the target's last features."""
EXTRA_PREFIXES = ("probe.", "sketch.", "group.", CLONE_OLD)
OUTPUT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
BATCH_NORM = "aten.batch_norm.default"
FLOATS = ("float32", "float64", "float16", "bfloat16")
_ID = re.compile(r"v\d{1,6}")
_KEYS = {"format", "version", "manifest", "inputs", "nodes", "outputs", "names"}


def read_document(text: str, tensors: Collection[str], limits: Limits) -> tuple[Manifest, Graph]:
    """Read the document and check it against the names of the file's tensors.

    Raises:
        ModuleFileError: `document_invalid`, `format_version`, `manifest_invalid`.
        GraphRefused: with the code of the rule that is broken, and the node.
    """
    document = parse_json(text, what="module document", code="document_invalid")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModuleFileError(f"the module document has no format {FORMAT!r}", code="document_invalid")
    if document.get("version") != VERSION or type(document["version"]) is not int:
        raise ModuleFileError(
            f"the file has format version {str(document.get('version'))[:40]}, this reads {VERSION}",
            code="format_version",
        )
    if document.keys() != _KEYS:
        odd = ", ".join(sorted(str(key)[:40] for key in document.keys() ^ _KEYS)[:5])
        raise ModuleFileError(
            f"the module document lacks these keys, or may not have them: {odd}", code="document_invalid"
        )
    manifest = _manifest(document["manifest"])
    graph = _graph(document, limits)
    check_graph(graph, tensors, limits)
    check_agreement(manifest, graph)
    return manifest, graph


def check_graph(graph: Graph, tensors: Collection[str], limits: Limits) -> None:
    """Check a graph against its rules and the names of the tensors that lie beside it.

    Raises:
        GraphRefused: see docs/module-file.md, "Static check".
    """
    _check_input(graph.input)
    weights = frozenset(name for name in tensors if not name.startswith(EXTRA_PREFIXES))
    layers = {ref: path for path, ref in graph.names.items()}
    values: dict[str, Returns] = {INPUT: "tensor"}
    varying = {INPUT}
    scope = Scope(values, weights, limits)
    known = operators()
    for node in graph.nodes:
        try:
            values[node.id] = _check_node(node, known, scope, varying)
        except GraphRefused as error:
            raise _placed(error, node, layers) from None
    _check_ends(graph, values)
    unused = sorted(weights - graph.weights())
    if unused:
        raise GraphRefused(f"no node uses the weight {unused[0]!r}", code="weight_unused")


def check_agreement(manifest: Manifest, graph: Graph) -> None:
    """Refuse a manifest that states another input or other outputs than the graph has."""
    if manifest.input != graph.input:
        raise GraphRefused(
            f"the manifest's input is {shape_text(manifest.input)}, the graph's is {shape_text(graph.input)}",
            code="manifest_invalid",
        )
    if manifest.outputs.keys() != graph.outputs.keys():
        raise GraphRefused(
            f"the manifest's outputs are {sorted(manifest.outputs)}, the graph's are {sorted(graph.outputs)}",
            code="manifest_invalid",
        )


def shape_text(spec: TensorSpec) -> str:
    """`float32 [N, 3, 32, 32]`"""
    return f"{spec.dtype} [{', '.join(map(str, spec.shape))}]"


def _check_node(node: Node, known: Mapping[str, Operator], scope: Scope, varying: set[str]) -> Returns:
    operator = known.get(node.op)
    if operator is None:
        raise GraphRefused("is not on the list of allowed operators", code="operator_refused")
    if _ID.fullmatch(node.id) is None:
        raise GraphRefused(f"has the id {node.id[:40]!r}, ids are v0 to v999999")
    if node.id in scope.values:
        raise GraphRefused("is defined twice", code="value_redefined")
    bound = bind(operator, node)
    check_arguments(operator, bound, scope)
    if node.op == BATCH_NORM:
        _check_statistics(node)
    if node.op in INDEXED:
        _check_constant(bound[INDEXED[node.op]], INDEXED[node.op], varying)
    if _varies(list(bound.values()), varying):
        varying.add(node.id)
    return operator.returns


def _check_statistics(node: Node) -> None:
    """All that trains nets again looks for a batch norm's statistics there."""
    if len(node.args) < 5 or not all(isinstance(each, dict) and "w" in each for each in node.args[3:5]):
        raise GraphRefused(
            f"needs {' and '.join(STATISTICS)} to be weights, given by position", code="arguments_invalid"
        )


def _check_constant(argument: Any, name: str, varying: set[str]) -> None:
    if _varies(argument, varying):
        raise GraphRefused(
            f"argument {name!r} depends on the input, positions have to be constants", code="arguments_invalid"
        )


def _varies(argument: Any, varying: set[str]) -> bool:
    if isinstance(argument, dict):
        return argument == BATCH or argument.get("v") in varying
    return isinstance(argument, list) and any(_varies(item, varying) for item in argument)


def _placed(error: GraphRefused, node: Node, layers: Mapping[str, str]) -> GraphRefused:
    layer = f" ({layers[node.id]})" if node.id in layers else ""
    return GraphRefused(f"node {node.id[:40]}{layer} {node.op[:80]}: {error.message}", code=error.code, hint=error.hint)


def _check_input(spec: TensorSpec) -> None:
    free = [size for size in spec.shape if isinstance(size, str)]
    whole = [size for size in spec.shape if isinstance(size, int)]
    if spec.dtype not in FLOATS or spec.shape[:1] != ("N",) or len(set(free)) != len(free) or 0 in whole:
        raise GraphRefused(
            f"the input is {shape_text(spec)}, it needs a floating dtype, N first and once, H and W at most once, no 0"
        )


def _check_ends(graph: Graph, values: Mapping[str, Returns]) -> None:
    if not graph.outputs:
        raise GraphRefused("the graph has no output")
    for what, ends, pattern in (("output", graph.outputs, OUTPUT_NAME), ("layer", graph.names, NAME)):
        for name, ref in ends.items():
            if pattern.fullmatch(name) is None:
                raise GraphRefused(
                    f"{name[:80]!r} is not allowed as the name of an {what}".replace("an layer", "a layer")
                )
            if values.get(ref) != "tensor":
                raise GraphRefused(
                    f"{what} {name} names {ref[:40]!r}, which is no tensor of this graph", code="value_undefined"
                )


def _manifest(value: Any) -> Manifest:
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModuleFileError(f"manifest.{where[:200]}: {first['msg'][:300]}", code="manifest_invalid") from None


def _graph(document: Mapping[str, Any], limits: Limits) -> Graph:
    nodes, outputs, names = document["nodes"], document["outputs"], document["names"]
    if not isinstance(nodes, list):
        raise GraphRefused("nodes is not a list")
    if len(nodes) > limits.nodes:
        raise GraphRefused(f"the graph has {len(nodes)} nodes, {limits.nodes} are allowed", code="graph_too_large")
    for what, ends in (("outputs", outputs), ("names", names)):
        if not isinstance(ends, dict) or not all(isinstance(ref, str) for ref in ends.values()):
            raise GraphRefused(f"{what} is not an object of ids")
        if len(ends) > limits.nodes:
            raise GraphRefused(f"{what} has {len(ends)} entries, {limits.nodes} are allowed", code="graph_too_large")
    return Graph(_input(document["inputs"]), tuple(map(_node, nodes)), outputs, names)


def _input(value: Any) -> TensorSpec:
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], dict):
        raise GraphRefused("inputs is not a list of one object")
    (only,) = value
    if only.keys() != {"id", "dtype", "shape"} or only["id"] != INPUT:
        raise GraphRefused(f"the input needs id {INPUT!r}, dtype and shape, and nothing else")
    try:
        return TensorSpec(dtype=only["dtype"], shape=only["shape"])
    except ValidationError:
        raise GraphRefused(
            f"the input has dtype {str(only['dtype'])[:40]} and shape {str(only['shape'])[:80]}"
        ) from None


def _node(value: Any) -> Node:
    if not isinstance(value, list) or len(value) not in (3, 4):
        raise GraphRefused(f"a node is [operator, id, arguments] or with named arguments, got {str(value)[:80]}")
    op, ref, args, *rest = value
    kwargs = rest[0] if rest else {}
    if not (isinstance(op, str) and isinstance(ref, str) and isinstance(args, list) and isinstance(kwargs, dict)):
        raise GraphRefused(f"a node is [operator, id, arguments] or with named arguments, got {str(value)[:80]}")
    return Node(op, ref, tuple(args), kwargs)
