"""Labels: a QR code that holds a unit's GUID, and nothing that is secret."""

from __future__ import annotations

import io
import threading

import segno
import zxingcpp
from PIL import Image

from imprint_tools.errors import ImageError

_BORDER = 4  # modules of quiet zone, as the standard asks
_PIXELS_MAX = 50_000_000
_SIDE = 1600  # pixels; a larger picture is made smaller, which costs little and bounds the time
_FORMATS = ("JPEG", "PNG", "WEBP")
_TURNS = threading.BoundedSemaphore(2)  # a picture of so many pixels takes 250 MB for a moment
_TURN_S = 5.0


def svg(unit_id: str) -> bytes:
    """A drawing of it, without a size of its own."""
    out = io.BytesIO()
    _code(unit_id).save(
        out, kind="svg", border=_BORDER, omitsize=True, title=unit_id, xmldecl=False, light="#fff"
    )
    return out.getvalue()


def png(unit_id: str, scale: int = 10) -> bytes:
    """A picture of it: `scale` pixels a module."""
    out = io.BytesIO()
    _code(unit_id).save(out, kind="png", border=_BORDER, scale=scale)
    return out.getvalue()


def read(picture: bytes) -> list[str]:
    """The texts of the codes in a JPEG, PNG or WebP. Raises ImageError: none, or too large, or
    too many at once."""
    if not _TURNS.acquire(timeout=_TURN_S):
        raise ImageError("too many pictures come at once", next_step="Send it again.")
    try:
        return _read(picture)
    finally:
        _TURNS.release()


def _read(picture: bytes) -> list[str]:
    try:
        with Image.open(io.BytesIO(picture), formats=_FORMATS) as image:
            if image.width * image.height > _PIXELS_MAX:
                raise ImageError(
                    f"the picture has more than {_PIXELS_MAX} pixels",
                    next_step="Take a smaller one.",
                )
            image.draft("L", (_SIDE, _SIDE))
            grey = image.convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise ImageError(
            "this is no picture that can be read", next_step="Take a JPEG, PNG or WebP."
        ) from None
    grey.thumbnail((_SIDE, _SIDE))
    return [
        code.text
        for code in zxingcpp.read_barcodes(
            grey, zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
        )
    ]


def _code(unit_id: str) -> segno.QRCode:
    # "M" survives a scratch of 15 %; never a micro code, which few cameras read.
    return segno.make(unit_id, error="m", micro=False)
