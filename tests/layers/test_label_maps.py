import pytest
import torch

from wsis.layers.label_maps import mean_over_scales


def test_mirrored_scales_are_turned_back():
    ramp = torch.arange(5.0).expand(1, 2, 3, 5)
    out = mean_over_scales([ramp, ramp.flip(-1)], [False, True], (3, 5), align_corners=True)
    torch.testing.assert_close(out, ramp)
    wide = mean_over_scales([ramp, ramp], [False, False], (6, 9), align_corners=True)
    torch.testing.assert_close(wide[0, 0, 0], torch.linspace(0, 4, 9))
    half = mean_over_scales([ramp], [False], (3, 10), align_corners=False)
    assert half[0, 0, 0, 1].item() == pytest.approx(0.25)
