"""Batches are padded to compiled sizes. On CUDA the compiler is inductor; here the graph is captured and run as it is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from graftery.errors import Unavailable
from graftery.module import ModuleFile, trace
from graftery.module.probes import with_probe
from serving.compiled import Bucketed, buckets_up_to, compiled
from serving.parts import Eager
from tests.support import files

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (33, [1, 2, 4, 8, 16, 32, 33])]
)
def test_buckets_are_powers_of_two_and_the_limit(rows: int, expected: list[int]) -> None:
    assert buckets_up_to(rows) == expected


def test_every_batch_is_run_at_a_bucket_and_comes_back_with_its_own_rows() -> None:
    seen: list[int] = []

    def run(x: torch.Tensor) -> Sequence[torch.Tensor]:
        seen.append(len(x))
        return x + 1, 2 * x[:, :1]

    form = Bucketed(run, Eager(nn.Identity()), [1, 2, 4])
    for rows in (1, 2, 3, 4, 9):
        x = torch.arange(2.0 * rows).reshape(rows, 2)
        y, z = form(x)
        assert torch.equal(y, x + 1) and torch.equal(z, 2 * x[:, :1])
    assert seen == [1, 2, 4, 4, 4, 4, 1]


def category() -> ModuleFile:
    file = files.parts()[0]
    return with_probe(file, torch.randn(2, *file.manifest.input.shape[1:]))


def test_a_module_through_the_compiler_gives_its_own_answers() -> None:
    file = category()
    form = compiled(file, CPU, 5, backend="eager")
    assert form.buckets == (1, 2, 4, 5) and form.size_bytes == sum(t.nbytes for t in file.weights.values())
    x = torch.randn(7, *file.manifest.input.shape[1:])
    with torch.inference_mode():
        torch.testing.assert_close(form(x)[0], file.net()(x))
    form.free()
    assert form.size_bytes == 0


def test_free_sizes_are_not_compiled() -> None:
    net = nn.Conv2d(1, 2, 3, padding=1).eval()
    file = trace(net, torch.zeros(2, 1, 8, 8))
    with pytest.raises(Unavailable, match="free sizes"):
        compiled(file, CPU, 4, backend="eager")
