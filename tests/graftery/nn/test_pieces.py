import pytest
import torch
from torch import Tensor, nn

from graftery.nn.pieces import ROWS, in_pieces, named_in_pieces


class _Watched(nn.Linear):
    """Remembers how many rows it was given each time."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return super().forward(x)


@pytest.mark.parametrize(("rows", "seen"), [(ROWS, [ROWS, ROWS, 2]), (1000, [2 * ROWS + 2])])
def test_no_more_rows_at_once_than_asked_and_the_same_answer(rows: int, seen: list[int]) -> None:
    net, x = _Watched(), torch.randn(2 * ROWS + 2, 3)
    made = in_pieces(net, x, rows)
    assert net.seen == seen
    torch.testing.assert_close(made, nn.functional.linear(x, net.weight, net.bias))
    assert not made.requires_grad


def test_named_outputs_are_each_joined() -> None:
    net, x = _Watched(), torch.randn(5, 3)
    made = named_in_pieces(lambda piece: {"sum": piece.sum(1), "net": net(piece)}, x, 2)
    assert net.seen == [2, 2, 1]
    torch.testing.assert_close(made["sum"], x.sum(1))
    assert made["net"].shape == (5, 2)
    assert not made["net"].requires_grad
