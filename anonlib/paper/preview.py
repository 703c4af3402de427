"""What a notebook displays: texts, and figures small enough that code hosts show the notebook."""

import io
from pathlib import Path
from typing import Any

WIDTH, BYTES = 1000, 130_000  # pixels, and bytes before base64


def preview(file: Path) -> Any:
    """Return the PNG of a figure at screen size: a palette PNG (charts) or a JPEG (photos), whichever is smaller."""
    from IPython import display
    from PIL import Image

    from anonlib.plotting.style import DPI

    picture = Image.open(file).convert("RGB")
    width = round(picture.width * 100 / DPI)  # as wide on the screen as in print
    for scale in (1.0, 0.8, 0.6, 0.4):
        small = picture.copy()
        small.thumbnail((round(scale * WIDTH), 10 * WIDTH), Image.Resampling.LANCZOS)
        palette = small.quantize(64, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        encoded = [_encoded(palette, "png"), *(_encoded(small, "jpeg", quality=quality) for quality in (80, 65, 50))]
        if fitting := [image for image in (min(encoded[:2], key=len), *encoded[2:]) if len(image) <= BYTES]:
            break
    return display.Image(data=(fitting or encoded)[0], width=width)


def markdown(text: str) -> Any:
    """Return a text that the notebook displays.

    Args:
        text: Markdown.

    Returns:
        A displayable object.
    """
    from IPython.display import Markdown

    return Markdown(text)


def _encoded(picture: Any, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, optimize=True, **options)
    return stream.getvalue()
