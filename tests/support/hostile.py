"""Files that a stranger could send, each with the code that has to refuse it.

`HOSTILE[name]` is (write, code): `write(path)` writes the file.
"""

from __future__ import annotations

import pickle
import struct

from tests.support.hostile_parts import (
    INPUT,
    MIB,
    STATISTICS,
    WEIGHT,
    Write,
    document,
    floats,
    gated,
    good,
    grown,
    header_of,
    many_tensors,
    million_empty,
    mixing,
    module,
    node,
    of_entry,
    of_header,
    of_nodes,
    of_offsets,
    of_text,
    onnx,
    packed,
    sparse,
    tensor,
    tensors,
    writes,
    zipped,
)

HEADER: dict[str, tuple[Write, str]] = {
    "empty": (writes(bytes), "file_truncated"),
    "five_bytes": (writes(lambda: b"hello"), "file_truncated"),
    "length_2_62": (writes(lambda: (2**62).to_bytes(8, "little") + b"{}"), "header_too_large"),
    "header_longer_than_file": (writes(lambda: (1000).to_bytes(8, "little") + b"{}"), "file_truncated"),
    "header_4_mib_and_1": (writes(lambda: packed(b"{" + b" " * (4 * MIB - 1) + b"}", b"")), "header_too_large"),
    "file_over_4_gib": (sparse(64, 4 * 1024 * MIB + 1), "file_too_large"),
    "not_utf8": of_header(lambda: b'{"\xff":1}', "header_invalid"),
    "not_an_object": of_header(lambda: b"[1,2,3]", "header_invalid"),
    "no_json": of_header(lambda: b"{'a': 1}", "header_invalid"),
    "deep_header": of_header(lambda: b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "header_invalid"),
    "nan_in_header": of_header(lambda: b'{"a":NaN}', "header_invalid"),
    "infinity_in_header": of_header(lambda: b'{"a":-Infinity}', "header_invalid"),
    "long_number_in_header": of_header(lambda: b'{"a":' + b"9" * 100_000 + b"}", "header_invalid"),
    "duplicate_keys": of_header(lambda: b'{"__metadata__":{},"__metadata__":{}}', "header_duplicate_key"),
    "duplicate_tensors": of_header(
        lambda: (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        ),
        "header_duplicate_key",
        bytes(4),
    ),
    "duplicate_after_300000": of_header(
        lambda: b"{" + b",".join(b'"%x":0' % i for i in range(300_000)) + b',"0":0}', "header_duplicate_key"
    ),
    "half_a_character": of_header(lambda: b'{"\\ud800":1}', "header_invalid"),
    "metadata_of_numbers": of_header(lambda: b'{"__metadata__":{"graftery":1}}', "header_invalid"),
    "million_empty_tensors": (writes(lambda: packed(million_empty(), b"")), "header_too_large"),
    "many_tensors": (writes(many_tensors), "tensor_count"),
    "overlapping_offsets": of_offsets([0, 16], [8, 24], 24),
    "same_offsets": of_offsets([0, 16], [0, 16], 16),
    "holed_offsets": of_offsets([0, 16], [20, 36], 36),
    "hole_at_the_start": of_offsets([4, 20], [20, 36], 36),
    "reversed_offsets": of_offsets([16, 0], [16, 32]),
    "offsets_out_of_range": of_offsets([0, 16], [2**40 - 16, 2**40]),
    "negative_offsets": of_offsets([-16, 0], [0, 16], 16),
    "bytes_after_the_tensors": (writes(lambda: good() + b"PK\x03\x04"), "file_truncated"),
    "truncated_in_transit": (writes(lambda: good()[:-5]), "file_truncated"),
    "truncated_in_the_header": (writes(lambda: good()[:100]), "file_truncated"),
    "shape_product_overflow": of_entry("tensor_invalid", shape=[2**32, 2**32]),
    "shape_0_2_60": of_entry("tensor_invalid", shape=[0, 2**60], data=0),
    "shape_empty": of_entry("tensor_invalid", shape=[0], data=0),
    "shape_negative": of_entry("tensor_invalid", shape=[-1, -4]),
    "shape_of_booleans": of_entry("tensor_invalid", shape=[True, 4]),
    "shape_of_rank_7": of_entry("tensor_invalid", shape=[1, 1, 1, 1, 1, 1, 4]),
    "dtype_unknown": of_entry("tensor_invalid", dtype="F8_E4M3"),
    "dtype_a_list": of_entry("tensor_invalid", dtype=["F32"]),
    "entry_with_more_keys": of_entry("tensor_invalid", more="import os"),
    "name_a_path": of_entry("tensor_invalid", name="../../etc/passwd"),
    "name_too_long": of_entry("tensor_invalid", name="a" * 201),
    "name_empty": of_entry("tensor_invalid", name=""),
    "pickle": (writes(lambda: pickle.dumps({"weights": [1.0] * 10}, protocol=2)), "module_file_invalid"),
    "zip": (writes(lambda: zipped("archive/data.pkl", "archive/data/0")), "module_file_invalid"),
    "pt2": (writes(lambda: zipped("archive_format", "models/model.json")), "module_file_invalid"),
    "torchscript": (writes(lambda: zipped("net/constants.pkl", "net/code/__torch__.py")), "module_file_invalid"),
    "onnx": (writes(onnx), "module_file_invalid"),
    "plain_safetensors": (writes(lambda: packed(header_of(tensors(), None), bytes(104))), "module_file_invalid"),
}

