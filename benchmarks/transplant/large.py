"""What a step of a transplant costs on nets of the usual sizes: `make bench-large` writes docs/results/transplant-large.{json,md}.

VGG-16 and ResNet-50 at 224x224 with 1000 classes, cut half-way, random weights: a step's cost does not depend on them. The
default of 0 labels (distillation and back-distillation) against direct-learn, on the same nets and the same batch, step by
step in turn, so that what else the machine does hits both; on the CPU one thread, whose own seconds count. Each twice: with features that are made once and kept (what a
transplant does), and with f in every step.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftery.data.streams import generator
from graftery.nn.adapters import make_adapter
from graftery.spec.recipes import DEFAULT_OBJECTIVES, AdapterRecipe, TransplantRecipe
from graftery.transplant.bank import Bank
from graftery.transplant.nets import Nets, differentiable_twice
from graftery.transplant.sources import Batch, Batches
from graftery.transplant.training import step_losses

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SIDE, CLASSES = 224, 1000
GOAL = 3.0
"""A step of back-distillation is to cost at most as many steps of direct-learn."""
OBJECTIVES: dict[str, dict[str, float]] = {
    "direct-learn": {"direct": 1.0},
    "back-distillation": {name: weight for name, weight in DEFAULT_OBJECTIVES.items() if name != "direct"},  # type: ignore[misc]
}
FEATURES = ("kept", "made in every step")
MEBIBYTE = 2**20


def _vgg_block(source: int, target: int, count: int) -> list[nn.Module]:
    widths = [source, *[target] * count]
    convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
    return [*(step for layer in convolutions for step in (layer, nn.ReLU())), nn.MaxPool2d(2)]


def vgg16() -> tuple[nn.Module, Callable[[], nn.Module]]:
    """f: [N, 3, 224, 224] to [N, 256, 28, 28], and what makes a g: features to [N, 1000]. Simonyan and Zisserman 2015, D."""
    category = nn.Sequential(*_vgg_block(3, 64, 2), *_vgg_block(64, 128, 2), *_vgg_block(128, 256, 3))

    def task() -> nn.Module:
        blocks = [*_vgg_block(256, 512, 3), *_vgg_block(512, 512, 3), nn.Flatten()]
        head = [nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, CLASSES)]
        return nn.Sequential(*blocks, *head)

    return category, task


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut: [N, C, H, W] to [N, 4 width, H / stride, W / stride]."""

    def __init__(self, source: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_normed(source, width, 1, 1),
            nn.ReLU(),
            *_normed(width, width, 3, stride),
            nn.ReLU(),
            *_normed(width, 4 * width, 1, 1),
        )
        same = source == 4 * width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_normed(source, 4 * width, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.body(x))


