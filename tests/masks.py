"""Masks that tests draw, and what they are marked by."""

from importlib.util import find_spec

import numpy as np
import pytest

needs_crf = pytest.mark.skipif(find_spec("pydensecrf") is None, reason="no CRF")


def rectangle(shape: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """(H, W) bool, True in columns x0 to x1 and rows y0 to y1, the ends excluded."""
    mask = np.zeros(shape, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """IoU of two masks, arrays or tensors."""
    return float((first & second).sum() / (first | second).sum())
