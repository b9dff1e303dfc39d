"""Encoded images to rows: the arithmetic against a reference, and what is refused before it is decoded."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from graftery.errors import InferenceRefused
from graftery.spec.manifest import Preprocessing, TensorSpec
from serving import images
from serving.images import ImageForm, decode, form_of
from tests.support.pictures import encoded_image, png

COLOUR = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
GREY = Preprocessing(mean=(0.5,), std=(0.25,), colour_order="grey")


def form(
    shape: tuple[Any, ...] = ("N", 3, 12, 20), preprocessing: Preprocessing | None = COLOUR, dtype: str = "float32"
) -> ImageForm:
    made = form_of(TensorSpec(dtype=dtype, shape=shape), preprocessing)
    assert made is not None
    return made


def refusal(rows: list[bytes], wanted: ImageForm | None = None) -> InferenceRefused:
    with pytest.raises(InferenceRefused) as caught:
        decode(rows, wanted or form(), "input 'input'")
    return caught.value


@pytest.mark.parametrize(
    ("shape", "preprocessing", "dtype"),
    [
        (("N", 3, 8, 8), None, "float32"),
        (("N", 3, 8), COLOUR, "float32"),
        (("N", 4, 8, 8), COLOUR, "float32"),
        (("N", "H", 8, 8), COLOUR, "float32"),
        (("N", 3, 8, 8), COLOUR, "int64"),
        (("N", 3, 8, 8), COLOUR, "bfloat16"),
        (("N", 3, 8, 8), GREY, "float32"),
        (("N", 1, 8, 8), COLOUR, "float32"),
        (("N", 3, 8, 8), COLOUR.model_copy(update={"colour_order": "other"}), "float32"),
        (("N", 3, 8, 8), COLOUR.model_copy(update={"std": (1.0, 0.0, 1.0)}), "float32"),
    ],
)
def test_what_is_no_image_has_no_form(shape: tuple[Any, ...], preprocessing: Any, dtype: str) -> None:
    assert form_of(TensorSpec(dtype=dtype, shape=shape), preprocessing) is None


def test_numbers_are_the_manifests() -> None:
    raw = encoded_image()
    pixels = np.asarray(Image.open(io.BytesIO(raw)), np.float32) / np.float32(255)
    expected = (pixels - np.array(COLOUR.mean, np.float32)) / np.array(COLOUR.std, np.float32)
    found = decode([raw, raw], form(), "input")
    assert found.dtype == np.float32 and found.shape == (2, 3, 12, 20)
    np.testing.assert_array_equal(found[1], expected.transpose(2, 0, 1))


def test_the_range_and_the_colour_order_are_the_manifests() -> None:
    raw = encoded_image()
    bytes_like = Preprocessing(mean=(104, 117, 123), std=(1, 1, 1), value_range=(0, 255), colour_order="BGR")
    found = decode([raw], form(preprocessing=bytes_like), "input")
    pixels = np.asarray(Image.open(io.BytesIO(raw)), np.float32)[..., ::-1]
    np.testing.assert_allclose(found[0], (pixels - np.array(bytes_like.mean)).transpose(2, 0, 1), atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_float_datatype(dtype: str) -> None:
    found = decode([encoded_image()], form(dtype=dtype), "input")
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_allclose(found, decode([encoded_image()], form(), "input"), atol=2e-3)


@pytest.mark.parametrize("size", [(20, 12), (40, 24), (7, 90), (1, 1)])
def test_resized_by_pillows_bilinear(size: tuple[int, int]) -> None:
    raw = encoded_image(size)
    resized = Image.open(io.BytesIO(raw)).resize((20, 12), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    resized.save(out, "PNG")
    np.testing.assert_array_equal(decode([raw], form(), "input"), decode([out.getvalue()], form(), "input"))


def test_free_sizes_are_the_images_own_and_equal_for_all_rows() -> None:
    free = form(("N", 3, "H", "W"))
    assert decode([encoded_image((5, 9))] * 2, free, "input").shape == (2, 3, 9, 5)
    error = refusal([encoded_image((5, 9)), encoded_image((5, 8))], free)
    assert "row 1: expected 5 x 9 pixels as in row 0, got 5 x 8" in str(error)


@pytest.mark.parametrize(
    ("mode", "format"),
    [("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("1", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG")],
)
@pytest.mark.parametrize("grey", [True, False])
def test_every_mode_becomes_colour_or_grey(mode: str, format: str, grey: bool) -> None:
    wanted = form(("N", 1, 12, 20), GREY) if grey else form()
    raw = encoded_image(mode=mode, format=format)
    expected = np.asarray(Image.open(io.BytesIO(raw)).convert("L" if grey else "RGB"), np.float32) / np.float32(255)
    mean, std = wanted.preprocessing.mean, wanted.preprocessing.std
    expected = (expected.reshape(12, 20, -1) - np.array(mean, np.float32)) / np.array(std, np.float32)
    np.testing.assert_array_equal(decode([raw], wanted, "input")[0], expected.transpose(2, 0, 1))


def test_sixteen_bits_are_read_by_their_upper_ones() -> None:
    values = np.arange(240, dtype=np.uint16).reshape(12, 20) * 256
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    found = decode([out.getvalue()], form(("N", 1, 12, 20), GREY), "input")
    np.testing.assert_allclose(found[0, 0], (values / 256 / 255 - 0.5) / 0.25, atol=1e-5)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.95])
def test_a_cut_image_names_its_row(format: str, kept: float) -> None:
    good = encoded_image((64, 64), format=format)
    assert "input 'input': row 2: " in str(refusal([good, good, good[: int(len(good) * kept)]]))


@pytest.mark.parametrize("raw", [b"", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\0" * 100])
def test_what_is_no_image_is_named(raw: bytes) -> None:
    assert "row 0: " in str(refusal([raw]))


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_other_formats_are_refused(format: str) -> None:
    assert "expected a JPEG or a PNG" in str(refusal([encoded_image(format=format)]))


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(6000, 6000), (2**31 - 1, 2**31 - 1), (2**26, 1), (20_000, 5_000)])
def test_a_bomb_is_refused_before_it_is_decoded(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_pixels", lambda *_: pytest.fail("was decoded"))
    bomb = png(*size, zlib.compress(bytes(2**20), 9))
    assert f"at most {images.MAX_PIXELS} pixels" in str(refusal([encoded_image(), bomb])) or size[0] > 2**30


def test_limits_of_a_whole_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_pixels", lambda *_: pytest.fail("was decoded"))
    many = refusal([png(5000, 5000)] * 11)
    assert many.code == "request_too_large" and "together" in str(many)
    large = refusal([encoded_image()] * 200, form(("N", 3, 512, 512)))
    assert large.code == "request_too_large" and "bytes of numbers" in str(large)


def test_encoded_bytes_are_limited() -> None:
    assert "expected an image of at most" in str(refusal([bytes(images.MAX_ENCODED_BYTES + 1)]))


def test_scans_of_a_jpeg_are_limited() -> None:
    out = io.BytesIO()
    Image.open(io.BytesIO(encoded_image((64, 64)))).save(out, "JPEG", progressive=True)
    assert decode([out.getvalue()], form(), "input").shape == (1, 3, 12, 20)
    data = out.getvalue()
    first = data.index(b"\xff\xda")
    assert "scans" in str(refusal([data[:first] + data[first:-2] * 60 + data[-2:]]))


def test_only_the_scans_of_a_jpeg_are_counted() -> None:
    """The two bytes of a scan's marker are about once in 64 KiB of whatever is compressed."""
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1700, 1700, 3), np.uint8)).save(out, "PNG")
    noise = out.getvalue()
    assert noise.count(b"\xff\xda") > images.MAX_SCANS
    out = io.BytesIO()
    Image.open(io.BytesIO(encoded_image((64, 64)))).save(out, "JPEG")
    for row in (noise, out.getvalue() + b"\xff\xda" * 200):
        assert decode([row], form(), "input").shape == (1, 3, 12, 20)


def test_each_image_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    pixels = images._pixels

    def counted(image: Any, *rest: Any) -> Any:
        opened.append(image)
        return pixels(image, *rest)

    monkeypatch.setattr(images, "_pixels", counted)
    assert decode([encoded_image()] * 3, form(), "input").shape == (3, 3, 12, 20)
    assert len(opened) == 3
    for image in opened:
        with pytest.raises(ValueError, match="closed image"):
            image.getpixel((0, 0))
