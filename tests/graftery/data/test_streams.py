from __future__ import annotations

import torch

from graftery.data.streams import generator


def test_the_numbers_are_a_function_of_seed_stream_and_step() -> None:
    def drawn(*key: object) -> list[float]:
        return torch.rand(4, generator=generator(*key)).tolist()  # type: ignore[arg-type]

    assert drawn(1, "noise", 2) == drawn(1, "noise", 2)
    keys = [(1, "noise", 2), (2, "noise", 2), (1, "gates", 2), (1, "noise", 3), (12, "noise", 2), (1, "noise", 0)]
    assert len({tuple(drawn(*key)) for key in keys}) == len(keys)


def test_the_numbers_do_not_change_from_release_to_release() -> None:
    assert torch.randint(1000, (3,), generator=generator(7, "noise", 11)).tolist() == [20, 87, 939]