DOCUMENT: dict[str, tuple[Write, str]] = {
    "document_no_json": of_text(lambda text: text[:-1], "document_invalid"),
    "document_a_list": of_text(lambda text: f"[{text}]", "document_invalid"),
    "document_deep": of_text(lambda text: "[" * 100_000 + "]" * 100_000, "document_invalid"),
    "document_with_nan": of_text(lambda text: text.replace('"N"', "NaN", 1), "document_invalid"),
    "document_with_infinity": of_text(lambda text: text.replace('"N"', "Infinity", 1), "document_invalid"),
    "document_duplicate_key": of_text(
        lambda text: text.replace("{", '{"format":"graftery",', 1), "header_duplicate_key"
    ),
    "document_with_half_a_character": of_nodes(node("\ud800", INPUT), code="document_invalid"),
    "document_of_another_format": (writes(lambda: module(document(format="onnx"))), "document_invalid"),
    "document_with_more_keys": (writes(lambda: module(document(code="import os"))), "document_invalid"),
    "version_2": (writes(lambda: module(document(version=2))), "format_version"),
    "version_true": (writes(lambda: module(document(version=True))), "format_version"),
    "manifest_empty": (writes(lambda: module(document(manifest={}))), "manifest_invalid"),
    "manifest_with_1e999": of_text(
        lambda text: text.replace('"manifest": {', '"manifest": {"preprocessing":{"mean":[1e999],"std":[1]},', 1),
        "manifest_invalid",
    ),
    "manifest_of_another_shape": (
        writes(lambda: module(document(inputs=[{"id": "x0", "dtype": "float32", "shape": ["N", 5]}]))),
        "manifest_invalid",
    ),
    "output_of_another_name": of_nodes(
        node("aten.linear.default", INPUT, WEIGHT),
        code="manifest_invalid",
        held={"weight": tensor(3, 4)},
        outputs={"logits": "v0"},
    ),
    "input_of_integers": (
        writes(lambda: module(document(inputs=[{"id": "x0", "dtype": "int64", "shape": ["N", 4]}]))),
        "graph_invalid",
    ),
    "two_inputs": (writes(lambda: module(document(inputs=document()["inputs"] * 2))), "graph_invalid"),
    "no_outputs": (writes(lambda: module(document(outputs={}))), "graph_invalid"),
    "output_undefined": (writes(lambda: module(document(outputs={"features": "v9"}))), "value_undefined"),
    "output_name_with_code": (
        writes(lambda: module(document(outputs={"a'+__import__('os').system('id')+'": "v0"}))),
        "graph_invalid",
    ),
    "layer_name_with_code": (writes(lambda: module(document(names={"a\nimport os": "v0"}))), "graph_invalid"),
    "layer_undefined": (writes(lambda: module(document(names={"fc": "v7"}))), "value_undefined"),
    "nodes_an_object": (writes(lambda: module(document(nodes={}))), "graph_invalid"),  # type: ignore[arg-type]
    "node_of_two": (writes(lambda: module(document([["aten.relu.default", "v0"]]))), "graph_invalid"),
    "nodes_20001": (
        writes(lambda: module(document([["aten.relu.default", f"v{i}", [INPUT]] for i in range(20_001)]))),
        "graph_too_large",
    ),
    "list_of_65": of_nodes(node("aten.cat.default", [INPUT] * 65, 1), code="graph_too_large"),
}

