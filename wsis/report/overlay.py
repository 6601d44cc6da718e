"""Masks and boxes drawn over their image, and pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from wsis.report.fonts import composed, font_for
from wsis.structures.boxes import box_to_slices

PALETTE = np.array(
    [
        (60, 160, 240),
        (230, 60, 60),
        (90, 200, 80),
        (250, 180, 40),
        (180, 90, 220),
        (40, 200, 190),
        (240, 120, 190),
        (160, 130, 80),
    ],
    dtype=np.uint8,
)
"""Colours of the instances of an image, in turn; RGB."""
_LABEL_SIZE = 11
"""Height of a label, in pixels."""


def overlay(
    image: np.ndarray,
    masks: Sequence[np.ndarray] = (),
    boxes: Sequence[Sequence[float]] = (),
    ignore: Sequence[np.ndarray | None] = (),
    opacity: float = 0.5,
    scale: int = 1,
    labels: Sequence[str] = (),
) -> np.ndarray:
    """Instances over their image, number i in colour i of :data:`PALETTE`.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (H, W) bool each; tinted, with a contour.
        boxes: XYXY in pixels each; drawn as rectangles.
        ignore: (H, W) bool or None each; hatched.
        opacity: of the tint, 0 to 1.
        scale: whole-number enlargement.
        labels: one text per box, above its upper left corner; none = no texts.

    Returns:
        (H * scale, W * scale, 3) uint8 RGB.
    """
    size = (image.shape[1] * scale, image.shape[0] * scale)
    out = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)

    def large(mask: np.ndarray) -> np.ndarray:
        return np.kron(mask, np.ones((scale, scale), dtype=bool)).astype(bool)

    for i, mask in enumerate(masks):
        colour = PALETTE[i % len(PALETTE)]
        inside = large(mask)
        out[inside] = (out[inside] * (1 - opacity) + colour * opacity).astype(np.uint8)
        contours, _ = cv2.findContours(
            inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(out, contours, -1, colour.tolist(), 1)
    hatch = np.add.outer(np.arange(size[1]), np.arange(size[0])) % 6 < 2
    for i, region in enumerate(ignore):
        if region is not None:
            out[large(region) & hatch] = PALETTE[i % len(PALETTE)]
    for i, box in enumerate(boxes):
        rows, columns = box_to_slices(np.asarray(box) * scale, size[1], size[0])
        corners = (columns.start, rows.start), (columns.stop - 1, rows.stop - 1)
        cv2.rectangle(out, *corners, PALETTE[i % len(PALETTE)].tolist(), 1)
    return with_labels(out, np.asarray(boxes) * scale, labels) if labels else out


def with_labels(
    picture: np.ndarray,
    corners: np.ndarray,
    labels: Sequence[str],
    colours: np.ndarray = PALETTE,
    size: int = _LABEL_SIZE,
) -> np.ndarray:
    """Texts on their colour, kept inside the picture.

    Args:
        picture: (H, W, 3) uint8 RGB.
        corners: (N, 2) or more columns, x and y in its pixels; a text stands above and to the right.
        labels: N texts.
        colours: (M, 3) uint8 RGB, in turn.
        size: of the letters in pixels.
    """
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for i, (x, y, *_) in reversed(list(enumerate(corners.tolist()))):  # the first one on top
        label = composed(labels[i])  # Pillow measures one line only
        font = font_for(label, size)
        if font is None:
            label = label.encode("ascii", "replace").decode()
            font = font_for(label, size)
        width, height = draw.textlength(label, font=font) + 2, size + 2
        x = max(0, min(x, canvas.width - width))
        y = max(0, y - height)
        red, green, blue = colour = colours[i % len(colours)].tolist()
        ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 150 else "white"
        draw.rectangle((x, y, x + width, y + height), fill=tuple(colour))
        draw.text((x + 1, y), label, fill=ink, font=font)
    return np.array(canvas)


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], gap: int = 4, font_size: int = 15
) -> np.ndarray:
    """Pictures in a grid with a title above each column.

    Args:
        rows: pictures (H, W, 3) uint8 RGB; all rows have as many as there are titles.
        titles: of the columns.
        gap: pixels between pictures.
        font_size: of the titles, in pixels.

    Returns:
        One picture, uint8 RGB, white between and around.
    """
    widths = [max(row[c].shape[1] for row in rows) for c in range(len(titles))]
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    top = font_size + 2 * gap
    size = (sum(widths) + gap * (len(widths) + 1), top + sum(heights) + gap * len(heights))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    x = gap
    for column, title in enumerate(titles):
        font = font_for(composed(title), font_size)
        draw.text((x + widths[column] / 2, gap), title, fill="black", anchor="ma", font=font)
        y = top
        for row, height in zip(rows, heights, strict=True):
            sheet.paste(Image.fromarray(row[column]), (x, y))
            y += height + gap
        x += widths[column] + gap
    return np.asarray(sheet)
