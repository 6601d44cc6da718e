"""Slips that are easily made in the methods of image tags: the recorded values of the releases tell them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.nn import functional

from tests.golden import checks_optimizers
from tests.golden.frame import choose, load_checks, read_arrays
from wsis.layers import seeds
from wsis.layers.feature_similarity import feature_similarity_loss
from wsis.methods.icam import losses

DATA = Path(__file__).parent / "golden" / "data"
COURSE, MEAN_OVER_SCALES = checks_optimizers.course, seeds.mean_over_scales


def with_momentum(*args: Any) -> Any:
    return COURSE(*args[:-1], 0.9)


def corners_on_corners(*args: Any, **options: Any) -> Any:
    return MEAN_OVER_SCALES(*args, **options | {"align_corners": True})


def with_drawn_background(probabilities: Any, tags: Any, pixels: Any) -> Any:
    drawn = probabilities.flatten(2).gather(2, pixels)
    targets = losses.with_background(tags)[:, :, None].expand_as(drawn)
    return losses.tag_loss(losses.probability_logit(drawn), targets)


def without_weight(params: Any, y: Any, colours: Any) -> Any:
    return feature_similarity_loss(y, colours, params.mu, params.sigma)


STAGE1 = "icam/stage1_loss_default"
SLIPS: list[tuple[str, Any, str, Callable[..., Any], set[str]]] = [
    ("bas/poly_optimizer", checks_optimizers, "course", with_momentum, {"traj_w", "traj_v"}),
    ("icam/poly_optimizer", checks_optimizers, "course", with_momentum, {"params"}),
    (
        "bas/wsss_cam_fusion",
        seeds,
        "mean_over_scales",
        corners_on_corners,
        {"strided", "high_res"},
    ),
    (STAGE1, losses, "sampled_importance_loss", with_drawn_background, {"loss"}),
    (STAGE1, losses.Maps, "probabilities", lambda maps: maps, {"loss_er", "loss_ecr"}),
    (STAGE1, losses.SimilarityParams, "loss", without_weight, {"loss_fs", "loss"}),
    (STAGE1, losses, "with_background", lambda tags: functional.pad(tags, (1, 0)), {"loss"}),
]


def failing(name: str) -> set[str]:
    """The recorded arrays of a file that are not met."""
    arrays = read_arrays(DATA / f"{name}.npz")
    folder, file = name.split("/")
    check = choose(load_checks(), f"{file}.npz", folder, arrays)
    return {found.name for found in check.run(arrays) if not found.passed}


@pytest.mark.parametrize(("name", "where", "what", "slip", "told"), SLIPS)
def test_a_slip_is_told(monkeypatch, name, where, what, slip, told):
    assert failing(name) == set()
    monkeypatch.setattr(where, what, slip)
    assert told <= failing(name)
