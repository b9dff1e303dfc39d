"""A registry with a few small networks in it, and the local nets that they have to equal."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy.orm import Session
from torch import nn

from graftery.errors import NotFound
from graftery.module import ModuleFile, cut, trace
from graftery.spec.manifest import FILE_KINDS, NetworkParts, OutputMeaning, Preprocessing, json_of
from graftery.transplant import compose
from registry import catalogue
from registry.db import Database
from registry.models import Version
from registry.settings import Settings
from registry.store import Store
from tests.support import files

NETWORK = "eight-in-even"
PHOTO = "photo"
ANY_SIZE = "any-size"


@cache
def adapter(seed: int) -> ModuleFile:
    """h: [N, 4, 4, 4] -> [N, 6, 4, 4]."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU())
    meanings = {"features": OutputMeaning(semantics="feature")}
    return trace(net, torch.zeros(2, 4, 4, 4), kind="adapter", outputs=meanings)


def images(n: int, seed: int = 0) -> NDArray[np.float32]:
    """Noise [n, 1, 8, 8]."""
    return np.random.default_rng(seed).standard_normal((n, 1, files.SIDE, files.SIDE)).astype(np.float32)


@dataclass
class World:
    """The service's parts, and by reference the files that a network is composed of."""

    settings: Settings
    database: Database
    store: Store
    networks: dict[str, tuple[ModuleFile, ModuleFile | None, ModuleFile]] = field(default_factory=dict)

    def answer(self, ref: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the local composition gives."""
        net = compose(*self.networks[ref])
        with torch.no_grad():
            value: NDArray[np.float32] = net(torch.from_numpy(x)).numpy()
        return value

    def put(self, session: Session, name: str, file: ModuleFile) -> Version:
        kind = file.manifest.kind
        assert kind in FILE_KINDS
        blob = self.store.put_bytes(files.file_bytes(file))
        return catalogue.publish(session, name=name, kind=kind, blob=blob, manifest=json_of(file.manifest))[0]

    def compose(self, name: str, category: ModuleFile, adapter: ModuleFile | None, task: ModuleFile) -> Version:
        """Publish the parts and their network."""
        with self.database.transaction() as session:
            rows: Mapping[str, Version | None] = {
                "category": self.put(session, f"{name}-c" if name != NETWORK else "eight", category),
                "adapter": self.put(session, f"{name}-adapter", adapter) if adapter else None,
                "task": self.put(session, f"{name}-t" if name != NETWORK else "even-is", task),
            }
            parts = NetworkParts.model_validate({role: row.digest for role, row in rows.items() if row is not None})
            blob = self.store.put_bytes(catalogue.compose_document(parts))
            version, _ = catalogue.publish(session, name=name, kind="network", blob=blob, parts=parts)
        self.networks[version.ref] = (category, adapter, task)
        return version


def build(settings: Settings) -> World:
    """Two versions of one network (two adapters), the first of them with the alias `stable`; and the teacher's own."""
    world = World(settings, Database(settings.database), Store(settings))
    category, own_task = files.parts()
    _, task, _ = files.parts(("is", "odd"), 6, 1)
    for seed in (1, 2):
        world.compose(NETWORK, category, adapter(seed), task)
    with world.database.transaction() as session:
        catalogue.set_alias(session, NETWORK, "stable", 1)
        with suppress(NotFound):  # the plain name follows the newest version
            catalogue.delete_alias(session, NETWORK, "default")
    world.compose("eight-teacher", category, None, own_task)
    return world


def compose_photos(world: World) -> None:
    """Networks whose manifests say how an image becomes the input: `photo` takes RGB 16 x 16, `any-size` grey."""
    colour = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    world.compose(PHOTO, files.with_preprocessing(photo_parts()[0], colour), None, photo_parts()[1])
    category, task = files.free_size_parts()
    grey = Preprocessing(mean=(0.5,), std=(0.25,), colour_order="grey")
    world.compose(ANY_SIZE, files.with_preprocessing(category, grey), None, task)


@cache
def photo_parts() -> tuple[ModuleFile, ModuleFile]:
    """[N, 3, 16, 16] -> features [N, 4, 8, 8] -> two logits. Cut from a whole net, as its sizes are not free then."""
    torch.manual_seed(3)
    net = nn.Sequential(
        OrderedDict(f=nn.Conv2d(3, 4, 3, stride=2, padding=1), flat=nn.Flatten(), head=nn.Linear(256, 2))
    )
    meanings = {"is": OutputMeaning(semantics="classification")}
    category, tasks = cut(trace(net, torch.zeros(2, 3, 16, 16), outputs=meanings), "f")
    return category, tasks["is"]
