"""Ray Serve: one deployment with one replica, batching by @serve.batch."""

from __future__ import annotations

import signal
import sys
from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

from benchmarks.serving.peers.common import Array, Job, image, nets_of, rows, run_mixed

job = Job.given()


# No server is to write a line a request.
QUIET = {"enable_access_log": False, "log_level": "WARNING"}


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1}, logging_config=QUIET)
class Net:
    def __init__(self) -> None:
        self.nets = nets_of(job)

    @serve.batch(max_batch_size=max(2, job.batch), batch_wait_timeout_s=job.wait_ms / 1e3)
    async def together(self, items: list[tuple[str, Array]]) -> list[Array]:
        return run_mixed(self.nets, [name for name, _ in items], [group for _, group in items])

    async def __call__(self, request: Request) -> Any:
        if request.method == "GET":
            return {"ready": True}
        if job.content == "jpeg":
            item = (next(iter(job.models)), image(await request.body()))
        else:
            document = await request.json()
            item = (document["model"], rows(document["x"], job.shape))
        y: np.ndarray = await self.together(item) if job.batch > 1 else self.nets[item[0]](item[1])
        return {"y": y.ravel().tolist()}


def main() -> None:
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        configure_logging=False,
        object_store_memory=100 * 2**20,
        _node_ip_address="127.0.0.1",
        runtime_env={},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": job.port}, logging_config=QUIET)
    serve.run(Net.bind(), route_prefix="/")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
    sys.exit(0)


if __name__ == "__main__":
    main()
