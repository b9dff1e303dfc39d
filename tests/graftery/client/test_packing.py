from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from graftery.client.packing import SketchOf, packed, packed_samples, read_images
from graftery.client.transfer import sha256_of
from graftery.errors import GrafteryError, SamplesRefused, TraceRefused


def test_a_path_is_sent_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with packed(tmp_path / "a", None) as path:
        assert path == tmp_path / "a"
    with pytest.raises(GrafteryError, match="there is no file"), packed(str(tmp_path / "b"), None):
        pass


def test_samples_take_the_dtypes_of_sample_sets() -> None:
    x = np.arange(12.0).reshape(3, 4)[:, ::2]
    with packed_samples(x, [True, False, True]) as path:
        arrays = load_file(path)
        np.testing.assert_array_equal(arrays["x"], x.astype(np.float32))
        assert (arrays["x"].dtype, arrays["y"].dtype) == (np.float32, np.int64)
    assert not path.exists()
    with packed_samples(x, np.array([0.5, 1.5, 2.5])) as path:
        assert load_file(path)["y"].dtype == np.float32


def test_the_same_samples_are_the_same_bytes() -> None:
    x, y = np.ones((2, 3)), np.array([0, 1])
    with packed_samples(x, y) as one, packed_samples(x.tolist(), y.tolist()) as two:
        assert sha256_of(one) == sha256_of(two)


def test_samples_from_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3)), y=np.zeros(2, np.int64))
    with packed_samples(tmp_path / "a.npz") as path:
        assert set(load_file(path)) == {"x", "y"}
    np.savez(tmp_path / "b.npz", x=np.ones((2, 3)))
    with packed_samples(tmp_path / "b.npz") as path:
        assert set(load_file(path)) == {"x"}
    save_file({"x": np.ones((2, 3), np.float32)}, tmp_path / "c.safetensors")
    with packed_samples(tmp_path / "c.safetensors") as path:
        assert path == tmp_path / "c.safetensors"


def test_samples_that_are_refused_here(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.ones(2))
    with pytest.raises(SamplesRefused, match=r"no array x.*images"), packed_samples(tmp_path / "a.npz"):
        pass
    (tmp_path / "b.npz").write_bytes(b"nothing")
    with pytest.raises(SamplesRefused, match="cannot be read"), packed_samples(tmp_path / "b.npz"):
        pass
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    with pytest.raises(SamplesRefused, match="cannot be read"), packed_samples(tmp_path / "cut.npz"):
        pass
    for name, data in (("empty.npy", b""), ("cut.npy", b"PK\x03\x04")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SamplesRefused, match="cannot be read"):
            read_images(tmp_path / name)
    np.savez(tmp_path / "c.npz", x=np.array([print], dtype=object))
    with pytest.raises(SamplesRefused, match="cannot be read"), packed_samples(tmp_path / "c.npz"):
        pass
    with pytest.raises(SamplesRefused, match="x has 2 rows, y has 3"), packed_samples(np.ones((2, 1)), np.ones(3)):
        pass


def test_a_net_needs_an_example() -> None:
    from torch import nn

    with pytest.raises(TraceRefused, match="example"), packed(nn.Linear(2, 2), None):
        pass


def test_a_net_is_traced_with_what_is_said_about_it() -> None:
    from torch import nn, zeros

    from graftery import load

    said = {"outputs": {"is": "classification"}, "preprocessing": {"mean": [0.5], "std": [0.5]}, "licence": "MIT"}
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1)).eval()
    with packed(net, zeros(2, 1, 4, 4), kind="teacher", **said) as path:
        manifest = load(path).manifest
    assert (manifest.kind, manifest.licence) == ("teacher", "MIT")
    assert manifest.outputs["is"].semantics == "classification"
    assert manifest.preprocessing is not None
    assert manifest.preprocessing.mean == (0.5,)


def test_a_sketch_is_of_the_features_at_the_cut() -> None:
    from torch import nn, zeros

    from graftery import cut, load

    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1)).eval()
    images = np.random.default_rng(0).normal(size=(6, 1, 4, 4))
    with packed(net, zeros(2, 1, 4, 4), SketchOf(images, "1"), kind="teacher") as path:
        category, tasks = cut(load(path), "1")
    assert category.extras["sketch.mean"].shape == (2, 2, 2)
    assert category.extras["sketch.count"].item() == 6
    assert not any(name.startswith("sketch.") for task in tasks.values() for name in task.extras)
