"""A server that reads a request and answers without looking at it: what uvicorn and the sockets cost, with nothing behind them.

`python -m benchmarks.serving.floor PORT`
"""

from __future__ import annotations

import sys

import uvicorn
from starlette.types import Receive, Scope, Send

ANSWER = (
    b'{"model_name":"m0","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1,1],"data":[0.125]}]}'
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off")
