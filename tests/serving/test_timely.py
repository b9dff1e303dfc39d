"""A request's time is over however it was spent: waiting for its modules, or in the queue."""

from __future__ import annotations

import asyncio
import time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from graftery.errors import Unavailable
from serving.timely import in_time


def test_what_comes_in_time_is_given() -> None:
    assert asyncio.run(in_time(asyncio.sleep(0, "there"), 5)) == "there"
    assert asyncio.run(in_time(asyncio.sleep(0.01, "there"), None)) == "there"


def test_what_does_not_is_late() -> None:
    with pytest.raises(Unavailable, match=r"its timeout of 0\.01 s") as caught:
        asyncio.run(in_time(asyncio.sleep(60), 0.01))
    assert caught.value.code == "deadline_exceeded"


def test_another_timeout_is_not_ours() -> None:
    async def failing() -> None:
        raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError, match="of a socket"):
        asyncio.run(in_time(failing(), 60))


def test_loading_takes_from_a_requests_time(client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = app.state.serving.pool
    load = pool._load

    def slowly(*arguments: object) -> object:
        time.sleep(0.5)
        return load(*arguments)

    monkeypatch.setattr(pool, "_load", slowly)
    tensor = {"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.1] * 64}
    body = {"inputs": [tensor], "parameters": {"timeout": 100_000}}
    assert client.post("/v2/models/eight-in-even/infer", json=body).status_code == 504
    body["parameters"] = {"timeout": 60_000_000}
    assert client.post("/v2/models/eight-in-even/infer", json=body).status_code == 200
