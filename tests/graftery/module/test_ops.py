from __future__ import annotations

import pytest
import torch

from graftery.module.arguments import DTYPES as ALLOWED_DTYPES
from graftery.module.container import ITEM_SIZE
from graftery.module.ops import DTYPES, STORED, texts, torch_operator
from graftery.module.opset import operators


def test_table_is_torch_s_own_schema() -> None:
    """operators.txt is a copy, so that the static check needs no torch: it must not drift."""
    aten = {text: operator.schema for text, operator in operators().items() if operator.namespace == "aten"}
    assert len(aten) > 200
    assert {text: str(torch_operator(text)._schema) for text in aten} == aten  # type: ignore[attr-defined]


def test_symbolic_operators_are_python_s() -> None:
    assert [torch_operator(f"sym.{name}")(7, 2) for name in ("add", "sub", "mul", "floordiv", "mod")] == [
        9,
        5,
        14,
        3,
        1,
    ]
    assert torch_operator("sym.getitem")((1, 2), 1) == 2


def test_no_other_text_is_an_operator() -> None:
    for text in ("aten.from_file.default", "aten.relu_.default", "os.system", "aten.relu", "sym.eval"):
        with pytest.raises(KeyError):
            torch_operator(text)


def test_texts_lead_back() -> None:
    assert all(texts()[torch_operator(text)] == text for text in operators())


def test_dtypes_agree_with_the_torch_free_tables() -> None:
    assert DTYPES.keys() == set(ALLOWED_DTYPES)
    assert set(DTYPES.values()) == set(STORED.values())
    assert {name: torch.empty(0, dtype=dtype).element_size() for name, dtype in STORED.items()} == ITEM_SIZE
