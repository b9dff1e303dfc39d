"""Cut a whole net at a layer: the lower part is the category module, the upper part of each output a task module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from torch import Tensor

from graftery.errors import CutRefused, ShapesRefused
from graftery.module.file import ModuleFile
from graftery.module.graph import INPUT, Graph, Node, needed, renumbered
from graftery.module.probes import PROBE_X, with_probe
from graftery.module.shapes import survey
from graftery.spec.limits import Limits
from graftery.spec.manifest import Manifest, OutputSpec, Parent, TensorSpec

FEATURES = "features"
_NOT_SEPARATING = "cut_not_separating"
_NAMED = 8


def cut(file: ModuleFile, layer: str) -> tuple[ModuleFile, dict[str, ModuleFile]]:
    """Cut a file in two at the output of a layer.

    The parts share the weights' memory with the file, and are the same computation: task(category(x)) is the output.

    Args:
        file: with a probe, as `trace` and `verify` leave it.
        layer: a layer path of the net, as in `file.graph.names`.

    Returns:
        The category module, whose one output is `features`, and a task module for each output.

    Raises:
        CutRefused: `cut_not_found`, with the nearest layers; `cut_not_separating`, with what else the upper part uses.
    """
    at = _value(file.graph, layer)
    lower = _lower(file.graph, at)
    uppers = {name: _upper_nodes(file.graph, name, at, layer, lower) for name in file.graph.outputs}
    probe_x = file.extras.get(PROBE_X)
    if probe_x is None:
        raise CutRefused(
            "the file has no probe, which gives the size at which the parts are checked", code=_NOT_SEPARATING
        )
    features = _features(lower, file.weights, tuple(probe_x.shape), layer)
    category = with_probe(_category(file, lower, features, layer), probe_x)
    middle = category.extras["probe.y"]
    return category, {
        name: with_probe(_task(file, name, _upper(file.graph, name, nodes, at, features), layer), middle)
        for name, nodes in uppers.items()
    }


def separates(graph: Graph, layer: str) -> bool:
    """Whether everything above a layer needs nothing else from below it; without a look at shapes."""
    try:
        at = _value(graph, layer)
        lower = _lower(graph, at)
        for name in graph.outputs:
            _upper_nodes(graph, name, at, layer, lower)
    except CutRefused:
        return False
    return True


def _value(graph: Graph, layer: str) -> str:
    if layer not in graph.names:
        near = get_close_matches(layer, graph.names, n=5, cutoff=0.4) or list(graph.names)[-5:]
        raise CutRefused(f"the net has no layer {layer[:200]!r}", hint=f"near it: {', '.join(near)}", near=near)
    return graph.names[layer]


def _lower(graph: Graph, at: str) -> Graph:
    return _part(graph, graph.input, needed(graph, {FEATURES: at}), {FEATURES: at})


def _upper_nodes(graph: Graph, output: str, at: str, layer: str, lower: Graph) -> list[Node]:
    end = {output: graph.outputs[output]}
    nodes = needed(graph, end, stop=frozenset({at}))
    if not any(at in node.values() for node in nodes):
        raise CutRefused(
            f"the output {output!r} does not use the layer {layer!r}, or is it itself", code=_NOT_SEPARATING
        )
    varying = _varying(graph.nodes)
    used = {node.id for node in needed(graph, {FEATURES: at})} | {INPUT}
    above = [node for node in nodes if node.id not in used or node.id not in varying]
    beside = [(ref, node) for node in above for ref in node.values() if ref in used & varying and ref != at]
    if beside:
        first = dict(reversed(beside))  # each value once, where it is used first
        named = [_called(ref, node, graph) for ref, node in list(first.items())[::-1][:_NAMED]]
        also = ", ".join(dict.fromkeys(named)) + (f" and {len(first) - _NAMED} more" if len(first) > _NAMED else "")
        raise CutRefused(
            f"above the layer {layer!r}, the output {output!r} also uses {also}",
            code=_NOT_SEPARATING,
            hint="cut where everything passes through one layer",
        )
    return nodes


def _varying(nodes: Iterable[Node]) -> set[str]:
    """The values that depend on x, its sizes included."""
    found = {INPUT}
    for node in nodes:
        if not found.isdisjoint(node.values()):
            found.add(node.id)
    return found


def _called(ref: str, user: Node, graph: Graph) -> str:
    paths = [path for path, value in graph.names.items() if value == ref]
    if ref == INPUT:
        what = "the net's input"
    elif paths:
        what = f"the output of the layer {min(paths, key=len)!r}"
    else:
        what = f"{ref}, from {next(node.op for node in graph.nodes if node.id == ref)}"
    return f"the size of {what}" if user.op == "aten.sym_size.int" else what


def _features(lower: Graph, weights: Mapping[str, Tensor], shape: tuple[int, ...], layer: str) -> TensorSpec:
    try:
        return survey(lower, weights, shape, Limits()).outputs[FEATURES]
    except ShapesRefused as error:
        raise CutRefused(
            f"the output of the layer {layer!r} cannot be features: {error.message}", code=_NOT_SEPARATING
        ) from error


def _upper(graph: Graph, output: str, nodes: list[Node], at: str, features: TensorSpec) -> Graph:
    moved = [node.mapped(lambda ref: {"v": INPUT if ref == at else ref}) for node in nodes]
    return _part(graph, features, moved, {output: graph.outputs[output]})


def _part(graph: Graph, input: TensorSpec, nodes: list[Node], outputs: Mapping[str, str]) -> Graph:
    kept = {node.id for node in nodes}
    names = {path: ref for path, ref in graph.names.items() if ref in kept}
    return renumbered(Graph(input, tuple(nodes), outputs, names))


def _category(file: ModuleFile, lower: Graph, features: TensorSpec, layer: str) -> ModuleFile:
    outputs = {FEATURES: OutputSpec(**features.model_dump())}
    manifest = _manifest(file, layer, kind="category", input=file.manifest.input, outputs=outputs)
    sketch = {name: tensor for name, tensor in file.extras.items() if name.startswith("sketch.")}
    return ModuleFile(manifest, lower, _weights(file, lower), sketch)


def _task(file: ModuleFile, output: str, upper: Graph, layer: str) -> ModuleFile:
    outputs = {output: file.manifest.outputs[output]}
    manifest = _manifest(file, layer, kind="task", input=upper.input, outputs=outputs)
    return ModuleFile(manifest, upper, _weights(file, upper))


def _manifest(file: ModuleFile, layer: str, **changed: object) -> Manifest:
    # A part of a network that was trained against a compatibility group was so, too.
    groups = tuple(parent for parent in file.manifest.parents if parent.role == "group")
    parents = (Parent(role="teacher", digest=file.content_digest), *groups)
    return file.manifest.model_copy(update={"cut": layer, "parents": parents, **changed})


def _weights(file: ModuleFile, graph: Graph) -> dict[str, Tensor]:
    return {name: file.weights[name] for name in sorted(graph.weights())}
