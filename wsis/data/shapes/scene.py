"""One image of the `shapes` dataset: placing forms, painting them, keeping their visible masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from wsis.data.shapes.forms import (
    DISTRACTOR_FORMS,
    OBJECT_FORMS,
    SALIENT_FORMS,
    Form,
    FormMaker,
    transform,
)
from wsis.data.shapes.texture import light, palette, rim_shading, texture

SPLITS = ("train", "val", "salient")

_SUPERSAMPLE = 4
_PALETTE = 4  # colours of one image; a form shares one with the background, or none
_OBJECTS = (1, 5)
_DISTRACTORS = (0, 2)
_RADIUS = (0.10, 0.30)  # of the image side, log-uniform
_SPREAD = 0.9  # of the image side, where centres may lie
_SALIENT_RADIUS = (0.22, 0.38)
_MIN_VISIBLE = 0.5  # of a form's whole area, against occlusion and the image border together
_MIN_AREA = 0.002  # of the image area
_TRIES = 20
_BACKGROUND_CELLS = (3.0, 9.0)  # texture bumps along the image side
_FORM_CELLS = (2.5, 10.0)
_STRIPE_SHARE = 0.2
_LIGHT = 0.3
_RIM_WIDTH = 0.15  # of the form's radius
_RIM_STRENGTH = (0.3, 0.6)
_DISTRACTOR = -2


@dataclass(frozen=True)
class Scene:
    """An image and its objects.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: (N, H, W) bool, the visible pixels of each object; disjoint, none empty.
        classes: N indices into the split's forms (`OBJECT_FORMS`, for salient 0).
    """

    image: np.ndarray
    masks: np.ndarray
    classes: tuple[int, ...]


def coverage(form: Form, size: int) -> np.ndarray:
    """Rasterise a form with smooth edges.

    Args:
        form: contours in pixels; may leave the image.
        size: image side in pixels.

    Returns:
        (size, size) float32 in [0, 1], the covered share of each pixel.
    """
    contours = [np.round(c * _SUPERSAMPLE - 0.5).astype(np.int32) for c in form]
    canvas = np.zeros((size * _SUPERSAMPLE,) * 2, dtype=np.uint8)
    cv2.fillPoly(canvas, contours, 255)
    blocks = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(blocks / np.float32(255), dtype=np.float32)


def form_area(form: Form) -> float:
    """Area of a form in its own units: the first contour's less that of the holes."""
    areas = [
        0.5 * abs(float(np.sum(c[:, 0] * np.roll(c[:, 1], 1) - c[:, 1] * np.roll(c[:, 0], 1))))
        for c in form
    ]
    return areas[0] - sum(areas[1:])


class _Painter:
    """A picture in the making: the colours so far and which form owns each pixel."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng = rng
        self.size = size
        self.colors = palette(rng, _PALETTE)
        self.image = texture(rng, size, self.colors[:2], _BACKGROUND_CELLS, _STRIPE_SHARE)
        self.owner = np.full((size, size), -1, dtype=np.int32)
        self.needed: list[float] = []  # per object, the visible pixels it must keep
        self.classes: list[int] = []

    def _form_colors(self) -> np.ndarray:
        """Two colours, at most one of them the background's."""
        first = self.rng.integers(_PALETTE)
        second = self.rng.integers(2, _PALETTE)
        while second == first:
            second = self.rng.integers(2, _PALETTE)
        return self.colors[[first, second]]

    def place(self, make: FormMaker, kind: int, radii: tuple[float, float], spread: float) -> bool:
        """Try to add one form on top of what is there.

        Args:
            make: draws the form.
            kind: class index, or `_DISTRACTOR`.
            radii: range of the radius relative to the image side.
            spread: range of the centre around the image's centre, relative to the side.

        Returns:
            Whether a place was found that leaves every object visible enough.
        """
        outline = make(self.rng)
        for _ in range(_TRIES):
            radius = float(np.exp(self.rng.uniform(*np.log(radii)))) * self.size
            x, y = self.size * (0.5 + spread * self.rng.uniform(-0.5, 0.5, 2))
            form = transform(outline, radius, self.rng.uniform(0, 2 * np.pi), (x, y))
            cover = coverage(form, self.size)
            needed = max(_MIN_VISIBLE * form_area(form), _MIN_AREA * self.size**2)
            if self._fits(cover >= 0.5, needed):
                self._paint(cover, kind, needed, radius)
                return True
        return False

    def _fits(self, inside: np.ndarray, needed: float) -> bool:
        """Whether the new form and all objects below it stay visible enough."""
        left = self.owner[~inside]
        kept = np.bincount(left[left >= 0], minlength=len(self.needed))
        return bool(inside.sum() >= needed and np.all(kept >= self.needed))

    def _paint(self, cover: np.ndarray, kind: int, needed: float, radius: float) -> None:
        inside = cover >= 0.5
        surface = texture(self.rng, self.size, self._form_colors(), _FORM_CELLS, _STRIPE_SHARE)
        surface *= light(self.rng, self.size, _LIGHT)
        strength = self.rng.uniform(*_RIM_STRENGTH)
        surface *= rim_shading(inside, _RIM_WIDTH * radius, strength)
        self.image += cover[..., None] * (surface - self.image)
        if kind == _DISTRACTOR:
            self.owner[inside] = _DISTRACTOR
            return
        self.owner[inside] = len(self.classes)
        self.classes.append(kind)
        self.needed.append(needed)

    def finish(self) -> Scene:
        """Light the whole picture and read off the masks."""
        image = self.image * light(self.rng, self.size, _LIGHT)
        pixels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
        masks = self.owner[None] == np.arange(len(self.classes))[:, None, None]
        return Scene(pixels, masks, tuple(self.classes))


def _draw_salient(painter: _Painter) -> None:
    makers = list(SALIENT_FORMS.values())
    make = makers[int(painter.rng.integers(len(makers)))]
    while not painter.place(make, 0, _SALIENT_RADIUS, spread=0.1):
        pass


def _draw_objects(painter: _Painter) -> None:
    rng = painter.rng
    makers: Sequence[FormMaker] = list(OBJECT_FORMS.values())
    distractors = list(DISTRACTOR_FORMS.values())
    kinds = [int(rng.integers(len(makers))) for _ in range(rng.integers(*_OBJECTS, endpoint=True))]
    kinds += [_DISTRACTOR] * int(rng.integers(*_DISTRACTORS, endpoint=True))
    for kind in rng.permutation(kinds):
        if kind == _DISTRACTOR:
            make = distractors[int(rng.integers(len(distractors)))]
        else:
            make = makers[kind]
        painter.place(make, int(kind), _RADIUS, spread=_SPREAD)
    while not painter.classes:
        kind = int(rng.integers(len(makers)))
        painter.place(makers[kind], kind, _RADIUS, spread=_SPREAD)


def draw_scene(seed: int, split: str, index: int, size: int) -> Scene:
    """Draw one image; the same arguments give the same image.

    Args:
        seed: the dataset's seed, >= 0.
        split: one of `SPLITS`.
        index: number of the image in its split, >= 0.
        size: image side in pixels.

    Returns:
        The scene; salient scenes hold exactly one object, the others one to five.
    """
    painter = _Painter(np.random.default_rng([seed, SPLITS.index(split), index]), size)
    if split == "salient":
        _draw_salient(painter)
    else:
        _draw_objects(painter)
    return painter.finish()
