"""Request and response bodies: capped while they are read, unpacked and packed as the headers say."""

from __future__ import annotations

import re
import zlib

from starlette.requests import Request

from graftery.errors import InferenceRefused

PACK_LEVEL = 1
PACK_FROM_BYTES = 1024
# wbits of zlib: gzip has its own header, HTTP's deflate is the zlib format.
_WBITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_QUALITY = re.compile(r"\s*([a-z0-9*-]+)\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?", re.IGNORECASE)


async def read(request: Request, limit_bytes: int) -> bytes:
    """The whole body as it was sent.

    Raises:
        InferenceRefused: `request_too_large`: at once where Content-Length says so, else when the limit is reached.
    """
    stated = next((value for name, value in request.scope["headers"] if name == b"content-length"), b"")
    if stated.isdigit() and int(stated[:18]) > limit_bytes:
        raise too_large(limit_bytes)
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        pieces.append(piece)
    return b"".join(pieces)


def unpack(body: bytes, encoding: str | None, limit_bytes: int) -> bytes:
    """The body without its Content-Encoding; never more than the limit is unpacked.

    Raises:
        InferenceRefused: `unsupported_media_type`; `request_too_large`; `inference_invalid` where it is damaged.
    """
    name = (encoding or "identity").strip().lower()
    if name in ("identity", ""):
        return body
    if name not in _WBITS:
        raise InferenceRefused(
            f"Content-Encoding {name!r} is not supported", code="unsupported_media_type", hint="use gzip or deflate"
        )
    unpacker = zlib.decompressobj(_WBITS[name])
    try:
        found = unpacker.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise InferenceRefused(f"the body is not {name}: {error}") from None
    if len(found) > limit_bytes:
        raise too_large(limit_bytes)
    if not unpacker.eof or unpacker.unused_data:
        raise InferenceRefused(f"the {name} body {'has bytes behind its end' if unpacker.eof else 'was cut off'}")
    return found


def chosen_packing(accept_encoding: str | None) -> str | None:
    """`gzip`, `deflate` or None: what Accept-Encoding prefers of these; gzip where they are equal."""
    qualities: dict[str, float] = {}
    for part in (accept_encoding or "").split(","):
        match = _QUALITY.fullmatch(part)
        if match is not None:
            qualities[match[1].lower()] = _quality(match[2])
    best = max(_WBITS, key=lambda name: qualities.get(name, qualities.get("*", 0.0)))
    return best if qualities.get(best, qualities.get("*", 0.0)) > 0 else None


def pack(body: bytes, packing: str) -> bytes:
    packer = zlib.compressobj(PACK_LEVEL, zlib.DEFLATED, _WBITS[packing])
    return packer.compress(body) + packer.flush()


def too_large(limit_bytes: int) -> InferenceRefused:
    return InferenceRefused(
        f"the body is over the limit of {limit_bytes} bytes",
        code="request_too_large",
        hint="send smaller batches, or binary tensors in place of JSON",
    )


def _quality(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0
