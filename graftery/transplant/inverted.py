"""Images of inversions, kept for the next transplant of the same f with the same gT: into another gS, or by other losses or labels.

Source: ours (docs/methods/transplant.md).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import graftery
from graftery.nn.layout import MAPS
from graftery.spec.manifest import json_of
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant.certificate import device_class
from graftery.transplant.given import Given
from graftery.transplant.nets import Nets

_LATER = frozenset(
    ["rounds", "round_images", "round_steps", "round_learning_rate", "rival_steps", "rival_layers", "rivalry_weight"]
)
"""Of an inversion's recipe: what is about the rounds after its first images."""
_FORMAT = 2
"""One more where the same recipe makes other images than before: other noise, other losses, other constants."""
_IMAGES, _DIGEST = "images", "sha256"


class InversionCache:
    """A folder of images by their `inversion_key`, of this machine. Any file, or all of it, may be deleted at any time.

    Several processes may share it. A file that cannot be read or written costs the time to make its images, no more.

    Args:
        folder: made if it is not there.
        most_bytes: that are kept; those that were taken longest ago go first.
        free_bytes: that are left free on the disk: else nothing is kept.
    """

    def __init__(self, folder: str | Path, most_bytes: int = 2**30, free_bytes: int = 2**26) -> None:
        self.folder, self.most_bytes, self.free_bytes = Path(folder), most_bytes, free_bytes
        self.taken = 0
        """How often images were there."""

    def images(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """The images [N, ...] under this key, on the CPU; if there are none, they are made now, and kept."""
        path = self.folder / f"{key}.safetensors"
        found = _read(path)
        if found is not None:
            self.taken += 1
            return found
        made = make().detach().cpu().contiguous()
        if made.nbytes <= self.most_bytes:
            self._keep(path, made)
        return made

    def _keep(self, path: Path, images: Tensor) -> None:
        draft = path.with_suffix(f".{os.getpid()}.draft")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free - images.nbytes < self.free_bytes:
                return
            save_file({_IMAGES: images}, draft, {_DIGEST: _digest(images)})
            draft.replace(path)
            self._sweep(path)
        except (OSError, SafetensorError):
            with suppress(OSError):
                draft.unlink()

    def _sweep(self, latest: Path) -> None:
        """Drafts of processes that died are files like others."""
        there = [(path, path.stat()) for path in self.folder.iterdir() if path != latest]
        over = sum(stat.st_size for _, stat in there) + latest.stat().st_size - self.most_bytes
        for path, stat in sorted(there, key=lambda each: each[1].st_mtime):
            if over <= 0:
                return
            path.unlink(missing_ok=True)
            over -= stat.st_size


def _read(path: Path) -> Tensor | None:
    """What is there and whole: images with a bit turned over would make another adapter."""
    try:
        with safe_open(path, framework="pt") as file:
            images: Tensor = file.get_tensor(_IMAGES)
            whole = (file.metadata() or {}).get(_DIGEST) == _digest(images)
    except (OSError, SafetensorError):
        return None
    with suppress(OSError):
        path.touch()
    return images if whole else None


def _digest(images: Tensor) -> str:
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()


def inversion_key(given: Given, recipe: TransplantRecipe, nets: Nets, example: Tensor) -> str:
    """sha256 of all that an inversion's first images depend on, to the bit. gS, h and samples are none of it, nor are rounds.

    Args:
        given: with a gT.
        recipe: complete.
        nets: f and gT where and as they lie while h is learned.
        example: features of that f.
    """
    category, teacher = given.category, given.teacher_task
    if teacher is None:
        raise ValueError("an inversion asks gT")
    parts = recipe.model_dump(mode="json", include={"seed", "precision", "noise", "augment"})
    dense, preprocessing = given.meaning.semantics == "segmentation", category.manifest.preprocessing
    known = {
        "format": [_FORMAT, graftery.__version__],
        "modules": [category.content_digest, teacher.content_digest],
        "input": given.input_shape(),
        "preprocessing": None if preprocessing is None else json_of(preprocessing),
        "semantics": given.meaning.semantics,
        "sketch": given.sketch_digest() if dense else None,
        "recipe": {**parts, "inversion": recipe.inversion.model_dump(mode="json", exclude=set(_LATER))},
        "lie": [list(weight.stride()) for net in (nets.category, nets.teacher) for weight in _maps(net)],
        "computed_by": json_of(device_class(example.device)),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _maps(net: nn.Module | None) -> Iterator[Tensor]:
    """The weights that may lie one way or another: which one kernels take."""
    if net is not None:
        yield from (weight for weight in net.state_dict().values() if weight.ndim == MAPS)
