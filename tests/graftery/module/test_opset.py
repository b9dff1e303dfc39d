from __future__ import annotations

import subprocess
import sys

import pytest

from graftery.module.opset import operators, parse_schema


def test_schema_is_read_whole() -> None:
    conv = operators()["aten.conv2d.default"]
    assert [argument.name for argument in conv.arguments] == [
        "input", "weight", "bias", "stride", "padding", "dilation", "groups",
    ]  # fmt: skip
    _, weight, bias, stride, *_ = conv.arguments
    assert weight.required
    assert not weight.optional
    assert bias.optional
    assert not bias.required
    assert stride.is_list
    assert stride.sized


def test_keyword_only_arguments_are_not_positional() -> None:
    mean = operators()["aten.mean.dim"]
    assert [argument.name for argument in mean.positional] == ["self", "dim", "keepdim"]


@pytest.mark.parametrize(
    ("text", "returns"),
    [
        ("aten.relu.default", "tensor"),
        ("aten.chunk.default", "tensors"),
        ("aten.max.dim", "tensors"),
        ("sym.add", "int"),
    ],
)
def test_what_an_operator_returns(text: str, returns: str) -> None:
    assert operators()[text].returns == returns


def test_views_are_known() -> None:
    assert {
        name for name in ("aten.view.default", "aten.split.Tensor", "aten.relu.default") if operators()[name].views
    } == {
        "aten.view.default",
        "aten.split.Tensor",
    }


def test_no_operator_is_random_in_place_or_reads_files() -> None:
    for operator in operators().values():
        assert not operator.name.endswith("_")
        assert "rand" not in operator.name
        assert "Generator" not in operator.schema
        assert "Storage" not in operator.schema
        assert not {"from_file", "as_strided", "empty", "dropout", "bernoulli"} & {operator.name}


def test_lines_are_sorted_and_unique() -> None:
    texts = [operator.schema for operator in operators().values() if operator.namespace == "aten"]
    assert texts == sorted(set(texts))


@pytest.mark.parametrize("line", ["", "aten::relu", "os::system(str a) -> int", "aten::relu(!) -> Tensor"])
def test_what_is_no_schema_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_schema(line)


def test_the_static_check_does_not_load_torch() -> None:
    code = "import sys, graftery.module.check, graftery.module.meaning; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
