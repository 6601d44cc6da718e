import math

import torch
from detectron2.modeling.box_regression import Box2BoxTransform

from tests.golden.reference import encode
from wsis.methods.bbam.box_coder import clip_inclusive, decode


def boxes():
    generator = torch.Generator().manual_seed(0)
    near, side = torch.rand((2, 20, 2), generator=generator, dtype=torch.float64)
    corners = torch.cat([50 * near, 50 * near + 60 * side], dim=1)
    return corners[:10], corners[10:]


def test_is_detectron2s_coder_on_boxes_one_larger():
    larger, (first, second) = torch.tensor([0.0, 0.0, 1.0, 1.0]), boxes()
    theirs = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    expected = theirs.get_deltas(first + larger, second + larger)
    torch.testing.assert_close(encode(second, first), expected)
    deltas = torch.randn(10, 12, dtype=torch.float64)
    expected = theirs.apply_deltas(deltas, first + larger) - larger.repeat(3)
    assert decode(deltas, first).dtype == torch.float64  # theirs is float32 whatever it gets
    torch.testing.assert_close(decode(deltas, first).float(), expected.float())


def test_growth_is_limited():
    x0, _, x1, y1 = decode(torch.tensor([[0.0, 0, 1e6, 0]]), torch.tensor([[0.0, 0, 15, 15]]))[0]
    assert math.isclose(x1 - x0 + 1, 1000, rel_tol=1e-5) and math.isclose(y1, 15.0)


def test_clipping_makes_a_new_tensor():
    given = torch.tensor([[-5.0, 3.0, 200.0, 50.0, 4.0, -1.0, 9.0, 300.0]])
    before = given.clone()
    assert clip_inclusive(given, 90, 120).tolist() == [[0, 3, 119, 50, 4, 0, 9, 89]]
    assert given.equal(before)
