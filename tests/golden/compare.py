"""Measured errors beside their tolerances."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Comparison:
    """One error.

    Attributes:
        name: what was compared.
        error: measured, at least 0; infinite for another shape, NaN where a number is missing.
        tolerance: largest error that passes.
    """

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within the tolerance."""
        return self.error <= self.tolerance

    @property
    def badness(self) -> float:
        """Error in units of the tolerance, infinite for any error where none is allowed."""
        if not self.error >= 0:
            return math.inf
        if self.tolerance > 0:
            return self.error / self.tolerance
        return math.inf if self.error else 0.0

    def __str__(self) -> str:
        sign = "<=" if self.passed else ">"
        return f"{self.name}: {self.error:.2g} {sign} {self.tolerance:.2g}"


def _pair(name: str, got: ArrayLike, expected: ArrayLike) -> tuple[str, np.ndarray, np.ndarray]:
    """Both as arrays, and the name with the shapes in it where these differ."""
    a, b = np.asarray(got), np.asarray(expected)
    return (name if a.shape == b.shape else f"{name} {a.shape}, expected {b.shape}"), a, b


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|, 0 where both are the same infinity or both NaN."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    return np.abs(np.subtract(x, y, out=np.zeros_like(x), where=~same))


def absolute(name: str, got: ArrayLike, expected: ArrayLike, tolerance: float) -> Comparison:
    """Largest |got - expected|; NaN must stand where NaN is expected."""
    name, a, b = _pair(name, got, expected)
    error = float(_difference(a, b).max(initial=0.0)) if a.shape == b.shape else math.inf
    return Comparison(name, error, tolerance)


def relative(name: str, got: ArrayLike, expected: ArrayLike, tolerance: float) -> Comparison:
    """Largest |got - expected| over the largest |expected|."""
    plain = absolute(name, got, expected, tolerance)
    values = np.abs(np.asarray(expected, dtype=np.float64))
    scale = float(values[np.isfinite(values)].max(initial=0.0))
    return Comparison(plain.name, plain.error / scale if scale else plain.error, tolerance)


def close(
    name: str, got: ArrayLike, expected: ArrayLike, rtol: float = 1e-4, atol: float = 1e-5
) -> Comparison:
    """Largest |got - expected| / (atol + rtol |expected|), which must not exceed 1."""
    name, a, b = _pair(name, got, expected)
    if a.shape != b.shape:
        return Comparison(name, math.inf, 1.0)
    allowed = atol + rtol * np.abs(b.astype(np.float64))
    allowed = np.where(np.isfinite(allowed), allowed, 1.0)
    return Comparison(name, float((_difference(a, b) / allowed).max(initial=0.0)), 1.0)


def share(name: str, got: ArrayLike, expected: ArrayLike, tolerance: float) -> Comparison:
    """Share of elements that differ."""
    name, a, b = _pair(name, got, expected)
    if a.shape != b.shape:
        return Comparison(name, math.inf, tolerance)
    return Comparison(name, float(np.count_nonzero(a != b) / max(a.size, 1)), tolerance)


def exact(name: str, got: ArrayLike, expected: ArrayLike) -> Comparison:
    """Number of elements that differ, none allowed."""
    name, a, b = _pair(name, got, expected)
    return Comparison(name, float(np.count_nonzero(a != b)) if a.shape == b.shape else math.inf, 0)
