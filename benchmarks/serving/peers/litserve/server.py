"""LitServe: one LitAPI in one worker, its batching switched on by max_batch_size and batch_timeout."""

from __future__ import annotations

import litserve

from benchmarks.serving.peers.common import Array, Job, Run, image_of_text, nets_of, rows, run_mixed

job = Job.given()
Item = tuple[str, Array]


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.nets: dict[str, Run] = nets_of(job)

    # LitServe looks at the annotation of `request`, and reads a JSON body where there is none.
    def decode_request(self, request) -> Item:  # type: ignore[no-untyped-def]
        x = image_of_text(request["image"]) if job.content == "jpeg" else rows(request["x"], job.shape)
        return request["model"], x

    def batch(self, inputs: list[Item]) -> list[Item]:
        return inputs

    def predict(self, x: list[Item] | Item) -> list[Array] | Array:
        items = x if isinstance(x, list) else [x]
        found = run_mixed(self.nets, [name for name, _ in items], [group for _, group in items])
        return found if isinstance(x, list) else found[0]

    def unbatch(self, output: list[Array]) -> list[Array]:
        return output

    def encode_response(self, output: Array) -> dict[str, list[float]]:
        return {"y": output.ravel().tolist()}


if __name__ == "__main__":
    api = Api(max_batch_size=job.batch, batch_timeout=job.wait_ms / 1e3)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=job.mode == "fast queue")
    server.run(
        host="127.0.0.1",
        port=job.port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        timeout_keep_alive=75,
    )
