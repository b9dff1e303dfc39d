"""Bars that were set before anything was measured, as a page says whether they are met."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether a bar is met; None: what it is about is not measured."""

    holds: bool | None
    what: str


def bullet(verdict: Verdict) -> str:
    said = {True: "yes", False: "**no**", None: "**not measured in full**"}[verdict.holds]
    return f"- {said}: {verdict.what}"
