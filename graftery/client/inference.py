"""Verbs of the inference plane: the Open Inference Protocol under /v2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
from numpy.typing import ArrayLike

from graftery.client.answers import json_of
from graftery.client.tensors import Array, arrange, decode, encode, version_of
from graftery.client.verbs import Verbs
from graftery.spec.names import parse_reference

BATCH = 256
"""Rows of a request: what a service takes by default."""
REQUEST_BYTES = 32 * 1024 * 1024
"""Of a request's tensors: half of the body that a service takes by default."""


class InferenceVerbs(Verbs):
    def infer(
        self,
        ref: str,
        x: ArrayLike | Mapping[str, ArrayLike],
        *,
        outputs: Sequence[str] | None = None,
        batch: int = BATCH,
    ) -> Array | dict[str, Array]:
        """What a served network answers.

        Args:
            ref: `name`, `name:3` or `name@alias`.
            x: inputs [N, ...] (NumPy, a CPU tensor, nested lists); a dict by input name where there are several.
            outputs: names of those that are wanted, and that alone are run; by default all. Of a generic network `CATEGORY..TASK`.
            batch: rows of a request; more rows, or rows of more than 32 MiB, go in several, all to the version that answered the first.
        Returns:
            The output [N, ...]; a dict by output name where there are several.
        Raises:
            InferenceRefused: shape, dtype or values are not what the network takes.
            NotFound: no such network or version.
            Unavailable: the network is being loaded, or the service is full.
        """
        arrays = arrange(x, _inputs(self.metadata(ref), outputs or ()))
        rows = min((len(array) for _, array in arrays.values() if array.ndim), default=0)
        batch = min(batch, _rows_of(arrays))
        path, answers = _path(ref), []
        for start in range(0, max(rows, 1), batch):
            piece = {name: (datatype, array[start : start + batch]) for name, (datatype, array) in arrays.items()}
            response = self._infer(path, piece if rows > batch else arrays, outputs)
            answers.append(decode(response))
            if (version := version_of(response)) is not None:
                path = f"/v2/models/{parse_reference(ref).name}/versions/{version}"  # an alias may move meanwhile
        joined = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        return next(iter(joined.values())) if len(joined) == 1 else joined

    def _infer(
        self, path: str, arrays: Mapping[str, tuple[str, Array]], outputs: Sequence[str] | None
    ) -> httpx.Response:
        body, headers = encode(arrays, outputs)
        return self._transport.request("POST", f"{path}/infer", content=body, headers=headers, repeatable=True)

    def metadata(self, ref: str) -> dict[str, Any]:
        """A served network's inputs and outputs: names, datatypes, shapes with -1 for what is free."""
        document: dict[str, Any] = json_of(self._transport.get(_path(ref)))
        return document

    def served(self) -> tuple[dict[str, Any], ...]:
        """The networks that can be asked, with their state."""
        return tuple(json_of(self._transport.request("POST", "/v2/repository/index", json={}, repeatable=True)))


def _rows_of(arrays: Mapping[str, tuple[str, Array]]) -> int:
    """How many rows one request may have for the size of its body."""
    row_bytes = sum(array.nbytes // max(len(array), 1) for _, array in arrays.values() if array.ndim)
    return max(1, REQUEST_BYTES // max(row_bytes, 1))


def _inputs(metadata: Mapping[str, Any], outputs: Sequence[str]) -> list[dict[str, Any]]:
    """The inputs that these outputs need. Where a generic network's categories read different ones, there is an entry for each form."""
    inputs: list[dict[str, Any]] = metadata["inputs"]
    if len({each["name"] for each in inputs}) == len(inputs):
        return inputs
    named = [each for each in metadata["outputs"] if not outputs or each["name"] in outputs]
    asked = {each["parameters"]["category"] for each in named}
    # Where they need several, the service says what does not go together.
    return [each for each in inputs if asked & {*each["parameters"]["categories"]}][:1] or inputs[:1]


def _path(ref: str) -> str:
    reference = parse_reference(ref)
    if reference.number is not None:
        return f"/v2/models/{reference.name}/versions/{reference.number}"
    return f"/v2/models/{quote(str(reference), safe='')}"
