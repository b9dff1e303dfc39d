"""Files of `graftery compat`: modules and samples that are read, what a training leaves in its folder, and its checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from graftery.client.commands.following import INTERRUPTED
from graftery.client.commands.options import note
from graftery.client.packing import existing, packed_samples
from graftery.client.progress import training_view
from graftery.errors import Conflict, GrafteryError

if TYPE_CHECKING:
    from graftery.compat import Task, Trained
    from graftery.data import SampleSet
    from graftery.learning.checkpoint import Checkpoint
    from graftery.module import ModuleFile
    from graftery.spec.recipes import CompatRecipe

CHECKPOINT_S = 5.0
"""So much of a training is lost at most where it is stopped."""
GROUP = "group"


def read_module(path: Path) -> ModuleFile:
    """Read and check a module file; an error names it."""
    from graftery.module import ModuleFile

    with _named(path):
        return ModuleFile.load(existing(path))


def read_samples(path: Path) -> SampleSet:
    """Read .safetensors, or .npz with x and, where there are labels, y; an error names the file."""
    from graftery.data import SampleSet

    with _named(path), packed_samples(path) as file:
        return SampleSet.load(file)


def free(paths: Iterable[Path]) -> None:
    """Refuse to write over what is there.

    Raises:
        Conflict: the first path that is taken.
    """
    for path in paths:
        if path.exists():
            raise Conflict(
                f"{path} is there already", hint="nothing is written over: name another place, or move it away"
            )


def learned(
    tasks: Sequence[Task],
    group: ModuleFile,
    recipe: CompatRecipe,
    folder: Path,
    *,
    incremental: bool | None,
    device: str,
) -> Trained:
    """Train, from the checkpoint that is in the folder, or from the beginning.

    Raises:
        Conflict: a file that would be written is there.
        AtChance: after those of the networks that are above chance were written.
        typer.Exit: after Ctrl-C.
    """
    # Read when CUDA starts: without it cuBLAS does not repeat its bits.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    from graftery.compat import AtChance, train
    from graftery.compat.groups import Group

    resume = _checkpoint_in(folder)
    if resume is None:
        members = [path for task in tasks for path in _places(folder, task.name).values()]
        free([*members, *([] if Group(group).trained else [_at(folder, GROUP)])])
    try:
        with training_view() as show:
            return train(
                tasks,
                group,
                recipe,
                incremental=incremental,
                device=device,
                progress=show,
                checkpoint=lambda state: _keep(folder, state),
                checkpoint_s=CHECKPOINT_S,
                resume=resume,
            )
    except KeyboardInterrupt:
        raise _interrupted(folder) from None
    except AtChance as error:
        if error.trained is not None:
            save_members(folder, error.trained, group)
            against = "train what is at chance against its group" if error.trained.group.digest != group.digest else ""
            error.hint = "; ".join(filter(None, (error.hint, f"{folder} has the other networks", against)))
        raise


def save_members(folder: Path, done: Trained, before: ModuleFile) -> tuple[dict[str, dict[str, Path]], Path | None]:
    """Write what came of a training, by the name of the task and of the part; and the group, where its heads were learned.

    The checkpoint goes last: broken before that, the same command writes the same files again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, dict[str, Path]] = {}
    for name, member in done.members.items():
        files = {"net": member.net, "category": member.extractor, "task": member.head}
        places = {part: path for part, path in _places(folder, name).items() if files[part] is not None}
        for part, path in places.items():
            if (file := files[part]) is not None:
                file.save(path)
        written[name] = places
    group = _at(folder, GROUP) if done.group.digest != before.digest else None
    if group is not None:
        done.group.save(group)
    _checkpoint(folder).unlink(missing_ok=True)
    return written, group


def _places(folder: Path, name: str) -> dict[str, Path]:
    return {part: place_of(folder, name, part) for part in ("net", "category", "task")}


def place_of(folder: Path, name: str, part: str) -> Path:
    """Where `compat train` writes a part of a network."""
    return _at(folder, f"{name}-{part}")


def _at(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _checkpoint(folder: Path) -> Path:
    return _at(folder, "checkpoint")


def _checkpoint_in(folder: Path) -> Checkpoint | None:
    from graftery.learning.checkpoint import Checkpoint

    path = _checkpoint(folder)
    if not path.exists():
        return None
    with _named(path):
        found = Checkpoint.load(path)
    note(f"going on from step {found.step}, as {path} has it")
    return found


def _keep(folder: Path, state: Checkpoint) -> None:
    """Whole or not at all: a training may be stopped while this is written."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "checkpoint.part"
    state.save(part)
    part.replace(_checkpoint(folder))


def _interrupted(folder: Path) -> typer.Exit:
    path = _checkpoint(folder)
    kept = f"{path} has what was learned until a few seconds ago: the same command goes on from there"
    note(kept if path.exists() else "stopped before the first checkpoint: the same command begins again")
    return typer.Exit(INTERRUPTED)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except GrafteryError as error:
        if str(path) not in error.message:
            error.message = f"{path}: {error.message}"
        raise
