"""A FastAPI handler as one writes it by hand, under uvicorn with its fast parts. Two ways: the net runs in the event loop
(least work a request), or in the thread pool (the loop stays free)."""

from __future__ import annotations

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from benchmarks.serving.peers.common import Array, Job, image, nets_of, rows

job = Job.given()
nets = nets_of(job)
app = FastAPI()


class Question(BaseModel):
    x: list[float]
    model: str


async def run(model: str, x: Array) -> Array:
    if job.mode == "thread pool":
        return await run_in_threadpool(nets[model], x)
    return nets[model](x)


@app.get("/health")
async def health() -> dict[str, bool]:
    return {"ready": True}


@app.post("/predict")
async def predict(question: Question) -> dict[str, list[float]]:
    y = await run(question.model, rows(question.x, job.shape))
    return {"y": y.ravel().tolist()}


@app.post("/raw/{model}")
async def raw(model: str, request: Request) -> Response:
    x = np.frombuffer(await request.body(), np.float32).reshape(-1, *job.shape).copy()
    return Response((await run(model, x)).tobytes(), media_type="application/octet-stream")


@app.post("/image/{model}")
async def picture(model: str, request: Request) -> dict[str, list[float]]:
    y = await run(model, image(await request.body()))
    return {"y": y.ravel().tolist()}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=job.port, access_log=False, log_level="warning", timeout_keep_alive=75)
