"""How much a request's JSON becomes once it is read: told from the text, before anything is made of it.

An object takes two bytes to write and over sixty to hold, so that a text within its limit could still fill the memory. What
tensors need is far from that: few objects, lists of several numbers, numbers of several digits.
"""

from __future__ import annotations

from graftery.errors import InferenceRefused

MOST = {b"{": (2**13, "objects"), b":": (2**16, "members"), b"[": (2**20, "lists"), b",": (2**23, "values")}
"""By the character that each of them is written with; those inside of strings count too."""
_FEW = 16


def check(text: bytes) -> None:
    """Refuse a text that would become too much.

    Raises:
        InferenceRefused: `request_too_large`.
    """
    for character, (most, what) in MOST.items():
        if _has_more(text, character, most):
            raise InferenceRefused(
                f"the request's JSON has more than {most} {what}",
                code="request_too_large",
                hint="send tensors in binary, or smaller batches",
            )


def _has_more(text: bytes, character: bytes, most: int) -> bool:
    """Whether a text has more of a character: from one to the next where they are few, which is faster than counting."""
    if len(text) <= most:
        return False
    at = -1
    for _ in range(_FEW):
        at = text.find(character, at + 1)
        if at < 0:
            return False
    return text.count(character) > most
