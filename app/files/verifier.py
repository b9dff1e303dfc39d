"""A pool of warm processes that check uploads, so that a stranger's file never meets this process, its memory or torch.

Each child serves `graftery.compat.verifying` (`registry.children`): the actions of `python -m graftery.module.verify --serve`,
those that know what a compatibility group is, and those of `graftery.cloning.verifying`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graftery.spec.limits import Limits
from registry.children import Children

# The lifeline first: the package that `-m` would import on its way loads torch, and a child must not outlive this process.
_PROGRAM = """
from graftery.module.verify import end_with_parent
end_with_parent()
from {room} import main
main({more})
"""
# The library's rooms for methods know nothing of each other: here their actions meet.
_AND_CLONES = "__import__('graftery.cloning.verifying', fromlist=['ACTIONS']).ACTIONS"


def command(room: str, more: str = "") -> tuple[str, ...]:
    """Starts a child that serves what a room of the library has, and `more` actions."""
    return (sys.executable, "-c", _PROGRAM.format(room=room, more=more))


COMMAND = command("graftery.compat.verifying", _AND_CLONES)


@dataclass(frozen=True)
class Checked:
    """What the verifier found in one file, as JSON values of `Manifest` and `Facts`."""

    manifest: dict[str, Any]
    facts: dict[str, Any]


@dataclass(frozen=True)
class CheckedPart(Checked):
    path: Path


@dataclass(frozen=True)
class Split:
    """A teacher net and what its cut makes of it; `tasks` is keyed by the teacher's outputs."""

    teacher: Checked
    category: CheckedPart
    tasks: dict[str, CheckedPart]


class Verifier(Children):
    """Checks files in child processes, as many at once as it has children; the callers wait their turn in threads."""

    def __init__(self, limits: Limits, size: int = 1, command: tuple[str, ...] = COMMAND) -> None:
        super().__init__(limits, size, command, "the check of this file")

    def verify(self, path: Path) -> Checked:
        """Check a module file.

        Raises:
            ModuleFileError: with the code of the check that refused it; `verify_limit` when it took too long or too much.
            Unavailable: no child could be started.
        """
        return _checked(self.ask("verify", str(path)))

    def split(self, path: Path, cut: str, out_dir: Path) -> Split:
        """Check a teacher's file and cut it; the parts are written, checked, to `out_dir`. Raises as `verify` does."""
        found = self.ask("split", str(path), cut=cut, out_dir=str(out_dir))
        tasks = {name: _checked_part(task) for name, task in found["tasks"].items()}
        return Split(_checked(found["teacher"]), _checked_part(found["category"]), tasks)

    def member(self, path: Path, group: Path) -> dict[str, float | None]:
        """Check a category or task module against its group; gives what the group's heads reach on its features.

        Raises:
            ModuleFileError: with the code of `graftery.compat.check_member`; else as `verify`.
        """
        found: dict[str, float | None] = self.ask("member", str(path), files={"group": str(group)})
        return found

    def attachment(self, category: Path, files: Mapping[str, Path]) -> None:
        """Check that clones go into a network.

        Args:
            files: the network's other modules by role, and its clones as `clone.0`, `clone.1`, ...

        Raises:
            ModuleFileError: with the code of `graftery.cloning.attach`; else as `verify`.
        """
        self.ask("attachment", str(category), files={role: str(path) for role, path in files.items()})

    def samples(self, path: Path) -> dict[str, Any]:
        """Check a sample set; gives the JSON value of its `SamplesFacts`. Raises as `verify` does."""
        facts: dict[str, Any] = self.ask("samples", str(path))["facts"]
        return facts


def _checked(found: Mapping[str, Any]) -> Checked:
    return Checked(found["manifest"], found["facts"])


def _checked_part(found: Mapping[str, Any]) -> CheckedPart:
    return CheckedPart(found["manifest"], found["facts"], Path(found["path"]))
