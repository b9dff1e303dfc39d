"""What a text would become is told before anything is made of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from graftery.errors import InferenceRefused
from serving import bounds, protocol


@pytest.mark.parametrize("character", list(bounds.MOST))
def test_the_limit_itself_passes(character: bytes) -> None:
    most, what = bounds.MOST[character]
    bounds.check(character * most + b" ")
    with pytest.raises(InferenceRefused, match=f"the request's JSON has more than {most} {what}") as caught:
        bounds.check(b" " + character * (most + 1))
    assert caught.value.code == "request_too_large"


def test_what_tensors_need_is_far_from_it() -> None:
    """A batch of images as nested lists, every output by name, and parameters beside."""
    x = np.zeros((32, 3, 112, 112), np.float32)
    tensor = {"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.tolist(), "parameters": {}}
    wishes = [{"name": f"y{n}", "parameters": {"binary_data": False}} for n in range(1024)]
    request, _ = protocol.parse(json.dumps({"inputs": [tensor], "outputs": wishes}).encode(), None)
    assert request.outputs is not None and len(request.outputs) == 1024
