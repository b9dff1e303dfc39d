"""The baseline that forgets: each new category's f and the shared gS learn on from that category's labels alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.generic.nets import Kept, Nets
from benchmarks.generic.protocol import DEPTH, FIRST, LABELS, TASK
from benchmarks.transplant.worlds.cifar10 import AUGMENT, CLASSES, PREPROCESSING, Net, normalised
from benchmarks.transplant.worlds.learning import Schedule, fit
from graftery.data.augment import augment
from graftery.data.samples import choose
from graftery.data.streams import generator
from graftery.module import ModuleFile, cut, trace
from graftery.spec.manifest import OutputMeaning

OUTPUTS = {TASK: OutputMeaning(semantics="classification")}


def fine_tuned(nets: Nets, row: str, count: int, schedule: Schedule) -> Kept:
    """f of the category that came last, and gS as it is after so many."""
    name = f"{row.replace(', ', '-').replace(' ', '-')}-{'+'.join(nets.order[:count])}-{nets.seed}"
    (f, _), shared = nets.teacher(nets.order[count - 1]), _before(nets, row, count, schedule)

    def make() -> tuple[Mapping[str, ModuleFile], dict[str, object]]:
        category = nets.order[count - 1]
        net = _net(f, shared)
        torch.manual_seed(nets.seed)
        seconds = _learn(net, nets, category, LABELS[row], schedule)
        example = torch.zeros(2, 3, 32, 32)
        whole = trace(net, example, outputs=OUTPUTS, preprocessing=PREPROCESSING)
        return {"net": whole}, {"seconds": seconds}

    return nets.store(name, make, f.content_digest, shared.content_digest, asdict(schedule))


def parts(nets: Nets, row: str, count: int, schedule: Schedule) -> tuple[ModuleFile, ModuleFile]:
    """f of the category that came last, and gS."""
    if count <= FIRST:
        first, shared, _ = nets.together(nets.order[:FIRST])
        return first[nets.order[count - 1]], shared
    f, tasks = cut(fine_tuned(nets, row, count, schedule).files["net"], nets.world.cuts[DEPTH])
    return f, tasks[TASK]


def _before(nets: Nets, row: str, count: int, schedule: Schedule) -> ModuleFile:
    return parts(nets, row, count - 1, schedule)[1]


def _net(category: ModuleFile, shared: ModuleFile) -> Net:
    """A net that can learn, with the weights of these files."""
    net = Net([TASK])
    missing, unexpected = net.load_state_dict({**category.weights, **shared.weights}, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    return net


def _learn(net: Net, nets: Nets, category: str, labels: int | None, schedule: Schedule) -> float:
    draw = _images(nets, category, labels)

    def loss(step: int) -> Tensor:
        random = generator(nets.seed, f"benchmark.sequential.{category}", step)
        x, positive = draw(schedule.batch, random)
        logits = net(augment(x, AUGMENT, random))[TASK]
        return F.binary_cross_entropy_with_logits(logits[:, 0], positive.float())

    began_s = time.perf_counter()
    fit([net], loss, schedule)
    return time.perf_counter() - began_s


def _images(nets: Nets, category: str, labels: int | None):  # type: ignore[no-untyped-def]
    """(count, generator) to images and whether they show the category, half of them."""
    if labels is None:
        x, classes = nets.world.images_of("train")
        positive, images = classes == CLASSES.index(category), normalised
    else:
        few = choose(nets.world.samples(category, "train", TASK), labels, nets.seed, by_class=True)
        assert few.y is not None
        x, positive, images = few.x, few.y.bool(), nn.Identity()
    sides = [(positive == side).nonzero()[:, 0] for side in (True, False)]

    def draw(count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.cat([side[torch.randint(len(side), (count // 2,), generator=random)] for side in sides])
        return images(x[rows]), positive[rows]

    return draw
