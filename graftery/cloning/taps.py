"""Values inside a net: what lies at its layers, and the net with some of them as outputs.

Shapes: N batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import fx

from graftery.cloning.slicing import plain_linear
from graftery.errors import Misfit, ShapesRefused
from graftery.module import ModuleFile
from graftery.module.build import build
from graftery.module.graph import INPUT, Graph, needed
from graftery.module.probes import PROBE_X
from graftery.module.shapes import survey
from graftery.spec.limits import Limits
from graftery.spec.manifest import TensorSpec


def last_features(file: ModuleFile) -> str:
    """The value that clones read beside their position: what the last linear layer reads, else the logits themselves."""
    node = plain_linear(file)
    return next(iter(file.graph.outputs.values())) if node is None else str(node.args[0]["v"])


def value_spec(file: ModuleFile, ref: str) -> TensorSpec:
    """What a value of the net is.

    Raises:
        Misfit: `position_invalid`; it does not have the batch in front, or is no floating tensor.
    """
    if ref == INPUT:
        return file.manifest.input
    part = Graph(file.graph.input, tuple(needed(file.graph, {"value": ref})), {"value": ref})
    try:
        return survey(part, file.weights, tuple(file.extras[PROBE_X].shape), Limits()).outputs["value"]
    except ShapesRefused as error:
        raise Misfit(f"nothing can be inserted there: {error.message}", code="position_invalid") from error


def tapped(file: ModuleFile, values: Mapping[str, str]) -> fx.GraphModule:
    """The net with these values as its outputs, by name; they are the same bits as in the net itself."""
    graph = replace(file.graph, outputs=dict(values))
    return build(replace(graph, nodes=tuple(needed(graph, values))), file.weights)
