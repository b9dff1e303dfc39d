"""What the files of this room look at in a graph: a step's arguments, the channels of what it reads, the last layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graftery.module.file import ModuleFile
from graftery.module.graph import Node
from graftery.module.opset import operators

if TYPE_CHECKING:
    from graftery.cloning.channels import Channels, Flow

LINEAR = "aten.linear.default"


def arguments(node: Node) -> dict[str, Any]:
    """A node's arguments by the names of its operator's schema; what was left out is not there."""
    names = [argument.name for argument in operators()[node.op].positional]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def pinned(channels: Channels, node: Node) -> Flow | None:
    """What no rule knows: all channels that come in stay."""
    for value in node.values():
        channels.pin(channels.flows.get(value))
    return None


def flow_of(channels: Channels, argument: Any) -> Flow | None:
    return channels.flows.get(argument["v"]) if isinstance(argument, dict) and "v" in argument else None


def shape_of(channels: Channels, argument: Any) -> tuple[int, ...]:
    return channels.shapes[argument["v"]]


def weight_of(argument: Any) -> str | None:
    return argument["w"] if isinstance(argument, dict) and "w" in argument else None


def first(node: Node) -> Any:
    return node.args[0]


def moved(flow: Flow, dim: int) -> Flow:
    return type(flow)(dim, flow.atoms)


def plain_linear(file: ModuleFile) -> Node | None:
    """The linear layer that gives the logits, if one does whose weights nobody else uses, on features [N, D]."""
    ((_, end),) = file.graph.outputs.items()
    node = next((node for node in file.graph.nodes if node.id == end), None)
    if (
        node is None
        or node.op != LINEAR
        or node.kwargs
        or not all(_is_weight(each) for each in node.args[1:] if each is not None)
    ):
        return None
    own = set(node.weights())
    others = [other for other in file.graph.nodes if other is not node]
    used = any(own & set(other.weights()) or end in set(other.values()) for other in others)
    return None if used or "v" not in node.args[0] else node


def _is_weight(argument: Any) -> bool:
    return isinstance(argument, dict) and "w" in argument
