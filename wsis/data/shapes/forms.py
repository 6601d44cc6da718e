"""Outlines of the forms that are drawn: closed contours in a form's own coordinates.

A form is a list of contours, each a (K, 2) float64 array of (x, y) points; pixels are inside by the
even-odd rule, so a second contour makes a hole. Forms are roughly within the unit disc around the
origin; placing, turning and scaling them is the scene's business.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Form = list[np.ndarray]
FormMaker = Callable[[np.random.Generator], Form]

_CURVE_POINTS = 48


def transform(form: Form, radius: float, angle: float, center: tuple[float, float]) -> Form:
    """Scale, turn and move a form.

    Args:
        form: contours in their own coordinates.
        radius: factor from the form's coordinates to pixels.
        angle: rotation in radians.
        center: (x, y) in pixels where the form's origin goes.

    Returns:
        The contours in pixels.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, sin], [-sin, cos]])
    return [radius * (contour @ rotation) + np.asarray(center) for contour in form]


def _circle(radius_x: float, radius_y: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, _CURVE_POINTS, endpoint=False)
    return np.stack([radius_x * np.cos(angles), radius_y * np.sin(angles)], axis=1)


def _polygon(rng: np.random.Generator, corners: int) -> np.ndarray:
    """A convex polygon: jittered corners on an ellipse."""
    angles = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.25, 0.25, corners)) / corners
    return np.stack([np.cos(angles), rng.uniform(0.65, 1.0) * np.sin(angles)], axis=1)


def _thick_line(spine: np.ndarray, half_width: float | np.ndarray) -> np.ndarray:
    """The outline of a line of points (K, 2) drawn with a pen of the given half width."""
    tangent = np.gradient(spine, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    offset = normal * np.broadcast_to(half_width, len(spine))[:, None]
    return np.concatenate([spine + offset, (spine - offset)[::-1]])


def pebble(rng: np.random.Generator) -> Form:
    """Convex: an ellipse, or a polygon of 4 to 7 corners."""
    if rng.random() < 0.5:
        return [_circle(1.0, rng.uniform(0.65, 1.0))]
    return [_polygon(rng, int(rng.integers(4, 8)))]


def star(rng: np.random.Generator) -> Form:
    """A star of 4 to 7 points."""
    points = int(rng.integers(4, 8))
    angles = np.pi * np.arange(2 * points) / points
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, rng.uniform(0.35, 0.5))
    return [np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)]


def crescent(rng: np.random.Generator) -> Form:
    """A disc from whose side a second, shifted disc is cut."""
    shift, cut = rng.uniform(0.45, 0.6), rng.uniform(0.75, 0.9)
    # The circles meet at angle `half` of the large one and `cut_half` of the small one.
    cos_half = (1 + shift**2 - cut**2) / (2 * shift)
    half = np.arccos(cos_half)
    cut_half = np.arctan2(np.sin(half), cos_half - shift)
    outer = np.linspace(half, 2 * np.pi - half, _CURVE_POINTS)
    inner = np.linspace(2 * np.pi - cut_half, cut_half, _CURVE_POINTS)[1:-1]
    arc = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    bite = np.stack([shift + cut * np.cos(inner), cut * np.sin(inner)], axis=1)
    return [np.concatenate([arc, bite])]


def ring(rng: np.random.Generator) -> Form:
    """A disc, ellipse or polygon with a round hole."""
    outer = pebble(rng)[0]
    inradius = np.abs(outer).max(axis=0).min()
    return [outer, _circle(1.0, 1.0) * inradius * rng.uniform(0.45, 0.6)]


def bar(rng: np.random.Generator) -> Form:
    """An elongated, slightly bent bar or spindle."""
    along = np.linspace(-1, 1, _CURVE_POINTS // 2)
    spine = np.stack([along, rng.uniform(-0.2, 0.2) * (1 - along**2)], axis=1)
    half_width = rng.uniform(0.15, 0.26)
    if rng.random() < 0.5:
        return [_thick_line(spine, half_width)]
    return [_thick_line(spine, half_width * np.sqrt(1.02 - along**2))]


def lobes(rng: np.random.Generator) -> Form:
    """Distractor: an amoeba with two or three deep, uneven, rounded lobes."""
    angles = np.linspace(0, 2 * np.pi, 2 * _CURVE_POINTS, endpoint=False)
    phase = rng.uniform(0, 2 * np.pi, 2)
    count = int(rng.integers(2, 4))
    radii = 0.6 + 0.28 * np.cos(count * angles + phase[0]) + 0.12 * np.cos(angles + phase[1])
    return [np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)]


def squiggle(rng: np.random.Generator) -> Form:
    """Distractor: a thick wavy line of one and a half to two and a half waves."""
    along = np.linspace(-1, 1, 2 * _CURVE_POINTS)
    wave = 0.35 * np.sin(np.pi * rng.uniform(1.5, 2.5) * along + rng.uniform(0, 2 * np.pi))
    return [_thick_line(np.stack([along, wave], axis=1), rng.uniform(0.09, 0.14))]


def cross(rng: np.random.Generator) -> Form:
    """Salient form: a plus sign."""
    w = rng.uniform(0.2, 0.38)
    quarter = np.array([[1.0, -w], [1.0, w], [w, w]])
    turns = [np.array([[0, 1], [-1, 0]]), np.array([[-1, 0], [0, -1]]), np.array([[0, -1], [1, 0]])]
    return [np.concatenate([quarter, *(quarter @ turn for turn in turns)])]


def heart(rng: np.random.Generator) -> Form:
    """Salient form: a heart."""
    t = np.linspace(0, 2 * np.pi, 2 * _CURVE_POINTS, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    stretch = rng.uniform(0.8, 1.1)
    return [np.stack([16 * np.sin(t) ** 3, -stretch * y], axis=1) / 17]


def arrow(rng: np.random.Generator) -> Form:
    """Salient form: an arrow."""
    shaft, head, neck = rng.uniform(0.15, 0.3), rng.uniform(0.55, 0.8), rng.uniform(-0.1, 0.3)
    upper = np.array([[-1.0, shaft], [neck, shaft], [neck, head]])
    return [np.concatenate([upper, [[1.0, 0.0]], upper[::-1] * [1, -1]])]


def hourglass(rng: np.random.Generator) -> Form:
    """Salient form: two triangles that meet in a narrow waist."""
    waist, end = rng.uniform(0.1, 0.25), rng.uniform(0.55, 0.8)
    side = np.array([[-0.85, end], [0.0, waist], [0.85, end]])
    return [np.concatenate([side, side[::-1] * [1, -1]])]


def corner(rng: np.random.Generator) -> Form:
    """Salient form: a letter L."""
    w, length = rng.uniform(0.35, 0.6), rng.uniform(0.9, 1.6)
    outline = np.array([[0, 0], [length, 0], [length, w], [w, w], [w, 1.6], [0, 1.6]])
    return [outline - [length / 2.5, 0.6]]


OBJECT_FORMS: dict[str, FormMaker] = {
    "pebble": pebble,
    "star": star,
    "crescent": crescent,
    "ring": ring,
    "bar": bar,
}
DISTRACTOR_FORMS: dict[str, FormMaker] = {"lobes": lobes, "squiggle": squiggle}
SALIENT_FORMS: dict[str, FormMaker] = {
    "cross": cross,
    "heart": heart,
    "arrow": arrow,
    "hourglass": hourglass,
    "corner": corner,
}
