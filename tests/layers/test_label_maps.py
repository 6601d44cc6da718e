import numpy as np
import pytest
import torch

from tests.golden.reference import labels_from_maps
from wsis.layers.label_maps import mean_over_scales


def test_highest_map_wins_and_no_class_is_all_background():
    maps = np.array([[[0.9, 0.2, 0.5, 0.5]], [[0.1, 0.3, 0.5, 0.6]]])
    varied = np.array([[0.9, 0.1, 0.2, 0.7]])
    for background, expected in ((0.4, [[3, 0, 3, 7]]), (varied, [[0, 7, 3, 0]])):
        np.testing.assert_array_equal(labels_from_maps(maps, [3, 7], background), expected)
    assert not labels_from_maps(np.zeros((0, 2, 3)), [], 0.0).any()


def test_mirrored_scales_are_turned_back():
    ramp = torch.arange(5.0).expand(1, 2, 3, 5)
    out = mean_over_scales([ramp, ramp.flip(-1)], [False, True], (3, 5), align_corners=True)
    torch.testing.assert_close(out, ramp)
    wide = mean_over_scales([ramp, ramp], [False, False], (6, 9), align_corners=True)
    torch.testing.assert_close(wide[0, 0, 0], torch.linspace(0, 4, 9))
    half = mean_over_scales([ramp], [False], (3, 10), align_corners=False)
    assert half[0, 0, 0, 1].item() == pytest.approx(0.25)
