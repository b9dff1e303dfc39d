"""An app with the inference plane mounted as the service mounts it."""

from __future__ import annotations

from app.main import App
from registry.settings import Settings
from serving import openinference
from tests.support.world import World


def mounted(world: World, settings: Settings | None = None) -> App:
    """The plane over the world, with its own settings or these."""
    made = App()
    direct = openinference.mount(made, settings or world.settings, world.database, world.store)
    made.infer, made.takes_infer = direct, direct.takes
    return made
