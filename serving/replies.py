"""The reply to an infer request in the Open Inference Protocol: JSON, and behind it the bytes of outputs that are wanted so. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from serving import tensors
from serving.tensors import Array


@dataclass(frozen=True)
class Output:
    """What goes back: an array, and whether as bytes or as JSON."""

    name: str
    datatype: str
    array: Array
    binary: bool


def encode(model: str, version: str, request_id: str | None, outputs: Sequence[Output]) -> tuple[bytes, int | None]:
    """The reply's body, and the length of its JSON part where bytes follow it."""
    described, pieces = [], []
    for output in outputs:
        entry: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.array.shape)}
        if output.binary:
            pieces.append(tensors.to_binary(output.array, output.datatype))
            entry["parameters"] = {"binary_data_size": len(pieces[-1])}
        else:
            entry["data"] = tensors.to_json(output.array, output.datatype, f"output {output.name!r}")
        described.append(entry)
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request_id is not None:
        document["id"] = request_id
    head = orjson.dumps(document | {"outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *pieces]), len(head)) if pieces else (head, None)
