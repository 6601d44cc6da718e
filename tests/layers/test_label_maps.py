import numpy as np
import pytest
import torch

from wsis.layers.label_maps import labels_from_maps, mean_over_scales


def test_highest_map_wins():
    maps = np.array([[[0.9, 0.2, 0.5, 0.5]], [[0.1, 0.3, 0.5, 0.6]]])
    labels = labels_from_maps(maps, np.array([3, 7]), background=0.4)
    np.testing.assert_array_equal(labels, [[3, 0, 3, 7]])
    ties = labels_from_maps(maps, np.array([3, 7]), background=np.array([[0.9, 0.1, 0.2, 0.7]]))
    np.testing.assert_array_equal(ties, [[0, 7, 3, 0]])


def test_no_class_is_all_background():
    labels = labels_from_maps(np.zeros((0, 2, 3)), np.zeros(0, int), background=0.0)
    np.testing.assert_array_equal(labels, np.zeros((2, 3)))


def test_mirrored_scales_are_turned_back():
    ramp = torch.arange(5.0).expand(1, 2, 3, 5)
    out = mean_over_scales([ramp, ramp.flip(-1)], [False, True], (3, 5), align_corners=True)
    torch.testing.assert_close(out, ramp)
    wide = mean_over_scales([ramp, ramp], [False, False], (6, 9), align_corners=True)
    torch.testing.assert_close(wide[0, 0, 0], torch.linspace(0, 4, 9))
    half = mean_over_scales([ramp], [False], (3, 10), align_corners=False)
    assert half[0, 0, 0, 1].item() == pytest.approx(0.25)