def _normed(source: int, target: int, kernel: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(source, target, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(target)]


def _stage(source: int, width: int, count: int, stride: int) -> list[nn.Module]:
    return [
        Bottleneck(source if index == 0 else 4 * width, width, stride if index == 0 else 1) for index in range(count)
    ]


def resnet50() -> tuple[nn.Module, Callable[[], nn.Module]]:
    """f: [N, 3, 224, 224] to [N, 512, 28, 28], and what makes a g: features to [N, 1000]. He et al. 2016."""
    stem = [*_normed(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    category = nn.Sequential(*stem, *_stage(64, 64, 3, 1), *_stage(256, 128, 4, 2))

    def task() -> nn.Module:
        stages = [*_stage(512, 256, 6, 2), *_stage(1024, 512, 3, 2)]
        return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, CLASSES))

    return category, task


NETS = {"VGG-16": vgg16, "ResNet-50": resnet50}


class Stepper:
    """One way to learn, ready to take steps.

    Args:
        nets: f, gS, gT on their device.
        objectives: what is learned by.
        features: one of `FEATURES`.
        batch: rows of a batch.
    """

    def __init__(self, nets: Nets, objectives: str, features: str, batch: int) -> None:
        self.nets, self.device = nets, next(nets.task.parameters()).device
        given = {"objectives": OBJECTIVES[objectives], "batch": batch, "bank": {"rows": 2 * batch}}
        self.recipe = TransplantRecipe.model_validate(given)
        fresh = Batches({"samples": self._draw}, {}, nets.features, batch)
        with differentiable_twice():
            kept = Bank.of(fresh, nets.teacher if objectives != "direct-learn" else None, self.recipe)
        self.source: Callable[[int], Batch] = kept if features == "kept" else fresh
        channels, *size = fresh(0).features.shape[1:]
        recipe = AdapterRecipe(final_relu=True)
        h = make_adapter((channels, *size), (channels, *size), recipe, generator(0, "adapter"))
        self.adapter = h.to(self.device)
        self.adam = torch.optim.Adam(self.adapter.parameters(), lr=1e-4)

    def _draw(self, step: int, count: int) -> tuple[Tensor, Tensor]:
        random = generator(0, "images", step)
        x, y = torch.randn((count, 3, SIDE, SIDE), generator=random), torch.randint(CLASSES, (count,), generator=random)
        return x.to(self.device), y.to(self.device)

    def __call__(self, step: int) -> float:
        """Take a step; the seconds that it took: on the CPU those of this process, whatever else the machine does."""
        clock = time.perf_counter if self.device.type == "cuda" else time.process_time
        self._wait()
        began_s = clock()
        with differentiable_twice():
            batch = self.source(step)
            losses = step_losses(
                self.nets, self.adapter, batch, recipe=self.recipe, semantics="classification", step=step
            )
            loss = torch.stack([self.recipe.objectives[name] * term for name, term in losses.items()]).sum()  # type: ignore[index]
            self.adam.zero_grad(set_to_none=True)
            torch.autograd.backward(loss, inputs=list(self.adapter.parameters()))
            self.adam.step()
        self._wait()
        return clock() - began_s

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def make_nets(name: str, device: torch.device) -> Nets:
    torch.manual_seed(0)
    category, task = NETS[name]()
    return Nets(*(net.to(device).eval() for net in (category, task(), task())))


def times(name: str, device: torch.device, batch: int, rounds: int, budget_s: float) -> dict[str, list[list[float]]]:
    """Seconds of direct-learn's and back-distillation's steps, in turn; rounds end early once they took `budget_s`."""
    nets = make_nets(name, device)
    found: dict[str, list[list[float]]] = {}
    for features in FEATURES:
        ways = [Stepper(nets, objectives, features, batch) for objectives in OBJECTIVES]
        for way in ways:
            way(0)
        began_s, measured = time.monotonic(), []
        while len(measured) < rounds and (len(measured) < 3 or time.monotonic() - began_s < budget_s):
            measured.append([way(1 + len(measured)) for way in ways])
            print(f"{name}, features {features}: {measured[-1][0]:.3g} s, {measured[-1][1]:.3g} s", flush=True)
        found[features] = measured
    return found


def peak(name: str, device: torch.device, batch: int, objectives: str) -> float:
    """MiB that two steps need on top of what is there before the first: to be asked in a process of its own."""
    way = Stepper(make_nets(name, device), objectives, "kept", batch)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        _ = way(1), way(2)
        return (torch.cuda.max_memory_allocated(device) - before) / MEBIBYTE
    # What the building freed goes back first, and its peak is forgotten: the steps would hide in it.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    _ = way(1), way(2)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return (int(status["VmHWM"].split()[0]) * 1024 - before) / MEBIBYTE


def _peak_apart(name: str, device: str, batch: int, objectives: str) -> float:
    asked = [name, objectives, "--device", device, "--batch", str(batch)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.transplant.large", "--peak", *asked],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def table(measured: dict[str, Any]) -> str:
    """Markdown: medians, and the least and the greatest of the rounds."""
    lines = [
        "| net | features | direct-learn, steps/s | back-distillation, steps/s | ratio of their seconds | goal |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in measured.items():
        for features, rounds in found["seconds"].items():
            direct, back = ([1 / each[index] for each in rounds] for index in (0, 1))
            ratios = [each[1] / each[0] for each in rounds]
            met = "met" if statistics.median(ratios) <= GOAL else "missed"
            lines.append(f"| {name} | {features} | {_median(direct)} | {_median(back)} | {_median(ratios)} | {met} |")
    lines += ["", "| net | direct-learn, MiB | back-distillation, MiB | ratio |", "|---|---|---|---|"]
    for name, found in measured.items():
        direct, back = found["peak_mib"].values()
        lines.append(f"| {name} | {direct:.0f} | {back:.0f} | {back / direct:.2f} |")
    return "\n".join(lines)


def document(result: dict[str, Any]) -> str:
    """The results as a page."""
    on = result["machine"]
    seconds = "" if on["accelerator"] else ": seconds are those of the process"
    memory = result.get("memory")
    apart = "" if memory is None else _of_memory(memory)
    where = f"On {on['accelerator']}." if on["accelerator"] else "On the CPU. **Not measured on CUDA.**"
    return f"""# What a step costs on large nets

Written by `{result["command"]}`; every step is in transplant-large.json.

VGG-16 and ResNet-50, {SIDE}x{SIDE}, {CLASSES} classes, cut at 28x28, random weights; batch {result["batch"]}; adapter one 3x3 convolution.
Back-distillation is the default of 0 labels: distillation and the Jacobian term. {where} The two take their steps in turn;
median of the rounds, in brackets the least and the greatest. Features are kept after they were made once, with the
teacher's outputs and gradients, or f and gT run in every step. The goal is a ratio of at most {GOAL:.0f}.
Memory is the peak of two steps, features kept, on top of the nets.{apart}

{table(result["nets"])}

{on["threads"]} thread of a machine with {on["cores"]} cores ({on["processor"]}), which may have had other work{seconds};
Python {on["python"]}, torch {on["torch"]}.
"""


def _of_memory(how: dict[str, Any]) -> str:
    on = how["machine"]
    where = on["accelerator"] or f"the CPU ({on['processor']}, {on['cores']} cores)"
    return (
        f" It was measured later, by `{how['command']}`, batch {how['batch']}, on {where}, Python {on['python']}, torch {on['torch']};"
        " all else here is of the seconds."
    )


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def together(how: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """How the figures were measured: the seconds, and, where these are kept from before, the memory apart.

    Args:
        how: what was just measured: `command`, `batch`, `machine`.
        kept: the results before, whose seconds stay; empty: all was just measured.
    """
    return {**{name: kept[name] for name in how}, "memory": how} if kept else how


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on_cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if on_cuda else "cpu")
    parser.add_argument("--batch", type=int, default=32 if on_cuda else 2)
    parser.add_argument("--rounds", type=int, default=30 if on_cuda else 4)
    parser.add_argument(
        "--budget", type=float, default=40.0, help="seconds for the rounds of a net and kind of features"
    )
    parser.add_argument(
        "--memory", action="store_true", help="measure the memory again, and keep the seconds of the file"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--peak", nargs=2, metavar=("NET", "OBJECTIVES"), help="print the peak memory of one way, in MiB"
    )
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    if given.peak:
        print(peak(given.peak[0], device, given.batch, given.peak[1]))
        return
    kept = json.loads((given.out / "transplant-large.json").read_text()) if given.memory else {}
    measured = {
        name: {
            "seconds": kept["nets"][name]["seconds"]
            if kept
            else times(name, device, given.batch, given.rounds, given.budget),
            "peak_mib": {way: _peak_apart(name, given.device, given.batch, way) for way in OBJECTIVES},
        }
        for name in NETS
    }
    command = " ".join(["make bench-large", *([f"ARGS='{' '.join(sys.argv[1:])}'"] if sys.argv[1:] else [])])
    how = {"command": command, "batch": given.batch, "machine": machine(device)}
    result = {**together(how, kept), "nets": measured}
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "transplant-large.json").write_text(json.dumps(result, indent=1) + "\n")
    (given.out / "transplant-large.md").write_text(document(result))


if __name__ == "__main__":
    main()
