"""`python -m migrations`: the one-shot upgrade that a deployment runs before its services."""

from __future__ import annotations

import sys

from graftery.errors import GrafteryError
from registry.db import upgrade
from registry.settings import Settings


def main() -> int:
    """0, or 1 with one line on stderr where the schema cannot be brought up to date."""
    try:
        upgrade(Settings())
    except GrafteryError as error:
        sys.stderr.write(f"python -m migrations: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
