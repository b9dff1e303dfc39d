"""Writing replies, without any server."""

from __future__ import annotations

import json

import numpy as np

from serving import replies
from serving.replies import Output


def test_replies_hold_json_and_then_bytes_in_order() -> None:
    first, second = np.array([[1.5]], np.float32), np.array([[2]], np.int64)
    outputs = [Output("a", "FP32", first, True), Output("j", "FP32", first, False), Output("b", "INT64", second, True)]
    body, length = replies.encode("m", "3", "id-1", outputs)
    assert length is not None
    document = json.loads(body[:length])
    assert document["model_name"] == "m" and document["model_version"] == "3" and document["id"] == "id-1"
    assert [out.get("parameters") for out in document["outputs"]] == [
        {"binary_data_size": 4},
        None,
        {"binary_data_size": 8},
    ]
    assert document["outputs"][1]["data"] == [1.5]
    assert body[length:] == first.tobytes() + second.tobytes()


def test_a_reply_without_bytes_is_json_alone() -> None:
    body, length = replies.encode("m", "1", None, [Output("a", "FP32", np.array([[0.1]], np.float32), False)])
    assert length is None and "id" not in json.loads(body)
    assert np.float32(json.loads(body)["outputs"][0]["data"][0]) == np.float32(0.1)
