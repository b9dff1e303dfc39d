"""The messages are the public protocol's: the same names, numbers and types as in the clients' own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from serving.grpc import messages
from tests.support.compile_proto import compiled


def test_the_compiled_file_is_that_of_the_proto() -> None:
    assert messages.COMPILED.read_bytes() == compiled(), "run python -m tests.support.compile_proto"


def _names() -> list[str]:
    return re.findall(r"^message (\w+)", messages.COMPILED.with_suffix(".proto").read_text(), re.MULTILINE)


def _fields(descriptor: Any, prefix: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    for field in descriptor.fields:
        other = field.message_type or field.enum_type
        kind = (field.number, field.type, field.is_repeated, other.full_name if other is not None else None)
        yield prefix + field.name, kind
    for nested in descriptor.nested_types:
        yield from _fields(nested, f"{prefix}{nested.name}.")


@pytest.mark.parametrize("name", _names())
def test_fields_are_those_of_tritons_client(name: str) -> None:
    theirs = getattr(service_pb2, name, None) or getattr(model_config_pb2, name)
    expected = dict(_fields(theirs.DESCRIPTOR))
    found = dict(_fields(messages.message(name).DESCRIPTOR))
    assert found == {field: expected[field] for field in found}


def test_calls_are_those_of_tritons_client() -> None:
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    for name, method in messages.methods().items():
        assert method.input_type.full_name == theirs[name].input_type.full_name
        assert method.output_type.full_name == theirs[name].output_type.full_name
        assert method.server_streaming == theirs[name].server_streaming


def test_datatypes_are_those_of_tritons_client() -> None:
    ours = messages.message("ModelInput").DESCRIPTOR.fields_by_name["data_type"].enum_type
    assert {v.name: v.number for v in ours.values} == dict(model_config_pb2.DataType.items())


def test_what_a_message_does_not_have_is_left_out() -> None:
    found = messages.filled("ServerMetadataResponse", {"name": "graftery", "parameters": {"a": 1}})
    assert found.name == "graftery"
