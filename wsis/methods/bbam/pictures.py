"""Pictures of attribution maps: over their image, and how they came to be."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from wsis.methods.bbam.demo import DemoSettings, Frame, explain_detections
from wsis.methods.bbam.detector import ExplainableDetector
from wsis.structures.boxes import box_to_slices
from wsis.structures.proxy_file import atomic_writer

_FIRST = [(0.6, 0, 0.05), (0.03, 0.19, 0.42), (0, 0.27, 0.11), (0.24, 0, 0.49), (0.5, 0.25, 0.02)]
_YELLOW, _GREY, _ORANGE, _PINK = (0.8, 0.8, 0), (0.2, 0.2, 0.2), (1, 0.5, 0), (1, 0.1, 0.6)
MAP_COLOURS = 255 * np.array([*_FIRST, _YELLOW, _GREY, _ORANGE, _PINK])
"""Of the maps of an image, in turn; RGB."""
BOX_COLOURS = 255 * np.array([*_FIRST, _ORANGE, _GREY, _PINK, _YELLOW])
"""Of their boxes."""
FADE = 0.8
"""Opacity of the white layer over the grey image."""
FRAMES = 30
"""Of a progress picture, about."""
PROPOSAL, CLEAN, PERTURBED = (0, 0, 255), (0, 200, 0), (255, 0, 0)
"""Colours of the boxes in a progress picture; RGB."""


def attribution_overlay(
    image: np.ndarray,
    boxes: Sequence[Sequence[float]],
    maps: Sequence[np.ndarray],
    line_width: int | None = None,
) -> np.ndarray:
    """The image with its boxes, beside it the faded image under the maps; number k in colour k mod 9.

    A map is divided by its maximum. Its colour goes from white at 0 to the instance's at 1, its opacity from 0 over
    0.7 at 0.5 to 1.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: N times XYXY in pixels.
        maps: N times (h, w) float, at least 0, of the whole image.
        line_width: of the boxes in pixels; default a hundredth of the image.

    Returns:
        (H, 2 W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    line_width = line_width or max(1, round(max(height, width) / 100))
    left = image.copy()
    for k, box in enumerate(boxes):
        draw_box(left, box, BOX_COLOURS[k % len(BOX_COLOURS)], line_width)
    grey = image @ np.array([0.299, 0.587, 0.114])
    right = np.repeat((grey * (1 - FADE) + 255 * FADE)[:, :, None], 3, axis=2)
    for k, values in enumerate(maps):
        share = _stretched(values, height, width)[:, :, None]
        opacity = np.interp(share, (0, 0.5, 1), (0, 0.7, 1))
        colour = 255 + share * (MAP_COLOURS[k % len(MAP_COLOURS)] - 255)
        right = right * (1 - opacity) + colour * opacity
    return np.concatenate([left, right.round().astype(np.uint8)], axis=1)


def _stretched(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map at image size, its outermost cells on the outermost pixels, with maximum 1 unless it is 0."""
    cells = torch.from_numpy(np.asarray(values, dtype=np.float32))[None, None]
    stretched = functional.interpolate(cells, (height, width), mode="bilinear", align_corners=True)
    return (stretched[0, 0] / (float(cells.max()) or 1.0)).clamp(0, 1).numpy()


def draw_box(
    image: np.ndarray,
    box: Sequence[float],
    colour: Sequence[float] | np.ndarray,
    line_width: int = 1,
) -> None:
    """Draws a rectangle on the outermost pixels of a box.

    Args:
        image: (H, W, 3) uint8 RGB, changed in place.
        box: XYXY in pixels.
        colour: RGB in 0-255.
        line_width: in pixels.
    """
    rows, columns = box_to_slices(np.asarray(box, dtype=np.float64), *image.shape[:2])
    corners = (columns.start, rows.start), (columns.stop - 1, rows.stop - 1)
    cv2.rectangle(image, *corners, [int(round(float(c))) for c in colour], line_width)


def progress_frame(
    image: np.ndarray,
    proposal: Sequence[float],
    clean: Sequence[float],
    perturbed: Sequence[float],
    *,
    longest: int = 400,
) -> np.ndarray:
    """What a mask leaves of an image, with the boxes that it is about.

    Args:
        image: (H, W, 3) uint8 RGB, the perturbed image.
        proposal: XYXY in pixels, drawn in blue.
        clean: the detector's box on the unchanged image, green.
        perturbed: its box on this one, red.
        longest: the picture shrinks to this many pixels on its longer side.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    scale = min(1.0, longest / max(image.shape[:2]))
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    out = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for box, colour in ((proposal, PROPOSAL), (clean, CLEAN), (perturbed, PERTURBED)):
        draw_box(out, np.asarray(box, dtype=np.float64) * scale, colour)
    return out


def write_picture(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Writes (H, W, 3) uint8 RGB as PNG; a reader sees the whole file or none."""
    with atomic_writer(path, "wb") as stream:
        Image.fromarray(picture).save(stream, format="PNG")


def write_gif(
    path: str | os.PathLike[str], frames: Sequence[np.ndarray], seconds: float = 0.1
) -> None:
    """Writes an animation that starts over after a pause on its last frame.

    Args:
        path: of the file; a reader sees the whole file or none.
        frames: (H, W, 3) uint8 RGB, at least one, all of one size.
        seconds: each frame is shown; the last one ten times as long.
    """
    first, *rest = (Image.fromarray(frame) for frame in frames)
    durations = [round(1000 * seconds)] * len(rest) + [round(10_000 * seconds)]
    with atomic_writer(path, "wb") as stream:
        first.save(
            stream, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0
        )


def write_explanations(
    image: np.ndarray,
    network_image: torch.Tensor,
    view: ExplainableDetector,
    settings: DemoSettings,
    names: Sequence[str],
    image_format: str,
    target: Path,
) -> int:
    """Explains the detections in an image, and writes ``<target>.png`` (see :func:`attribution_overlay`) and for each
    ``<target>_<number>_<class>.gif`` (see :func:`progress_frame`).

    Args:
        image: (H, W, 3) uint8 RGB.
        network_image: (3, h, w) uint8 at network size, in the detector's channel order.
        view: the detector, in eval mode, its parameters without gradient.
        settings: what to explain, and how.
        names: of the classes; may be empty.
        image_format: "RGB" or "BGR", the detector's channel order.
        target: path of the pictures without suffix.

    Returns:
        The number of detections.
    """
    frames: dict[int, list[np.ndarray]] = defaultdict(list)

    def watch(frame: Frame) -> None:
        shown = frame.image if image_format == "RGB" else frame.image.flip(0)
        pixels = np.ascontiguousarray(shown.permute(1, 2, 0).cpu().numpy())
        boxes = (v.tolist() for v in (frame.proposal, frame.clean, frame.perturbed))
        frames[frame.detection].append(progress_frame(pixels, *boxes))

    every = max(1, settings.explainer.steps // FRAMES)
    found, maps = explain_detections(view, view.normalise(network_image), settings, watch, every)
    height, width = network_image.shape[-2:]
    scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
    boxes = (found.boxes.cpu().numpy() * scale).tolist()
    picture = attribution_overlay(image, boxes, [mask.cpu().numpy() for mask in maps])
    write_picture(target.with_name(f"{target.name}.png"), picture)
    for i, label in enumerate(found.classes.tolist()):
        name = re.sub(r"\W+", "-", names[label]) if names else f"class{label}"
        write_gif(target.with_name(f"{target.name}_{i}_{name}.gif"), frames[i])
    return len(maps)
