"""Fully connected CRF over the pixels of one image (Kraehenbuehl and Koltun, NeurIPS 2011).

Energy of a labelling x: sum_i -log p_i(x_i) + sum_{i<j} [x_i != x_j] k(i, j) with
k(i, j) = w_s exp(-|s_i - s_j|^2 / 2 a_s^2)
        + w_b exp(-|s_i - s_j|^2 / 2 a_b^2 - |c_i - c_j|^2 / 2 a_c^2),
minimised by mean field. ``pydensecrf`` does the work; it is an extra, imported at first use.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from wsis.config.params import REQUIRED, key
from wsis.errors import ConfigError

PROBABILITY_FLOOR = 1e-5
"""Smallest probability that enters a unary energy; all published settings clip here."""


@dataclass(frozen=True)
class DenseCRFParams:
    """Kernel of the pairwise terms and number of mean-field steps.

    Attributes:
        spatial_weight: Weight w_s of the smoothness kernel.
        spatial_xy_std: Standard deviation a_s of the smoothness kernel, in pixels.
        bilateral_weight: Weight w_b of the appearance kernel.
        bilateral_xy_std: Standard deviation a_b of the appearance kernel in space, in pixels.
        bilateral_rgb_std: Standard deviation a_c of the appearance kernel in colour, on the 0..255 scale.
        iterations: Number of mean-field steps.

    Raises:
        ConfigError: a value out of its range.
    """

    spatial_weight: float = key(REQUIRED)
    spatial_xy_std: float = key(REQUIRED)
    bilateral_weight: float = key(REQUIRED)
    bilateral_xy_std: float = key(REQUIRED)
    bilateral_rgb_std: float = key(REQUIRED)
    iterations: int = key(REQUIRED)

    def __post_init__(self) -> None:
        for name in ("spatial_weight", "bilateral_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"dense CRF: {name} is {value}, expected a number of at least 0")
        for name in ("spatial_xy_std", "bilateral_xy_std", "bilateral_rgb_std"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"dense CRF: {name} is {value}, expected a number above 0")
        if self.iterations < 1:
            raise ConfigError(f"dense CRF: iterations is {self.iterations}, expected at least 1")


def load_pydensecrf() -> ModuleType:
    """The module behind the dense CRF; call it early to fail before any work.

    Raises:
        ConfigError: pydensecrf is not installed.
    """
    try:
        import pydensecrf.densecrf as module
    except ImportError as error:
        raise ConfigError(
            f"the dense CRF needs pydensecrf ({error}): `make install`, or `pip install wsis[crf]`"
        ) from error
    return module


def crf_packages(used: bool) -> tuple[str, ...]:
    """The packages by which masks are made where the dense CRF is a choice.

    Raises:
        ConfigError: it is used, and one is not installed.
    """
    if used:
        load_pydensecrf()
    return ("pydensecrf",) if used else ()


class DenseCRF:
    """The CRF of one image: pairwise terms built once, then any number of unaries.

    The pairwise terms depend on the image alone and are about half of the cost; each :meth:`infer`
    gives bit for bit what a new model would. Calls from several threads are serialised.

    Args:
        image: (H, W, 3) uint8. The kernel is symmetric in the channels, so their order matters only
            through the rounding of the lattice (up to 0.1 in single pixels); keep to RGB.
        params: kernel and number of steps.
        num_labels: K, channels of every probability map given later.

    Raises:
        ConfigError: pydensecrf is not installed.
        ValueError: the image has another shape or type, or no pixel.
    """

    def __init__(self, image: np.ndarray, params: DenseCRFParams, num_labels: int) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(
                f"image is {image.dtype} {image.shape}, expected uint8 (H, W, 3) with H, W >= 1"
            )
        if num_labels < 1:
            raise ValueError(f"num_labels is {num_labels}, expected at least 1")
        height, width = image.shape[:2]
        self._shape = (num_labels, height, width)
        self._iterations = params.iterations
        self._lock = threading.Lock()
        self._model = load_pydensecrf().DenseCRF2D(width, height, num_labels)
        self._model.addPairwiseGaussian(sxy=params.spatial_xy_std, compat=params.spatial_weight)
        self._model.addPairwiseBilateral(
            sxy=params.bilateral_xy_std,
            srgb=params.bilateral_rgb_std,
            rgbim=np.require(image, requirements=["C", "W"]),
            compat=params.bilateral_weight,
        )

    def infer(self, probabilities: np.ndarray, prob_floor: float = PROBABILITY_FLOOR) -> np.ndarray:
        """Mean-field marginals.

        Args:
            probabilities: (K, H, W) float, finite; clipped to [prob_floor, 1], need not sum to 1
                over K.
            prob_floor: smallest probability of the unary energy -log p, in (0, 1].

        Returns:
            (K, H, W) float32, sums to 1 over K.

        Raises:
            ValueError: wrong shape, or a value that is not finite.
        """
        if probabilities.shape != self._shape:
            raise ValueError(f"probabilities are {probabilities.shape}, expected {self._shape}")
        values = np.asarray(probabilities, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("probabilities hold NaN or infinity")
        unary = -np.log(values.clip(prob_floor, 1.0)).reshape(len(values), -1)
        with self._lock:
            self._model.setUnaryEnergy(np.ascontiguousarray(unary))
            marginals = np.array(self._model.inference(self._iterations), dtype=np.float32)
        return marginals.reshape(self._shape)


def dense_crf(
    image: np.ndarray,
    probabilities: np.ndarray,
    params: DenseCRFParams,
    prob_floor: float = PROBABILITY_FLOOR,
) -> np.ndarray:
    """:class:`DenseCRF` for one map of one image; any thread or process may call it.

    Args:
        image: (H, W, 3) uint8 RGB.
        probabilities: (K, H, W) float, finite, K >= 1.
        params: kernel and number of steps.
        prob_floor: smallest probability of the unary energy.

    Returns:
        (K, H, W) float32 marginals, sums to 1 over K.

    Raises:
        ConfigError: pydensecrf is not installed.
        ValueError: wrong shapes, types or values.
    """
    return DenseCRF(image, params, len(probabilities)).infer(probabilities, prob_floor)
