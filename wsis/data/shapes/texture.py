"""Textures and shading: what makes colour alone insufficient to find an object."""

from __future__ import annotations

import cv2
import numpy as np

GRAIN = 0.06  # standard deviation of the pixel noise


def palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw colours that differ visibly from one another.

    Args:
        rng: source of randomness.
        count: number of colours.

    Returns:
        (count, 3) float32 RGB in [0, 1]; the farthest-apart choice out of random candidates.
    """
    candidates = rng.uniform(0.1, 0.9, (4 * count, 3)).astype(np.float32)
    chosen = [0]
    for _ in range(count - 1):
        distance = np.linalg.norm(candidates[:, None] - candidates[None, chosen], axis=2)
        chosen.append(int(distance.min(axis=1).argmax()))
    return candidates[chosen]


def smooth_noise(rng: np.random.Generator, size: int, cells: float) -> np.ndarray:
    """Smooth noise of about `cells` bumps along a side.

    Args:
        rng: source of randomness.
        size: side of the map in pixels.
        cells: number of random values along a side.

    Returns:
        (size, size) float32, mean 0, standard deviation 1.
    """
    grid = rng.standard_normal((int(np.ceil(cells)) + 3,) * 2).astype(np.float32)
    scale = cells / size
    shift = rng.uniform(1.0, 2.0, 2)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], dtype=np.float64)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    noise = cv2.warpAffine(grid, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-6), dtype=np.float32)


def _stripes(rng: np.random.Generator, size: int, cells: float) -> np.ndarray:
    """Soft, slightly wavy stripes; same form and scale of result as `smooth_noise`."""
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    along = cells * (np.cos(angle) * x + np.sin(angle) * y)
    wave = np.sin(np.pi * along + phase + 0.5 * smooth_noise(rng, size, 3.0))
    return np.asarray(wave * np.sqrt(2.0), dtype=np.float32)


def texture(
    rng: np.random.Generator,
    size: int,
    colors: np.ndarray,
    cells: tuple[float, float],
    stripe_share: float,
) -> np.ndarray:
    """A smooth texture of two colours.

    Args:
        rng: source of randomness.
        size: side in pixels.
        colors: (2, 3) RGB in [0, 1].
        cells: range of the number of bumps along a side.
        stripe_share: probability of soft stripes instead of bumps, in [0, 1].

    Returns:
        (size, size, 3) float32 RGB in [0, 1].
    """
    count = float(np.exp(rng.uniform(*np.log(cells))))
    pattern = _stripes if rng.random() < stripe_share else smooth_noise
    field = pattern(rng, size, count)
    sharpness, level = rng.uniform(1.0, 2.5), rng.uniform(-0.4, 0.4)
    weight = 1.0 / (1.0 + np.exp(-sharpness * (field - level)))
    grain = GRAIN * rng.standard_normal((size, size, 1), dtype=np.float32)
    mixed = colors[0] + weight[..., None] * (colors[1] - colors[0]) + grain
    return np.asarray(mixed, dtype=np.float32)


def light(rng: np.random.Generator, size: int, strength: float) -> np.ndarray:
    """A factor that falls off evenly in a random direction.

    Args:
        rng: source of randomness.
        size: side in pixels.
        strength: largest relative change, in [0, 1].

    Returns:
        (size, size, 1) float32 around 1.
    """
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    slope = np.cos(angle) * x + np.sin(angle) * y
    return np.asarray(1.0 + 2 * strength * slope[..., None] * rng.random(), dtype=np.float32)


def rim_shading(inside: np.ndarray, width: float, strength: float) -> np.ndarray:
    """Darken a form towards its outline, as on a rounded body.

    Args:
        inside: (H, W) bool, pixels of the form.
        width: distance in pixels over which the shade fades.
        strength: relative darkening at the outline, in [0, 1].

    Returns:
        (H, W, 1) float32 factor in [1 - strength, 1].
    """
    padded = np.pad(inside, 1).astype(np.uint8)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return np.asarray(1.0 - strength * np.exp(-distance / width)[..., None], dtype=np.float32)
