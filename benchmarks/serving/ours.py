"""Our server as a user has it: a home with published modules and networks, and `python -m app.serve` over it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from benchmarks.serving.contenders import ROOT, Running
from benchmarks.serving.nets import parts
from benchmarks.serving.peers.common import INPUTS, MEAN, STD
from benchmarks.serving.prepare import MODELS, TASKS
from benchmarks.serving.processes import BenchError, Tree, cores, free_port, wait_until
from graftery import Client
from graftery.spec.manifest import OutputMeaning, Preprocessing

FORMS = {"json": "v2-json", "binary": "v2-binary", "jpeg": "v2-jpeg"}
SETTLE_S = 600
PATH = "/v2/models/{model}/infer"
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "GRAFTERY_THREADS": "1",
    "GRAFTERY_DEVICE": "cpu",
    "GRAFTERY_LOG_LEVEL": "warning",
}
Refs = tuple[str, str | None, str]
FAMILY, FAMILY_QUICK = (200, 20), (8, 4)
"""Networks, and the modules that they share: half of them category modules, half task modules."""


@contextmanager
def publishing(home: Path) -> Iterator[Client]:
    """A client of a service with all planes over the home, for as long as the block runs."""
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    tree = _tree(home, port, "registry,inference", core=None)
    try:
        wait_until(tree, f"http://127.0.0.1:{port}/health/ready", "our registry")
        with Client(f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        tree.end()


def serve(home: Path, content: str = "json", models: Sequence[str] = ()) -> Running:
    """Start the inference plane alone over the home, on the server's core, and load the models."""
    port = free_port()
    tree = _tree(home, port, "inference", core=cores()[1])
    try:
        wait_until(tree, f"http://127.0.0.1:{port}/health/ready", "our server")
        for model in models:
            load(port, model)
        settle(port)
    except BaseException:
        tree.end()
        raise
    tree.pin()
    return Running("ours", tree, port, PATH, FORMS[content])


def load(port: int, model: str) -> None:
    """Have a model loaded and ready.

    Raises:
        BenchError: the server refused.
    """
    url = f"http://127.0.0.1:{port}/v2/repository/models/{model}/load"
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "120", "--data", "", "--write-out", "\n%{http_code}", url],
        capture_output=True,
        text=True,
        check=False,
    )
    body, _, status = done.stdout.rpartition("\n")
    if status != "200":
        raise BenchError(f"our server did not load {model}: {status} {body[:300]} {done.stderr[:200]}")


def settle(port: int) -> None:
    """Wait until every module runs in the form that it will keep: the peers, too, are measured warm.

    Raises:
        BenchError: it took too long.
    """
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
            if "\ngraftery_inference_derivations_pending 0.0" in reply.read().decode():
                return
        time.sleep(0.2)
    raise BenchError(f"faster forms were not ready within {SETTLE_S} s")


def _tree(home: Path, port: int, planes: str, core: int | None) -> Tree:
    command = [sys.executable, "-m", "app.serve", "--home", str(home), "--port", str(port)]
    command += ["--workers", "0", "--planes", planes]
    return Tree(command, ENVIRONMENT, core, home, home.parent / f"{home.name}-{planes.replace(',', '-')}.log")


def home_of(scratch: Path, net: str) -> Path:
    return scratch / "homes" / net


def publish(scratch: Path, net: str) -> Path:
    """The networks m0..m7 (a task module in common) and the category `trio` under three tasks, once a net."""
    home = home_of(scratch, net)
    mark = home / "published.json"
    if not mark.exists():
        with publishing(home) as client:
            publisher = Publisher(client, net)
            publisher.task("g0", 0)
            for name, seed in MODELS.items():
                publisher.network(name, (f"f{seed}", f"h{seed}", "g0"), seed)
            if publisher.has_adapter:
                for task in range(TASKS):
                    publisher.task(f"g{100 + task}", 100 + task)
                    publisher.network(
                        f"trio-{task}", ("trio", f"h{100 + task}", f"g{100 + task}"), 100 + task, category=100
                    )
        mark.write_text(json.dumps({"net": net}))
    return home


def pair_of(index: int, half: int) -> tuple[int, int]:
    """Which category and task module a network of the family has: of each pair, one with an adapter and one without."""
    pair = index // 2
    return pair % half, (pair // half + pair) % half


def publish_family(scratch: Path, networks: int, modules: int) -> Path:
    """Networks over shared modules: each pair of a category and a task module with an adapter of its own, and without."""
    home, half = scratch / "homes" / f"family-{networks}", modules // 2
    mark = home / "published.json"
    if not mark.exists():
        with publishing(home) as client:
            publisher = Publisher(client, "adapted")
            for index in range(half):
                publisher.task(f"g{index}", index)
            for index in range(networks):
                f, g = pair_of(index, half)
                adapter = None if index % 2 else f"h{index // 2}"
                publisher.network(f"n{index}", (f"f{f}", adapter, f"g{g}"), index // 2, category=f)
        mark.write_text(json.dumps({"networks": networks}))
    return home


class Publisher:
    """Publishes parts of a net by their seeds, each once."""

    def __init__(self, client: Client, net: str) -> None:
        self.client, self.net = client, net
        self.has_adapter = "h" in parts(net)
        self._there: set[str] = set()
        self._features: dict[str, torch.Size] = {}

    def task(self, name: str, seed: int) -> None:
        meanings = {"y": OutputMeaning(semantics="classification")}
        self._push(name, "task", parts(self.net, {"g": seed})["g"], self._cut(), outputs=meanings)

    def network(self, name: str, refs: Refs, seed: int, category: int | None = None) -> None:
        """Compose a network; its category module and adapter are published where they are not there yet.

        Args:
            refs: names of f, h and g.
            seed: of the adapter, and of the category module unless `category` is.
        """
        f, h, g = refs
        made = parts(self.net, {"f": seed if category is None else category, "h": seed})
        prepared = Preprocessing(mean=MEAN, std=STD)
        self._push(f, "category", made["f"], torch.zeros(2, *INPUTS[self.net]), preprocessing=prepared)
        if h is not None and self.has_adapter:
            self._push(h, "adapter", made["h"], self._cut())
        adapter = h if self.has_adapter else None
        self.client.compose(name, f, g, adapter=adapter)

    def _push(self, name: str, kind: str, net: nn.Module, example: torch.Tensor, **trace: object) -> None:
        if name not in self._there:
            self.client.push(name, net.eval(), example, kind=kind, **trace)
            self._there.add(name)

    def _cut(self) -> torch.Tensor:
        with torch.inference_mode():
            shape = parts(self.net)["f"](torch.zeros(1, *INPUTS[self.net])).shape[1:]
        return torch.zeros(2, *shape)
