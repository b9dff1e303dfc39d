"""Where the time of a run goes: what the files that took longest took, as one worker has each of them whole."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support import scheduling

SHOWN = 12
LEAST_S = 60.0
"""A run of less has no need to be looked at."""


class Times:
    """Sees every report of the run: the workers send theirs to the process that has this plugin."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[scheduling.room(report.nodeid)] += report.duration  # type: ignore[assignment]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for text in self.told():
            terminalreporter.write_line(text)

    def told(self) -> list[str]:
        """Nothing of a short run."""
        whole = self.seconds.total()
        if whole < LEAST_S:
            return []
        head = f"The tests took {whole:.0f} s, all workers together; longest (tests/support/scheduling.py):"
        return [head, *(f"{taken:7.0f} s  {room}" for room, taken in self.seconds.most_common(SHOWN))]
