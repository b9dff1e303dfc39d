"""Keys as text: `gft_ID_SECRET`. The id finds the row; of the whole text only a hash is kept.

The secret is 32 random bytes: one SHA-256 of it cannot be turned back by guessing, and takes a microsecond.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

PREFIX = "gft_"
_ID_BYTES, _SECRET_BYTES = 6, 32
_TOKEN = re.compile(r"gft_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_LEAKED = re.compile(r"(gft_[0-9a-f]{12})_[A-Za-z0-9_-]{8,}")


def new_id() -> str:
    return secrets.token_hex(_ID_BYTES)


def new_token(key_id: str) -> str:
    return f"{PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def id_of(token: str) -> str | None:
    """The id in a token; None where it is not one of ours."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else None


def hash_of(token: str) -> str:
    """SHA-256 of a token, as hex digits."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def is_same(hash_: str, kept: str | None) -> bool:
    """Whether two hashes are equal, in a time that does not tell how much of them is."""
    return kept is not None and hmac.compare_digest(hash_, kept)


def without_secrets(text: str) -> str:
    """A text in which every token is cut off behind its id: the last door before a log."""
    return _LEAKED.sub(r"\1_***", text) if PREFIX in text else text
