"""What rules about channels look at: a step's arguments, and the channels of what it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graftery.module.graph import Node
from graftery.module.opset import operators

if TYPE_CHECKING:
    from graftery.cloning.channels import Channels, Flow


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
