"""Inputs and surroundings as they go wrong: images of every form, folders that cannot be written, full disks."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tests.noise import make_opts

HEIGHT, WIDTH = 48, 64
FORMS = ("grey", "rgba", "palette", "sixteen", "exif")
_ORIENTATION = 0x0112
_WRITE_ANYTHING = 1  # CAP_DAC_OVERRIDE


def draw(seed: int, centre: tuple[int, int] = (24, 20)) -> np.ndarray:
    """A bright disc on noise, whose values reach from 0 to 255: (H, W, 3) uint8 RGB."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    cv2.circle(pixels, centre, 10, (200, 150 + seed, 220), -1)
    pixels[0, 0], pixels[-1, -1] = 0, 255
    return pixels


def write_forms(folder: Path, plain: bool = False) -> list[str]:
    """One image of each form; with ``plain`` the same pixels as ordinary RGB. Returns the names."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, form in enumerate(FORMS):
        pixels = draw(seed)
        image = Image.fromarray(pixels)
        options: dict[str, Any] = {}
        if form in ("grey", "sixteen"):
            image = image.convert("L")
            pixels = np.repeat(np.asarray(image)[:, :, None], 3, axis=2)
            if form == "sixteen":
                image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
        elif form == "rgba":
            alpha = np.random.default_rng(9).integers(0, 256, (HEIGHT, WIDTH, 1), dtype=np.uint8)
            image = Image.fromarray(np.concatenate([pixels, alpha], axis=2))
        elif form == "palette":
            image = image.quantize(40)
            pixels = np.asarray(image.convert("RGB"))
        elif form == "exif":
            image = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))
            options["exif"] = Image.Exif()
            options["exif"][_ORIENTATION] = 6
        if plain:
            image, options = Image.fromarray(pixels), {}
        image.save(folder / f"{form}.png", **options)
    return [f"{form}.png" for form in FORMS]


def write_images(folder: Path, number: int) -> list[str]:
    """So many ordinary images; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        Image.fromarray(draw(index)).save(folder / f"{index}.png")
    return [f"{index}.png" for index in range(number)]


def write_json(
    folder: Path, names: list[str], boxes: list[tuple[int, list[float]]], **crowds: int
) -> None:
    """``boxes.json``.

    Args:
        folder: of the images.
        names: of the images, whose ids count from 1.
        boxes: image id and ``bbox`` of each annotation, whose ids count from 11.
        crowds: ``id11=1`` makes annotation 11 a crowd.
    """
    images = [
        {"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH}
        for i, name in enumerate(names, start=1)
    ]
    annotations = [
        {"id": i, "image_id": image_id, "bbox": box, "iscrowd": crowds.get(f"id{i}", 0)}
        for i, (image_id, box) in enumerate(boxes, start=11)
    ]
    document = {"images": images, "annotations": [a | {"category_id": 1} for a in annotations]}
    document["categories"] = [{"id": 1, "name": "disc"}]
    (folder / "boxes.json").write_text(json.dumps(document))


DISC = [12.0, 8.0, 25.0, 25.0]
"""The box of the disc of :func:`draw`, a little wider than it."""


def teacher_words(data: Path, output: Path, method: str = "GrabCut", **changes: Any) -> list[str]:
    """Config keys of a generation by a teacher without weights; see :func:`tests.noise.make_opts`."""
    keys = {"MODEL__META_ARCHITECTURE": method, "MODEL__WEIGHTS": "", **changes}
    return make_opts(data, output, **keys)


@contextlib.contextmanager
def disk_of(room: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody can write in the folder, this thread not even as root."""
    mode = folder.stat().st_mode
    folder.chmod(0o555)
    try:
        with _without_right(_WRITE_ANYTHING):
            yield
    finally:
        folder.chmod(mode)


@contextlib.contextmanager
def _without_right(number: int) -> Iterator[None]:
    """This thread, and those that it starts, lack one of root's rights (capabilities)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before, fewer = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)

    def call(function: Callable[..., int], data: Any) -> None:
        if function(header, data):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    call(libc.capget, before)
    fewer[:] = before[:]
    fewer[0] &= ~(1 << number)  # effective; the permitted ones stay, so that it can come back
    call(libc.capset, fewer)
    try:
        yield
    finally:
        call(libc.capset, before)
