"""Score maps as pictures: where which class is, how strongly, and what it is called."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wsis.report.class_pictures import class_colours, scores_on, scores_picture, with_names
from wsis.structures import ScoreMaps

GREY = np.full((40, 60, 3), 100, dtype=np.uint8)


@pytest.mark.parametrize(("grid", "stride"), [((40, 60), 1), ((5, 8), 8), ((3, 5), 0)])
def test_scores_lie_where_those_of_the_image_do(grid, stride) -> None:
    scores = torch.rand(2, *grid, generator=torch.Generator().manual_seed(1)).numpy()
    maps = ScoreMaps([1, 4], scores, 40, 60, stride)
    np.testing.assert_allclose(scores_on(maps, 40, 60), maps.enlarged(), atol=1e-6)
    small = scores_on(maps, 20, 30)
    assert small.shape == (2, 20, 30) and np.abs(small.mean() - scores.mean()) < 0.05


def test_the_best_class_shows_as_strongly_as_its_share_of_its_maximum() -> None:
    scores = np.zeros((3, 40, 60))
    scores[0] = 9  # background, which is not shown
    scores[1, :, :20], scores[1, :, 20:40] = 0.5, 0.25
    scores[2, :, 40:] = 2
    picture = scores_picture(GREY, ScoreMaps([0, 1, 2], scores, 40, 60)).astype(int)
    strong, weak, other = picture[20, 5], picture[20, 30], picture[20, 55]
    red, green = class_colours([1, 2]).astype(int)
    assert np.abs(strong - (25 + 0.75 * red)).max() <= 1
    assert np.abs(other - (25 + 0.75 * green)).max() <= 1
    assert np.abs(weak - (strong + 80) / 2).max() <= 1


def test_without_classes_there_is_the_image_in_grey() -> None:
    for maps in (ScoreMaps.of_nothing(40, 60), ScoreMaps([0], np.ones((1, 1, 1)), 40, 60, 0)):
        assert (scores_picture(GREY, maps) == 100).all()
    assert np.isfinite(scores_picture(GREY, ScoreMaps([1], np.zeros((1, 2, 2)), 40, 60, 0))).all()


def test_names_stand_in_the_corner_one_below_the_other() -> None:
    names = ["cat", "dog", "Käse"]
    one, two = with_names(GREY, [0, 3, 255], names), with_names(GREY, [3, 1], names)
    assert (one[1, 1] == class_colours([3])[0]).all() and (two[1, 1] == class_colours([1])[0]).all()
    assert (one[16:] == 100).all() and (two[15, 1] == class_colours([3])[0]).all()
    assert with_names(GREY, [0, 255], names) is GREY
    many = with_names(GREY, range(1, 30), [f"c{i}" for i in range(29)])
    assert many.shape == GREY.shape and (with_names(GREY, [7], names) != GREY).any()