OPERATORS: dict[str, tuple[Write, str]] = {
    f"operator_{name}": of_nodes(node(name, INPUT), code="operator_refused")
    for name in (
        "aten.from_file.default",
        "aten.as_strided.default",
        "aten.set_.source_Storage",
        "aten.index_put.default",
        "aten.index_put_.default",
        "aten.resize_.default",
        "aten.relu_.default",
        "aten.empty.memory_format",
        "aten.rand.default",
        "aten.nonzero.default",
        "aten.item.default",
        "prims.add.default",
        "torch.os.system",
        "os.system",
        "builtins.eval",
        "aten.relu",
        "aten.relu.default.__class__",
        "aten.__class__.default",
        "sym.__import__",
        "",
    )
}

GRAPH: dict[str, tuple[Write, str]] = {
    "id_with_code": of_nodes(["aten.relu.default", "v0;import os", [INPUT]], code="graph_invalid"),
    "id_x0": of_nodes(["aten.relu.default", "x0", [INPUT]], code="graph_invalid"),
    "use_before_definition": of_nodes(
        ["aten.relu.default", "v0", [{"v": "v1"}]], ["aten.relu.default", "v1", [INPUT]], code="value_undefined"
    ),
    "cycle": of_nodes(
        ["aten.add.Tensor", "v0", [INPUT, {"v": "v1"}]],
        ["aten.relu.default", "v1", [{"v": "v0"}]],
        code="value_undefined",
    ),
    "uses_itself": of_nodes(node("aten.relu.default", {"v": "v0"}), code="value_undefined"),
    "redefined_id": of_nodes(
        node("aten.relu.default", INPUT), node("aten.relu.default", INPUT), code="value_redefined"
    ),
    "arity_too_many": of_nodes(node("aten.relu.default", INPUT, INPUT), code="arguments_invalid"),
    "arity_too_few": of_nodes(node("aten.linear.default", INPUT), code="arguments_invalid"),
    "argument_unknown": of_nodes(node("aten.relu.default", INPUT, out=INPUT), code="arguments_invalid"),
    "argument_twice": of_nodes(node("aten.relu.default", INPUT, self=INPUT), code="arguments_invalid"),
    "argument_no_tensor": of_nodes(node("aten.relu.default", "x0"), code="arguments_invalid"),
    "argument_object_of_two": of_nodes(node("aten.relu.default", {"v": "x0", "w": "weight"}), code="arguments_invalid"),
    "argument_unhashable": of_nodes(node("aten.relu.default", {"v": ["x0"]}), code="arguments_invalid"),
    "argument_nested": of_nodes(node("aten.cat.default", [[INPUT]], 1), code="arguments_invalid"),
    "argument_2_to_41": of_nodes(node("aten.flatten.using_ints", INPUT, 2**41), code="arguments_invalid"),
    "argument_1e999": of_text(
        lambda text: text.replace('"aten.linear.default"', '"aten.add.Scalar"').replace('{"w": "weight"}', "1e999"),
        "arguments_invalid",
    ),
    "argument_nan": of_nodes(node("aten.add.Scalar", INPUT, {"f": "nan"}), code="arguments_invalid"),
    "argument_long_string": of_nodes(node("aten.einsum.default", "a" * 10_000, [INPUT]), code="arguments_invalid"),
    "argument_memory_format": of_nodes(
        node("aten.contiguous.default", INPUT, memory_format=1), code="arguments_invalid"
    ),
    "argument_pin_memory": of_nodes(node("aten.zeros.default", [3], pin_memory=True), code="arguments_invalid"),
    "argument_device": of_nodes(node("aten.zeros.default", [3], device="cuda:0"), code="arguments_invalid"),
    "list_as_tensor": of_nodes(
        node("aten.unbind.int", INPUT, 1), ["aten.relu.default", "v1", [{"v": "v0"}]], code="arguments_invalid"
    ),
    "positions_from_the_input": of_nodes(
        node("aten.to.dtype", INPUT, {"dtype": "int64"}),
        ["aten.index.Tensor", "v1", [INPUT, [{"v": "v0"}]]],
        code="arguments_invalid",
    ),
    "positions_from_the_batch_size": of_nodes(
        node("aten.arange.default", {"N": 1}),
        ["aten.index.Tensor", "v1", [INPUT, [{"v": "v0"}]]],
        code="arguments_invalid",
    ),
    "weight_missing": of_nodes(node("aten.linear.default", INPUT, {"w": "other"}), code="weight_missing"),
    "weight_unused": of_nodes(
        node("aten.relu.default", INPUT), code="weight_unused", held={"payload": tensor(4), "weight": None}
    ),
    "weight_is_the_probe": of_nodes(node("aten.add.Tensor", INPUT, {"w": "probe.x"}), code="weight_missing"),
    "batch_norm_training": of_nodes(
        node("aten.batch_norm.default", INPUT, None, None, {"w": "mean"}, {"w": "var"}, True, 0.1, 1e-5, False),
        code="batch_norm_training",
        held={"weight": None, **STATISTICS},
    ),
    "batch_norm_training_1": of_nodes(
        node("aten.batch_norm.default", INPUT, None, None, {"w": "mean"}, {"w": "var"}, 1, 0.1, 1e-5, False),
        code="arguments_invalid",
        held={"weight": None, **STATISTICS},
    ),
    "instance_norm_updating": of_nodes(
        node("aten.instance_norm.default", INPUT, None, None, {"w": "mean"}, {"w": "var"}, True, 0.1, 1e-5, False),
        code="batch_norm_training",
        held={"weight": None, **STATISTICS},
    ),
    "instance_norm_updating_its_variance": of_nodes(
        node("aten.instance_norm.default", INPUT, None, None, None, {"w": "var"}, True, 1.0, 1e-5, False),
        code="batch_norm_training",
        held={"weight": None, "var": STATISTICS["var"]},
    ),
    "instance_norm_of_statistics": of_nodes(
        node("aten.instance_norm.default", INPUT, None, None, {"w": "mean"}, {"w": "var"}, False, 0.1, 1e-5, False),
        code="batch_norm_training",
        held={"weight": None, **STATISTICS},
    ),
    "batch_norm_of_named_statistics": of_nodes(
        node(
            "aten.batch_norm.default",
            INPUT,
            None,
            None,
            running_mean={"w": "mean"},
            running_var={"w": "var"},
            training=False,
            momentum=0.1,
            eps=1e-5,
            cudnn_enabled=False,
        ),
        code="arguments_invalid",
        held={"weight": None, **STATISTICS},
    ),
    "batch_norm_of_computed_statistics": of_nodes(
        node("aten.abs.default", {"w": "var"}),
        ["aten.batch_norm.default", "v1", [INPUT, None, None, {"w": "mean"}, {"v": "v0"}, False, 0.1, 1e-5, False]],
        code="arguments_invalid",
        held={"weight": None, **STATISTICS},
    ),
    "attention_dropout": of_nodes(
        node("aten.scaled_dot_product_attention.default", INPUT, INPUT, INPUT, None, 0.5), code="arguments_invalid"
    ),
}

