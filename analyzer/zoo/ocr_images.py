"""Lines of text to images as the PP-OCR models take them: channels first, values from -1 to 1."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Image = NDArray[np.float32]
PAGE_SIZE = (640, 320)
LINE_HEIGHT = 48
RECOGNITION_WIDTH = 320
DIRECTION_WIDTH = 192


def page(lines: tuple[str, ...]) -> Image:
    """A page as the detection of text takes it."""
    return _normalized(page_pixels(lines)[:, :, 0])


def page_pixels(lines: tuple[str, ...]) -> NDArray[np.uint8]:
    """A white page with one line of text below the other: [height, width, 3]."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    canvas = Pillow.new("L", PAGE_SIZE, 255)
    draw = ImageDraw.Draw(canvas)
    for position, text in enumerate(lines):
        draw.text((24, 24 + position * 72), text, fill=0, font=_font(32))
    grey: NDArray[np.uint8] = np.asarray(canvas)
    return np.repeat(grey[:, :, None], 3, axis=2)


def recognition_line(text: str) -> Image:
    return _line(text, RECOGNITION_WIDTH, upside_down=False)


def direction_line(text: str, upside_down: bool) -> Image:
    return _line(text, DIRECTION_WIDTH, upside_down)


def _line(text: str, width: int, upside_down: bool) -> Image:
    """Text cut out tightly, scaled to the line's height, padded on the right with the value 0 as the models expect."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    left, top, right, bottom = (int(edge) for edge in _font(36).getbbox(text))
    canvas = Pillow.new("L", (right - left + 12, bottom - top + 12), 255)
    ImageDraw.Draw(canvas).text((6 - left, 6 - top), text, fill=0, font=_font(36))
    if upside_down:
        canvas = canvas.transpose(Pillow.Transpose.ROTATE_180)
    scaled = canvas.resize((min(width, round(canvas.width * LINE_HEIGHT / canvas.height)), LINE_HEIGHT))
    image = np.zeros((3, LINE_HEIGHT, width), np.float32)
    image[:, :, : scaled.width] = _normalized(np.asarray(scaled))
    return image


def _font(size: int) -> "FreeTypeFont":
    import matplotlib
    from PIL import ImageFont

    # The font that matplotlib brings along, so that the picture is the same on every machine.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _normalized(grey: NDArray[np.uint8]) -> Image:
    # Grey, so the order of the three channels (blue first in these models) makes no difference.
    one_channel: Image = grey.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.broadcast_to(one_channel, (3, *grey.shape)).copy()
