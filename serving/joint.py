"""Running several questions together, each part once for all that want it.

Questions that share parts are run as: each category module on its rows, each adapter on its segment, one call of a task
module on all rows that come to it. A category's question for several tasks runs the category module once.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from graftery.errors import InferenceRefused, Unavailable, first_line, lacks_memory
from serving.asking import Question
from serving.branches import Branch, Model
from serving.pace import worthwhile
from serving.parts import Part
from serving.tensors import Array

T = TypeVar("T")
_Features = tuple[int, str]
"""Of a job, by its index, from a category module, by its digest."""


@dataclass(frozen=True)
class Job:
    """A question to a model, with the model's parts by digest."""

    model: Model
    question: Question
    parts: Mapping[str, Part] = field(repr=False)

    @property
    def branches(self) -> list[Branch]:
        """Those of which an output is wanted."""
        return self.model.answering(self.question.wanted)

    @property
    def shares(self) -> frozenset[str]:
        """Digests of the parts that it would run together with others' rows."""
        return frozenset(part for branch in self.branches for part in (self.model.first(branch), branch.task))

    def apart(self, branch: Branch) -> str | None:
        """What a branch's rows are kept together by: of a generic network, those of different cells are not run in one call of an h or gS.

        A net's numbers differ in their last bits with the size of its batch, and a cell's are to be those of its own network.
        """
        return None if branch.cell is None else branch.cell.first

    def rows_together(self, most: int) -> int:
        """How many rows are worth running together with this job's, its own among them."""
        return worthwhile((part.pace for part in self.parts.values()), most)


@dataclass
class Took:
    """Seconds of a run: to move inputs, to compute, to move outputs back; and of each part by digest."""

    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0
    parts_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))