SHAPES: dict[str, tuple[Write, str]] = {
    "positions_from_a_floating_number": of_nodes(
        node("aten.to.dtype", {"w": "weight"}, {"dtype": "int64"}),
        ["aten.clamp.default", "v1", [{"v": "v0"}, 0]],
        ["aten.index_select.default", "v2", [INPUT, 1, {"v": "v1"}]],
        code="shapes_invalid",
        held={"weight": tensor(4, value=-1e30), "probe.y": tensor(2, 4)},
        shape_out=["N", 4],
    ),
    "weight_of_another_dtype": of_nodes(
        node("aten.linear.default", INPUT, WEIGHT),
        code="shapes_invalid",
        held={"weight": ("F16", [3, 4], floats(3, 4, kind="e"))},
    ),
    "weight_of_another_shape": of_nodes(
        node("aten.linear.default", INPUT, WEIGHT), code="shapes_invalid", held={"weight": tensor(3, 5)}
    ),
    "output_of_another_shape": of_nodes(node("aten.relu.default", INPUT), code="shapes_invalid"),
    "output_without_the_batch": of_nodes(
        node("aten.sum.dim_IntList", INPUT, [0]), code="shapes_invalid", shape_out=["N"]
    ),
    "output_for_one_batch_size": of_nodes(node("aten.view.default", INPUT, [2, 4]), code="shapes_invalid"),
    "output_of_integers": of_nodes(node("aten.to.dtype", INPUT, {"dtype": "int64"}), code="shapes_invalid"),
    "probe_of_another_shape": of_nodes(
        node("aten.linear.default", INPUT, WEIGHT), code="shapes_invalid", held={"probe.x": tensor(2, 5)}
    ),
    "probe_of_another_dtype": of_nodes(
        node("aten.linear.default", INPUT, WEIGHT), code="shapes_invalid", held={"probe.x": ("F64", [2, 4], bytes(64))}
    ),
    "dynamic_mask": of_nodes(
        node("aten.gt.Scalar", WEIGHT, 0),
        ["aten.index.Tensor", "v1", [WEIGHT, [{"v": "v0"}]]],
        code="shapes_invalid",
        held={},
    ),
    "division_that_ends_the_process": of_nodes(
        node("aten.to.dtype", INPUT, {"dtype": "int64"}),
        ["aten.div.Tensor_mode", "v1", [{"v": "v0"}, -1], {"rounding_mode": "trunc"}],
        ["aten.add.Tensor", "v2", [INPUT, {"v": "v1"}]],
        code="shapes_invalid",
        held={"weight": None, "probe.y": tensor(2, 4)},
        shape_out=["N", 4],
    ),
    "positions_in_a_free_height": of_nodes(
        node("aten.index_select.default", INPUT, 2, {"w": "at"}),
        ["aten.sum.dim_IntList", "v1", [{"v": "v0"}, [2]]],
        code="shapes_invalid",
        shape_in=["N", 1, "H", "W"],
        shape_out=["N", 1, "H"],
        held={
            "weight": None,
            "at": ("I64", [1], struct.pack("<q", 6)),
            "probe.x": tensor(2, 1, 8, 8),
            "probe.y": tensor(2, 1, 8),
        },
    ),
    "padding_of_a_million": of_nodes(
        node("aten.conv2d.default", INPUT, WEIGHT, None, [1, 1], [500_000, 500_000]),
        code="work_too_large",
        shape_in=["N", 4, 8, 8],
        held={"weight": tensor(3, 4, 1, 1), "probe.x": tensor(2, 4, 8, 8)},
    ),
    "split_into_320000": of_nodes(
        node("aten.zeros.default", [320_000]),
        ["aten.split.Tensor", "v1", [{"v": "v0"}, 1]],
        ["sym.getitem", "v2", [{"v": "v1"}, 0]],
        ["aten.add.Tensor", "v3", [INPUT, {"v": "v2"}]],
        code="work_too_large",
    ),
    "unbind_320000": of_nodes(
        node("aten.zeros.default", [320_000]),
        ["aten.unbind.int", "v1", [{"v": "v0"}]],
        ["sym.getitem", "v2", [{"v": "v1"}, 0]],
        ["aten.add.Tensor", "v3", [INPUT, {"v": "v2"}]],
        code="work_too_large",
    ),
    "zeros_2_40": of_nodes(
        node("aten.zeros.default", [2**40]), ["aten.add.Tensor", "v1", [INPUT, {"v": "v0"}]], code="work_too_large"
    ),
    "expand_2_40": of_nodes(
        node("aten.expand.default", WEIGHT, [2**38, 3, 4]),
        ["aten.sum.default", "v1", [{"v": "v0"}]],
        ["aten.add.Tensor", "v2", [INPUT, {"v": "v1"}]],
        code="work_too_large",
        held={},
    ),
    "repeat_2_40": of_nodes(node("aten.repeat.default", INPUT, [1, 2**38]), code="work_too_large"),
    "many_large_values": of_nodes(
        *[["aten.zeros.default", f"v{i}", [[2**27]]] for i in range(20)],
        ["aten.relu.default", "v20", [INPUT]],
        code="work_too_large",
    ),
    "flops_of_a_year": of_nodes(
        *[["aten.zeros.default", f"v{i}", [[2**14, 2**14]]] for i in range(2)],
        ["aten.mm.default", "v2", [{"v": "v0"}, {"v": "v1"}]],
        ["aten.mm.default", "v3", [{"v": "v2"}, {"v": "v1"}]],
        code="work_too_large",
    ),
    "square_of_the_batch": of_nodes(
        node("aten.zeros.default", [{"N": 1}, {"N": 1}, {"N": 1}]),
        ["aten.sum.default", "v1", [{"v": "v0"}]],
        ["aten.add.Tensor", "v2", [INPUT, {"v": "v1"}]],
        code="work_too_large",
        held={"weight": None, "probe.y": tensor(2, 4)},
        shape_out=["N", 4],
    ),
    **{
        f"growth_hidden_by_{name}": grown(*nodes)
        for name, nodes in {
            "a_larger_constant": [
                node("aten.zeros.default", [2**21]),
                ["aten.zeros.default", "v1", [[{"N": 1}] * 6]],
            ],
            "a_quotient": [
                node("sym.floordiv", {"N": 1}, 18),
                ["sym.add", "v1", [{"v": "v0"}, 1]],
                ["aten.zeros.default", "v2", [[{"v": "v1"}] * 6]],
            ],
            "a_polynomial": [
                node("sym.sub", {"N": 1}, 1),
                ["sym.sub", "v1", [{"N": 1}, 2]],
                ["sym.mul", "v2", [{"v": "v0"}, {"v": "v1"}]],
                ["aten.zeros.default", "v3", [[1]]],
            ],
            "a_remainder": [
                node("sym.mod", 510, {"N": 1}),
                ["sym.add", "v1", [{"v": "v0"}, 1]],
                ["aten.zeros.default", "v2", [[{"v": "v1"}] * 6]],
            ],
            "a_product_of_many": [
                node("aten.ones.default", [{"N": 1}]),
                ["aten.einsum.default", "v1", ["a,b,c,d,e,f,a,b,c,d,e,f->", [{"v": "v0"}] * 12]],
            ],
            "attention": [
                node("aten.ones.default", [1, {"N": 1}, 4]),
                ["aten.scaled_dot_product_attention.default", "v1", [{"v": "v0"}] * 3],
                ["aten.slice.Tensor", "v2", [{"v": "v1"}, 1, 0, 1]],
            ],
            "a_size_that_shrinks": [
                node("sym.sub", 20, {"N": 1}),
                ["aten.zeros.default", "v1", [[{"v": "v0"}]]],
            ],
            "a_slice": [
                node("aten.zeros.default", [{"N": 1}]),
                ["aten.slice.Tensor", "v1", [{"v": "v0"}, 0, 0, 18]],
            ],
            "a_step": [
                node("aten.zeros.default", [{"N": 1}]),
                ["aten.slice.Tensor", "v1", [{"v": "v0"}, 0, 0, 2**40, 18]],
            ],
            "a_piece": [
                node("aten.zeros.default", [{"N": 1}]),
                ["aten.split.Tensor", "v1", [{"v": "v0"}, 18]],
                ["sym.getitem", "v2", [{"v": "v1"}, 0]],
            ],
            "a_range": [node("aten.arange.start_step", 0, {"N": 1}, 18)],
            "a_diagonal": [
                node("aten.zeros.default", [18, {"N": 1}]),
                ["aten.diagonal.default", "v1", [{"v": "v0"}]],
            ],
            "a_window": [
                node("aten.zeros.default", [1, 1, {"N": 1}]),
                ["aten.avg_pool1d.default", "v1", [{"v": "v0"}, [1], [18]]],
            ],
            "padding": [
                node("aten.zeros.default", [1, 1, 1]),
                ["aten.ones.default", "v1", [[1, 1, 1]]],
                ["aten.conv1d.default", "v2", [{"v": "v0"}, {"v": "v1"}, None, [36], [{"N": 1}]]],
            ],
        }.items()
    },
    "empty_until_a_batch_is_large": (
        grown(node("aten.zeros.default", [{"N": 1}]), ["aten.slice.Tensor", "v1", [{"v": "v0"}, 0, 18]])[0],
        "shapes_invalid",
    ),
    "overflow_of_sizes": of_nodes(
        node("aten.zeros.default", [2**40, 2**40, 2**40]),
        ["aten.add.Tensor", "v1", [INPUT, {"v": "v0"}]],
        code="shapes_invalid",
    ),
}

