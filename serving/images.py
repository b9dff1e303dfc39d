"""Encoded images (JPEG, PNG) to the rows of an input, as the manifest's preprocessing says. No torch.

An image is decoded, brought to RGB (or BGR) or grey, resized to the input's height and width where these are fixed, and
its numbers become (value in `value_range` - mean) / std. In the arithmetic of the input's datatype (of FP32 for FP16)
these are the numbers that torchvision's Resize((H, W)), ToTensor and Normalize make of a PIL image.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from graftery.errors import InferenceRefused
from graftery.spec.manifest import Preprocessing, TensorSpec

FORMATS = ("JPEG", "PNG")
MAX_ENCODED_BYTES = 16 * 1024**2
MAX_PIXELS = 2**25
# One after the other, images at the limit would keep a thread for minutes: a request has a limit of its own.
MAX_REQUEST_PIXELS = 2**28
MAX_TENSOR_BYTES = 256 * 1024**2
DECODERS = 4
"""Requests whose images are decoded at once in this process: a large image takes hundreds of megabytes while it is."""
# Each scan of a progressive JPEG is work over the whole image, however few bytes it has. Encoders make about ten.
MAX_SCANS = 100
_START_OF_IMAGE = b"\xff\xd8"
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
# Markers that no length follows; in a scan's coded bytes 0xFF is followed by one of them.
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
_DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4"), "float64": np.dtype("<f8")}


@dataclass(frozen=True)
class ImageForm:
    """How an image becomes a row [channels, height, width] of an input; a size of -1 is the image's own."""

    dtype: np.dtype[Any]
    channels: int
    height: int
    width: int
    preprocessing: Preprocessing

    def document(self) -> dict[str, Any]:
        """What the metadata says about it."""
        return {
            "datatype": "BYTES",
            "shape": [-1],
            "formats": list(FORMATS),
            "json": "base64",
            "max_bytes": MAX_ENCODED_BYTES,
            "max_pixels": MAX_PIXELS,
        }


def form_of(spec: TensorSpec, preprocessing: Preprocessing | None) -> ImageForm | None:
    """How encoded images become this input; None where it is no image, or where its numbers are not fully explained."""
    if preprocessing is None or spec.dtype not in _DTYPES or len(spec.shape) != 4 or spec.shape[1] not in (1, 3):
        return None
    channels = int(spec.shape[1])
    orders = ("RGB", "BGR") if channels == 3 else ("RGB", "grey")  # RGB is also what owners leave unsaid
    explained = preprocessing.colour_order in orders and all(std > 0 for std in preprocessing.std)
    if not explained or not len(preprocessing.mean) == len(preprocessing.std) == channels:
        return None
    height, width = (size if isinstance(size, int) else -1 for size in spec.shape[2:])
    return ImageForm(_DTYPES[spec.dtype], channels, height, width, preprocessing)


def decode(rows: Sequence[bytes], form: ImageForm, where: str) -> NDArray[Any]:
    """The input [N, C, H, W] of N encoded images. Limits are checked by the headers of all, before any is decoded.

    Raises:
        InferenceRefused: names the row that is no whole image within the limits.
    """
    places = [f"{where}: row {row}" for row in range(len(rows))]
    images = [_opened(row, place) for row, place in zip(rows, places, strict=True)]
    _check_request(images, where)
    sizes = [_target(image, form) for image in images]
    for size, place in zip(sizes, places, strict=True):
        if size != sizes[0]:
            raise InferenceRefused(f"{place}: expected {_words(sizes[0])} pixels as in row 0, got {_words(size)}")
    width, height = sizes[0]
    size_bytes = len(rows) * form.channels * height * width * form.dtype.itemsize
    if size_bytes > MAX_TENSOR_BYTES:
        raise InferenceRefused(
            f"{where}: the images make {size_bytes} bytes of numbers, at most {MAX_TENSOR_BYTES} are allowed",
            code="request_too_large",
            hint="send fewer at once",
        )
    array_NCHW = np.empty((len(rows), form.channels, height, width), form.dtype)
    for row, (image, place) in enumerate(zip(images, places, strict=True)):
        array_NCHW[row] = _numbers(_pixels(image, form, place), form)
        image.close()  # else the decoded pixels of all of them would be held until the last one
    return array_NCHW


