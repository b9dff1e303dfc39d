"""Keys that are kept on this machine: by service, so that one is never sent to another, in a file of the user's alone."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import platformdirs

from graftery.errors import GrafteryError

_PRIVATE = 0o600


def path() -> Path:
    """Where they are kept."""
    return Path(platformdirs.user_config_dir("graftery")) / "keys.json"


def key_for(url: str) -> str | None:
    """The key that is kept for a service; None where there is none.

    Raises:
        GrafteryError: `request_invalid`: others may read the file, or nobody can.
    """
    return _kept().get(url)


def save(url: str, key: str | None) -> Path:
    """Keep a key for a service; None forgets it."""
    kept, target = _kept(), path()
    kept.pop(url, None)
    if key is not None:
        kept[url] = key
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    # Private from its first byte on: not written first and closed to others after.
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "w") as file:
        json.dump(kept, file, indent=1)
    draft.replace(target)
    return target


def _kept() -> dict[str, str]:
    source = path()
    try:
        if stat.S_IMODE(source.stat().st_mode) & 0o077:
            raise _unusable(f"{source} can be read by others", f"chmod 600 {source}; and make new keys")
        found = json.loads(source.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _unusable(f"{source} cannot be read: {error}", "correct it, or remove it") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found.values()):
        raise _unusable(f"{source} is no object of services and keys", "correct it, or remove it")
    return found


def _unusable(message: str, hint: str) -> GrafteryError:
    return GrafteryError(message, code="request_invalid", hint=hint)