VALUES: dict[str, tuple[Write, str]] = {
    "nan_in_the_weights": (
        writes(lambda: module(None, tensors(weight=tensor(3, 4, value=float("nan"))))),
        "weights_invalid",
    ),
    "inf_in_the_weights": (
        writes(lambda: module(None, tensors(weight=tensor(3, 4, value=float("inf"))))),
        "weights_invalid",
    ),
    "nan_in_the_probe": (
        writes(lambda: module(None, tensors(**{"probe.y": tensor(2, 3, value=float("nan"))}))),
        "weights_invalid",
    ),
    "booleans_over_1": of_nodes(
        node("aten.masked_fill.Scalar", INPUT, {"w": "mask"}, 0),
        code="weights_invalid",
        held={"weight": None, "mask": ("BOOL", [4], b"\x00\x01\x02\x03"), "probe.y": tensor(2, 4)},
        shape_out=["N", 4],
    ),
    "probe_missing": (writes(lambda: module(None, tensors(**{"probe.x": None}))), "probe_mismatch"),
    "probe_of_no_output": (writes(lambda: module(None, tensors(**{"probe.z": tensor(1)}))), "weight_unused"),
    "probe_wrong": (writes(lambda: module(None, tensors(**{"probe.y": tensor(2, 3, value=1.0)}))), "probe_mismatch"),
    "positions_out_of_range": of_nodes(
        ["aten.index_select.default", "v0", [INPUT, 1, {"w": "at"}]],
        code="probe_mismatch",
        held={"weight": None, "at": ("I64", [3], struct.pack("<3q", 0, 1, 10**6))},
    ),
    "batch_mixing_by_mean": mixing(
        node("aten.mean.dim", INPUT, [0], True), ["aten.sub.Tensor", "v1", [INPUT, {"v": "v0"}]]
    ),
    "batch_mixing_too_faint_for_the_outputs": mixing(
        node("aten.mean.dim", INPUT, [0], True), ["aten.add.Tensor", "v1", [INPUT, {"v": "v0"}], {"alpha": 1e-9}]
    ),
    "batch_mixing_by_largest": mixing(
        node("aten.amax.default", INPUT, [0], True),
        ["aten.detach.default", "v1", [{"v": "v0"}]],
        ["aten.sub.Tensor", "v2", [INPUT, {"v": "v1"}]],
    ),
    "batch_mixing_by_rolling": mixing(node("aten.roll.default", INPUT, [1], [0])),
    "batch_mixing_by_rolling_by_two": mixing(node("aten.roll.default", INPUT, [2], [0])),
    "batch_mixing_by_rolling_far": mixing(node("aten.roll.default", INPUT, [60], [0])),
    "batch_mixing_by_rolling_all": mixing(node("aten.roll.default", INPUT, [4], [])),
    "batch_mixing_by_summing_up": mixing(node("aten.cumsum.default", INPUT, 0)),
    "batch_mixing_by_reversing": mixing(node("aten.flip.default", INPUT, [0])),
    "batch_mixing_that_rare_inputs_open": mixing(
        node("aten.gt.Scalar", INPUT, 1000.0),
        ["aten.to.dtype", "v1", [{"v": "v0"}, {"dtype": "float32"}]],
        ["aten.sum.dim_IntList", "v2", [INPUT, [0], True]],
        ["aten.mul.Tensor", "v3", [{"v": "v1"}, {"v": "v2"}]],
        ["aten.add.Tensor", "v4", [INPUT, {"v": "v3"}]],
    ),
    "batch_mixing_beside_large_numbers": mixing(
        node("aten.mean.dim", INPUT, [0], True),
        ["aten.detach.default", "v1", [{"v": "v0"}]],
        ["aten.mul.Scalar", "v2", [{"v": "v1"}, 1e-12]],
        ["aten.add.Tensor", "v3", [INPUT, {"v": "v2"}]],
    ),
    "batch_mixing_by_padding_far": mixing(
        node("aten.constant_pad_nd.default", INPUT, [0, 0, 0, 60]),
        ["aten.constant_pad_nd.default", "v1", [{"v": "v0"}, [0, 0, -60, 0]]],
        ["aten.add.Tensor", "v2", [INPUT, {"v": "v1"}]],
    ),
    "batch_mixing_by_a_triangle": mixing(
        node("aten.t.default", INPUT),
        ["aten.triu.default", "v1", [{"v": "v0"}, 60]],
        ["aten.t.default", "v2", [{"v": "v1"}]],
        ["aten.add.Tensor", "v3", [INPUT, {"v": "v2"}]],
    ),
    "batch_mixing_by_a_place_in_the_batch": mixing(
        node("aten.arange.default", {"N": 1}),
        ["aten.gt.Scalar", "v1", [{"v": "v0"}, 10]],
        ["aten.unsqueeze.default", "v2", [{"v": "v1"}, 1]],
        ["aten.masked_fill.Scalar", "v3", [INPUT, {"v": "v2"}, 0]],
    ),
    "batch_mixing_in_as_many_parts_as_are_tried": gated(
        node("aten.reshape.default", INPUT, [3, -1]),
        ["aten.mean.dim", "v1", [{"v": "v0"}, [1], True]],
        ["aten.expand_as.default", "v2", [{"v": "v1"}, {"v": "v0"}]],
        ["aten.reshape_as.default", "v3", [{"v": "v2"}, INPUT]],
    ),
    "batch_mixing_by_an_argument_that_is_named": gated(
        ["aten.view.default", "v0", [INPUT, [-1, 6, 1]]],
        ["aten.flatten.using_ints", "v1", [{"v": "v0"}], {"end_dim": -1}],
        ["aten.sum.dim_IntList", "v2", [{"v": "v1"}, [-1], True]],
    ),
    "batch_mixing_by_arguments_in_another_order": gated(
        ["aten.sum.dim_IntList", "v0", [INPUT, [1]]],
        ["aten.full.default", "v1", [[1, {"N": 1}], -1.0]],
        ["aten.prelu.default", "v2", [], {"weight": {"v": "v0"}, "self": {"v": "v1"}}],
        ["aten.unsqueeze.default", "v3", [{"v": "v2"}, -1]],
        ["aten.sum.dim_IntList", "v4", [{"v": "v3"}, [1], True]],
        ["aten.reshape.default", "v5", [{"v": "v4"}, [-1, 1]]],
    ),
    "batch_mixing_by_shuffling_channels": gated(
        ["aten.reshape.default", "v0", [INPUT, [1, -1, 1]]],
        ["aten.channel_shuffle.default", "v1", [{"v": "v0"}, 3]],
        ["aten.reshape.default", "v2", [{"v": "v1"}, [6, -1]]],
        ["aten.t.default", "v3", [{"v": "v2"}]],
    ),
    "batch_mixing_in_a_piece_of_a_value": gated(
        ["aten.view.default", "v0", [INPUT, [-1, 3]]],
        ["aten.t.default", "v1", [{"v": "v0"}]],
        ["aten.reshape.default", "v2", [{"v": "v1"}, [-1, 6]]],
        ["aten.chunk.default", "v3", [{"v": "v2"}, 1, 1]],
        ["sym.getitem", "v4", [{"v": "v3"}, 0]],
    ),
    "batch_mixing_by_a_constant_for_each_place": gated(
        ["aten.expand.default", "v0", [{"w": "place"}, [6, {"N": 1}]]],
        ["aten.reshape.default", "v1", [{"v": "v0"}, [{"N": 1}, 6]]],
        place=("F32", [6, 1], struct.pack("<6f", 0, 1, 2, 3, 4, 5)),
    ),
    "batch_mixing_by_shuffling_until_it_looks_sorted": mixing(
        *[
            each
            for at in range(0, 120, 2)
            for each in (
                ["aten.reshape.default", f"v{at}", [{"v": f"v{at - 1}"} if at else INPUT, [2, -1]]],
                ["aten.t.default", f"v{at + 1}", [{"v": f"v{at}"}]],
            )
        ],
        ["aten.reshape.default", "v120", [{"v": "v119"}, [-1, 4]]],
    ),
    "gradient_infinite": of_nodes(
        node("aten.sqrt.default", INPUT),
        code="gradient_invalid",
        held={"weight": None, "probe.y": tensor(2, 4)},
        shape_out=["N", 4],
    ),
    "gradient_missing": of_nodes(
        node("aten.detach.default", INPUT),
        code="gradient_invalid",
        held={"weight": None, "probe.y": tensor(2, 4)},
        shape_out=["N", 4],
    ),
}

HOSTILE: dict[str, tuple[Write, str]] = {**HEADER, **DOCUMENT, **OPERATORS, **GRAPH, **SHAPES, **VALUES}
