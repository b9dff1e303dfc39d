"""Which weights of a module file may learn."""

from __future__ import annotations

from torch import Tensor

from graftery.module import ModuleFile
from graftery.nn.statistics import BATCH_NORM


def learnable(file: ModuleFile) -> list[str]:
    """Floating weights, by name; what batch norms have seen is no weight, nor is a mask of infinities."""
    nodes = [node for node in file.graph.nodes if node.op == BATCH_NORM]
    running = {argument["w"] for node in nodes for argument in node.args[3:5] if isinstance(argument, dict)}
    return sorted(name for name in file.graph.weights() - running if _is_weight(file.weights[name]))


def _is_weight(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isfinite().all())