def _opened(row: bytes, where: str) -> Image.Image:
    """The image with its header read and nothing decoded."""
    if len(row) > MAX_ENCODED_BYTES:
        raise InferenceRefused(f"{where}: {len(row)} bytes, expected an image of at most {MAX_ENCODED_BYTES}")
    if _scans(row) > MAX_SCANS:
        raise InferenceRefused(f"{where}: expected a JPEG of at most {MAX_SCANS} scans")
    try:
        image = Image.open(io.BytesIO(row), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InferenceRefused(f"{where}: expected an image of at most {MAX_PIXELS} pixels") from None
    except Exception:  # Pillow lets out whatever its parsers meet: struct, zlib, Syntax, OS and Value errors
        raise InferenceRefused(f"{where}: expected a JPEG or a PNG, got {len(row)} bytes that are neither") from None
    if image.width * image.height > MAX_PIXELS:
        raise InferenceRefused(
            f"{where}: expected an image of at most {MAX_PIXELS} pixels, got {_words((image.width, image.height))}"
        )
    return image


def _scans(row: bytes) -> int:
    """How many scans a JPEG has; 0 of anything else. What follows its end, as in a phone's motion photo, is not looked at."""
    found, at = 0, 2 if row.startswith(_START_OF_IMAGE) else len(row)
    while (at := row.find(b"\xff", at)) >= 0 and at + 4 <= len(row):
        kind = row[at + 1]
        if kind == _END_OF_IMAGE:
            break
        if kind == 0xFF:  # padding
            at += 1
        elif kind in _ALONE:
            at += 2
        else:
            found += kind == _START_OF_SCAN
            at += 2 + int.from_bytes(row[at + 2 : at + 4])
    return found


def _check_request(images: Sequence[Image.Image], where: str) -> None:
    pixels = sum(image.width * image.height for image in images)
    if pixels > MAX_REQUEST_PIXELS:
        raise InferenceRefused(
            f"{where}: the images have {pixels} pixels together, at most {MAX_REQUEST_PIXELS} are allowed",
            code="request_too_large",
            hint="send fewer at once",
        )


def _target(image: Image.Image, form: ImageForm) -> tuple[int, int]:
    return (form.width if form.width >= 0 else image.width, form.height if form.height >= 0 else image.height)


def _pixels(image: Image.Image, form: ImageForm, where: str) -> NDArray[np.uint8]:
    """The decoded, converted and resized image, [H, W, C]."""
    try:
        image = _eight_bits(image).convert("RGB" if form.channels == 3 else "L")
        image = image.resize(_target(image, form), Image.Resampling.BILINEAR)
    except Exception as error:  # as in _opened
        raise InferenceRefused(f"{where}: the image is cut off or damaged: {error}") from None
    pixels_HWC = np.asarray(image).reshape(image.height, image.width, form.channels)
    return pixels_HWC[..., ::-1] if form.preprocessing.colour_order == "BGR" else pixels_HWC


def _eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit grey PNG by its upper bytes; Pillow's own conversion would clip it to white."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))


def _numbers(pixels_HWC: NDArray[np.uint8], form: ImageForm) -> NDArray[Any]:
    """Math: ((low + (high - low) * pixel / 255) - mean) / std. Returns [C, H, W]."""
    dtype = np.promote_types(form.dtype, np.float32)
    low, high = (dtype.type(value) for value in form.preprocessing.value_range)
    mean_C, std_C = (np.array(each, dtype) for each in (form.preprocessing.mean, form.preprocessing.std))
    value_HWC = low + (high - low) * (pixels_HWC.astype(dtype) / dtype.type(255))
    numbers: NDArray[Any] = ((value_HWC - mean_C) / std_C).transpose(2, 0, 1)
    return numbers


def _words(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
