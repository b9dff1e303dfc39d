"""The pace of the training: its rate at each step, and when it has learned what it can.

Without a watch, a cosine to zero over all steps, after a warm-up if there is one. With one, the whole rate until a score no longer rises, then a straight line to
zero: how long a training takes need not be known before.

Source: ours (docs/methods/transplant.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from graftery.spec.recipes import StopRecipe


@dataclass
class Pace:
    """Where a training stands.

    Args:
        steps: at most.
        rate: the whole learning rate.
        warm_up: the share of the steps in which the rate rises to it, where nobody watches.
        stop: when to stop early.
        score: what should rise; None: nobody watches, all steps are done.
        scores: every score so far; all that a resumed training needs to know.
    """

    steps: int
    rate: float
    stop: StopRecipe = field(default_factory=StopRecipe)
    score: Callable[[], float] | None = None
    scores: list[float] = field(default_factory=list)
    warm_up: float = 0.0

    @property
    def watched(self) -> bool:
        return self.score is not None and self.stop.patience > 0 and self.steps > 0

    @property
    def cooling(self) -> int:
        """The step from which the rate falls: known once the scores rise no more, or no steps are left."""
        latest = self.steps - max(1, round(self.steps * self.stop.cooling / (1 + self.stop.cooling)))
        level = plateau(self.scores, self.stop.patience, self.stop.tolerance)
        return latest if level is None else min(latest, (level + 1) * self.stop.every)

    @property
    def end(self) -> int:
        """The number of steps, as far as it is known now."""
        if not self.watched:
            return self.steps
        start = self.cooling
        return min(self.steps, start + max(1, round(start * self.stop.cooling)))

    def at(self, step: int) -> float:
        """The learning rate of a step."""
        if not self.watched:
            return self.rate * self._unwatched(step)
        start, end = self.cooling, self.end
        return self.rate if step < start else self.rate * (end - step) / (end - start + 1)

    def _unwatched(self, step: int) -> float:
        warm = round(self.steps * self.warm_up)
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm)))

    def note(self, done: int) -> None:
        """Score the state after `done` steps, where a score is due."""
        due = self.watched and done % self.stop.every == 0 and done // self.stop.every == len(self.scores) + 1
        if due and self.score is not None and done <= self.cooling:
            self.scores.append(self.score())


def plateau(scores: list[float], patience: int, tolerance: float) -> int | None:
    """Index of the first score at which the best is `patience` scores old, a rise by less than `tolerance` being none."""
    best, since = -math.inf, 0
    for index, score in enumerate(scores):
        best, since = (score, 0) if score > best + tolerance else (best, since + 1)
        if since >= patience:
            return index
    return None
