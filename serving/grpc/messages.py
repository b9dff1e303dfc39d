"""The messages of inference.proto.

They live in a pool of their own: clients (tritonclient, KServe's) register messages of the same names in protobuf's
default pool, and in one process with ours that would be a clash.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

Message = Any
"""protobuf makes its classes at run time: no type checker knows their fields."""

COMPILED = Path(__file__).with_name("inference.binpb")
SERVICE = "inference.GRPCInferenceService"

_pool = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(COMPILED.read_bytes()).file:
    _pool.Add(_file)


def message(name: str) -> Message:
    """The class of a message: `message("ModelInferRequest")`."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"inference.{name}"))


def methods() -> dict[str, Any]:
    """The descriptors of the service's calls by name."""
    return dict(_pool.FindServiceByName(SERVICE).methods_by_name)


def filled(name: str, document: dict[str, Any]) -> Message:
    """A message with the fields of a JSON document of the same form; what the message does not have is left out."""
    return json_format.ParseDict(document, message(name)(), ignore_unknown_fields=True)


# What is made for each inference, without a look-up.
InferResponse = message("ModelInferResponse")
StreamResponse = message("ModelStreamInferResponse")