class FeatureCache:
    """Features by category module and input, the least recently used ones dropped first. One thread uses it.

    Args:
        size_bytes: at most; 0: nothing is kept.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.hits = self.misses = 0
        self._kept: OrderedDict[tuple[str, bytes], Tensor] = OrderedDict()
        self._held = 0

    def key(self, digest: str, x: Array) -> tuple[str, bytes]:
        seen = hashlib.sha256(x.tobytes())
        seen.update(repr((x.shape, x.dtype.str)).encode())
        return digest, seen.digest()

    def get(self, key: tuple[str, bytes]) -> Tensor | None:
        found = self._kept.get(key)
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
            self._kept.move_to_end(key)
        return found

    def put(self, key: tuple[str, bytes], features: Tensor) -> None:
        if features.nbytes > self.size_bytes or key in self._kept:
            return
        self._kept[key] = features.clone()  # not a view that holds the whole batch
        self._held += features.nbytes
        while self._held > self.size_bytes:
            self._held -= self._kept.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        self._kept.clear()
        self._held = 0


def run(
    jobs: Sequence[Job], device: torch.device, cache: FeatureCache | None = None
) -> tuple[list[dict[str, Array]], Took]:
    """Run jobs as one batch.

    Args:
        jobs: whose inputs [n_i, ...] were checked against their models' declarations.
        cache: of features, if they are kept.

    Returns:
        Each job's outputs by name, [n_i, ...]; and what it took.

    Raises:
        InferenceRefused: a net with free sizes cannot run on these.
        Unavailable: the device has too little memory for this.
    """
    took = Took()
    began = time.perf_counter()
    try:
        with torch.inference_mode():
            inputs = [_tensor(job.question.x, job.model.input.datatype).to(device) for job in jobs]
            moved = time.perf_counter()
            results = _branches(jobs, inputs, _features(jobs, inputs, took, cache), took)
            _wait(device)
            computed = time.perf_counter()
            outputs = [_arrays(job, found) for job, found in zip(jobs, results, strict=True)]
    except (RuntimeError, IndexError, ArithmeticError) as error:
        raise _explained(error, jobs) from error
    took.input_s, took.infer_s = moved - began, computed - moved
    took.output_s = time.perf_counter() - computed
    return outputs, took


def _features(
    jobs: Sequence[Job], inputs: Sequence[Tensor], took: Took, cache: FeatureCache | None
) -> dict[_Features, Tensor]:
    """The features that each job needs, by job and category module; each module is called once for every shape of its rows."""
    wanting = list(
        dict.fromkeys(
            (index, job.model.first(branch))
            for index, job in enumerate(jobs)
            for branch in job.branches
            if not branch.whole
        )
    )
    found: dict[_Features, Tensor] = {}
    keys: dict[_Features, tuple[str, bytes]] = {}
    if cache is not None and cache.size_bytes:
        keys = {each: cache.key(each[1], jobs[each[0]].question.x) for each in wanting}
        cached = {each: cache.get(key) for each, key in keys.items()}
        found = {each: features for each, features in cached.items() if features is not None}
    rest = [each for each in wanting if each not in found]
    for group in _grouped(rest, lambda each: (each[1], inputs[each[0]].shape[1:])):
        first, digest = group[0]
        part = jobs[first].parts[digest]
        only = part.outputs[0]
        for each, values in zip(group, _together(part, [inputs[i] for i, _ in group], took), strict=True):
            found[each] = values[only]
            if keys and cache is not None:
                cache.put(keys[each], values[only])
    return found


def _branches(
    jobs: Sequence[Job], inputs: Sequence[Tensor], features: Mapping[_Features, Tensor], took: Took
) -> list[dict[str, Tensor]]:
    """Each job's outputs, under the names that they are served by."""
    ways = [(index, branch) for index, job in enumerate(jobs) for branch in job.branches]
    at_task = [
        inputs[index] if branch.whole else features[index, jobs[index].model.first(branch)] for index, branch in ways
    ]
    apart = [jobs[index].apart(branch) for index, branch in ways]
    adapted = [position for position, (_, branch) in enumerate(ways) if branch.adapter is not None]
    for group in _grouped(adapted, lambda p: (ways[p][1].adapter, at_task[p].shape[1:], apart[p])):
        index, branch = ways[group[0]]
        part = jobs[index].parts[branch.adapter or ""]
        for position, values in zip(group, _together(part, [at_task[p] for p in group], took), strict=True):
            at_task[position] = values[part.outputs[0]]
    outputs: list[dict[str, Tensor]] = [{} for _ in jobs]
    for group in _grouped(range(len(ways)), lambda p: (ways[p][1].task, at_task[p].shape[1:], apart[p])):
        part = jobs[ways[group[0]][0]].parts[ways[group[0]][1].task]
        for position, values in zip(group, _together(part, [at_task[p] for p in group], took), strict=True):
            index, branch = ways[position]
            outputs[index] |= {output.declared.name: values[output.inner] for output in branch.outputs}
    return outputs


def _together(part: Part, pieces: Sequence[Tensor], took: Took) -> list[dict[str, Tensor]]:
    """One call of a part on the rows of all pieces, taken apart again."""
    began = time.perf_counter()
    values = part(torch.cat(list(pieces)) if len(pieces) > 1 else pieces[0])
    took.parts_s[part.digest] += time.perf_counter() - began
    if len(pieces) == 1:
        return [values]
    sizes = [len(piece) for piece in pieces]
    split = {name: torch.split(value, sizes) for name, value in values.items()}
    return [{name: each[index] for name, each in split.items()} for index in range(len(pieces))]


def _grouped(indices: Iterable[T], key: Callable[[T], object]) -> list[list[T]]:
    groups: dict[object, list[T]] = {}
    for index in indices:
        groups.setdefault(key(index), []).append(index)
    return list(groups.values())


def _arrays(job: Job, found: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: _array(found[name]) for name in job.question.wanted}


def _tensor(array: Array, datatype: str) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if datatype == "BF16" else tensor


def _array(tensor: Tensor) -> Array:
    tensor = tensor.cpu().contiguous()
    array: Array = (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _explained(error: Exception, jobs: Sequence[Job]) -> Exception:
    if lacks_memory(error):
        return Unavailable("the device has too little memory for this request", hint="send a smaller batch")
    model, x = jobs[0].model, jobs[0].question.x
    if len(jobs) == 1 and -1 in model.input.shape[1:]:
        return InferenceRefused(
            f"input {model.input.name!r}: the network cannot run on shape {list(x.shape)}: {first_line(error)}"
        )
    return error
