"""Names and references: the one place that says what may stand in a name, an alias and a reference."""

from __future__ import annotations

import re
from dataclasses import dataclass

from graftery.errors import GrafteryError

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
ALIAS_PATTERN = r"[A-Za-z][A-Za-z0-9._-]{0,63}"
DIGEST_PATTERN = r"[0-9a-f]{64}"
LATEST = "latest"

EXACT_PATTERN = rf"{NAME_PATTERN}(:[1-9][0-9]{{0,8}}|@sha256:{DIGEST_PATTERN})"
REFERENCE_PATTERN = rf"{NAME_PATTERN}(:[1-9][0-9]{{0,8}}|@sha256:{DIGEST_PATTERN}|@{ALIAS_PATTERN})?"
_REFERENCE = re.compile(
    rf"(?P<name>{NAME_PATTERN})(?::(?P<number>[1-9][0-9]{{0,8}})|@sha256:(?P<digest>{DIGEST_PATTERN})|@(?P<alias>{ALIAS_PATTERN}))?"
)


@dataclass(frozen=True)
class Reference:
    """`name` (the alias `default` if it is set, else the newest version), `name:3`, `name@alias`, `name@sha256:...`."""

    name: str
    number: int | None = None
    alias: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.name}:{self.number}"
        if self.digest is not None:
            return f"{self.name}@sha256:{self.digest}"
        return f"{self.name}@{self.alias}" if self.alias is not None else self.name


def parse_reference(text: str) -> Reference:
    """Read a reference.

    Raises:
        GrafteryError: `name_invalid`, with the forms that are allowed.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise GrafteryError(
            f"{text!r} is not a reference",
            code="name_invalid",
            hint="write name, name:3, name@alias or name@sha256:<64 hex digits>; names are letters, digits, '.', '_', '-'",
        )
    number = match["number"]
    return Reference(match["name"], int(number) if number else None, match["alias"], match["digest"])


def check_name(text: str, *, what: str = "name", pattern: str = NAME_PATTERN) -> str:
    """Give the name back, or refuse it with `name_invalid`."""
    if re.fullmatch(pattern, text) is None:
        raise GrafteryError(
            f"{text!r} is not allowed as {what}",
            code="name_invalid",
            hint="use letters, digits, '.', '_' and '-', and start with a letter or digit",
        )
    return text


def check_alias(text: str) -> str:
    """Give an alias back that can be set, or refuse it with `name_invalid`: `latest` is computed."""
    check_name(text, what="alias", pattern=ALIAS_PATTERN)
    if text == LATEST:
        raise GrafteryError("The alias 'latest' is computed and cannot be set", code="name_invalid")
    return text


def namespace_of(name: str) -> str:
    """What stands before the first dot of a name; empty where there is none."""
    before, dot, _ = name.partition(".")
    return before if dot else ""
