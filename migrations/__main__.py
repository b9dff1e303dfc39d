"""`python -m migrations`: the one-shot upgrade that a deployment runs before its services."""

from __future__ import annotations

from registry.db import upgrade
from registry.settings import Settings

if __name__ == "__main__":
    upgrade(Settings())
