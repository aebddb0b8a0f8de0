"""PURE. What is asked of a picture (PS3.18 section 8.3.5): its size, window, quality and profile."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from listener.serve.faults import BadRequest

PNG, JPEG = "image/png", "image/jpeg"

#: VOI LUT functions (PS3.3 section C.11.2.1.3).
LINEAR, EXACT, SIGMOID = "LINEAR", "LINEAR_EXACT", "SIGMOID"

#: Pixels of a side at most, of a thumbnail unless it is said, and the quality of a JPEG.
_MOST, _THUMBNAIL, _QUALITY = 8192, 128, 90

_is_number = re.compile(r"[+-]?([0-9]{1,12}(\.[0-9]{0,12})?|\.[0-9]{1,12})([eE][+-]?[0-9]{1,2})?").fullmatch


class Window(NamedTuple):
    """A window: center and width in units of the modality LUT's output, and the VOI LUT function."""

    center: float
    width: float
    function: str = LINEAR

    @property
    def is_possible(self) -> bool:
        """Return whether the width is one that the function allows."""
        return self.width >= 1 if self.function == LINEAR else self.width > 0


def placed(values: Any, window: Window, np: Any) -> Any:
    """Return values (an array; `np` is numpy) from 0 to 1 as a window places them (PS3.3 section C.11.2.1.2)."""
    center, width, function = window
    if function == SIGMOID:
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -700.0, 700.0)))
    if function == EXACT:
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)
    if width <= 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0.0, 1.0)


class Viewport(NamedTuple):
    """A viewport of `width` and `height` pixels, and the part of the image in it: the offset of its left upper corner
    and its size (0: up to the edge); a negative size mirrors it.
    """

    width: int
    height: int
    x: float = 0.0
    y: float = 0.0
    part_width: float = 0.0
    part_height: float = 0.0

    @property
    def flips_x(self) -> bool:
        """Return whether left and right are exchanged."""
        return self.part_width < 0

    @property
    def flips_y(self) -> bool:
        """Return whether top and bottom are exchanged."""
        return self.part_height < 0

    def region(self, columns: int, rows: int) -> tuple[int, int, int, int]:
        """Return left, top, width and height of the part of an image. Raises BadRequest where it lies outside."""
        left, top = int(self.x), int(self.y)
        width = round(abs(self.part_width)) or columns - left
        height = round(abs(self.part_height)) or rows - top
        if left >= columns or top >= rows or width < 1 or height < 1:
            raise BadRequest("the viewport lies outside of the image")
        return left, top, min(width, columns - left), min(height, rows - top)

    def fitted(self, columns: int, rows: int) -> tuple[int, int]:
        """Return the size of an image that fits into the viewport, its proportions kept."""
        scale = min(self.width / columns, self.height / rows)
        return max(1, min(self.width, round(columns * scale))), max(1, min(self.height, round(rows * scale)))


class Picture(NamedTuple):
    """What is asked for. `icc`: with the image's ICC profile, if it has one."""

    media: str
    viewport: Viewport | None = None
    window: Window | None = None
    quality: int = _QUALITY
    icc: bool = False


def of_json(values: Sequence[Any]) -> Picture:
    """Return a picture that was JSON."""
    media, viewport, window, quality, icc = values
    return Picture(media, Viewport(*viewport) if viewport else None, Window(*window) if window else None, quality, icc)


def picture(pairs: Sequence[tuple[str, str]], media: str, *, thumbnail: bool) -> Picture:
    """Return what the pairs of a query ask for. Raises BadRequest, which names the key."""
    viewport = Viewport(_THUMBNAIL, _THUMBNAIL) if thumbnail else None
    window, quality, icc = None, _QUALITY, False
    for key, value in pairs:
        if key == "viewport":
            viewport = _viewport(value)
        elif key == "window" and not thumbnail:
            window = _window(value)
        elif key == "quality" and not thumbnail:
            if not value.isdecimal() or not 1 <= int(value[:4]) <= 100:
                raise BadRequest("quality is a whole number from 1 to 100")
            quality = int(value)
        elif key == "iccprofile" and not thumbnail:
            if value not in ("no", "yes"):
                raise BadRequest("iccprofile is no or yes")
            icc = value == "yes"
        elif key not in ("accept", "charset"):
            raise BadRequest("the query of a picture has viewport, window, quality, iccprofile and accept")
    return Picture(media, viewport, window, quality, icc)


def _viewport(text: str) -> Viewport:
    values = [0.0 if not one else _number("viewport", one) for one in text.split(",")]
    if not 2 <= len(values) <= 6 or values[0] < 0 or values[1] < 0 or min(values[2:4], default=0.0) < 0:
        raise BadRequest("viewport is vw,vh or vw,vh,sx,sy,sw,sh")
    width, height = (int(one) or _MOST for one in values[:2])
    if width > _MOST or height > _MOST:
        raise BadRequest(f"a viewport has at most {_MOST} pixels a side")
    return Viewport(width, height, *values[2:])


def _window(text: str) -> Window:
    parts = text.split(",")
    if not 2 <= len(parts) <= 3:
        raise BadRequest("window is center,width,function")
    name = parts[2].strip().upper().replace("-", "_") if len(parts) == 3 else LINEAR
    window = Window(_number("window", parts[0]), _number("window", parts[1]), name)
    if window.function not in (LINEAR, EXACT, SIGMOID) or not window.is_possible:
        raise BadRequest("the function of a window is linear, linear-exact or sigmoid, and linear wants a width from 1")
    return window


def _number(key: str, text: str) -> float:
    if not _is_number(text.strip()) or not math.isfinite(found := float(text)):
        raise BadRequest(f"{key} has a value that is no number")
    return found
