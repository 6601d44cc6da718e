"""Measured errors beside their tolerances."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
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


def _compare(
    name: str,
    got: ArrayLike,
    expected: ArrayLike,
    tolerance: float,
    measure: Callable[[np.ndarray, np.ndarray], float],
) -> Comparison:
    """What a measure says of two arrays; infinite, and the shapes in the name, where these differ."""
    a, b = (np.asarray(v.detach() if isinstance(v, torch.Tensor) else v) for v in (got, expected))
    if a.shape != b.shape:
        return Comparison(f"{name} {a.shape}, expected {b.shape}", math.inf, tolerance)
    return Comparison(name, float(measure(a, b)), tolerance)


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|, 0 where both are the same infinity or both NaN."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    return np.abs(np.subtract(x, y, out=np.zeros_like(x), where=~same))


def absolute(name: str, got: ArrayLike, expected: ArrayLike, tolerance: float) -> Comparison:
    """Largest |got - expected|; NaN must stand where NaN is expected."""
    return _compare(name, got, expected, tolerance, lambda a, b: _difference(a, b).max(initial=0.0))


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

    def measure(a: np.ndarray, b: np.ndarray) -> float:
        allowed = atol + rtol * np.abs(b.astype(np.float64))
        allowed = np.where(np.isfinite(allowed), allowed, 1.0)
        return (_difference(a, b) / allowed).max(initial=0.0)

    return _compare(name, got, expected, 1.0, measure)


def share(name: str, got: ArrayLike, expected: ArrayLike, tolerance: float) -> Comparison:
    """Share of elements that differ."""
    return _compare(
        name, got, expected, tolerance, lambda a, b: np.count_nonzero(a != b) / max(a.size, 1)
    )


def exact(name: str, got: ArrayLike, expected: ArrayLike) -> Comparison:
    """Number of elements that differ, none allowed."""
    return _compare(name, got, expected, 0, lambda a, b: np.count_nonzero(a != b))


def each(
    arrays: Mapping[str, np.ndarray],
    found: Mapping[str, ArrayLike],
    how: Callable[..., Comparison] = exact,
    *tolerance: float,
    case: str = "{}",
) -> Iterator[Comparison]:
    """Comparisons of many arrays of a file.

    Args:
        arrays: of the file.
        found: what they should be, by name.
        how: exact, close and the others here, and their tolerance.
        case: for the names, ``{}_7`` for what the file names ``mask_7``.
    """
    for name, value in found.items():
        name = case.format(name)
        yield how(name, value, arrays[name], *tolerance)
