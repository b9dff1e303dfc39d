"""The worlds of the benchmark: data, nets and how they are trained."""

from __future__ import annotations

from benchmarks.transplant.worlds.base import World
from benchmarks.transplant.worlds.camvid import CamVid
from benchmarks.transplant.worlds.cifar10 import Cifar10
from benchmarks.transplant.worlds.digits import Digits

WORLDS: dict[str, type[World]] = {world.name: world for world in (Digits, Cifar10, CamVid)}
