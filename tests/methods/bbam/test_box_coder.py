import math

import torch
from detectron2.modeling.box_regression import Box2BoxTransform

from wsis.methods.bbam.box_coder import clip_inclusive, decode, encode


def boxes(number=20):
    generator = torch.Generator().manual_seed(0)
    near = 50 * torch.rand((number, 2), generator=generator, dtype=torch.float64)
    far = near + 60 * torch.rand((number, 2), generator=generator, dtype=torch.float64)
    return torch.cat([near, far], dim=1)


def test_decode_undoes_encode_for_every_class():
    first, second = boxes()[:10], boxes()[10:]
    deltas = torch.cat([encode(second, first), encode(first, first)], dim=1)
    decoded = decode(deltas, first)
    torch.testing.assert_close(decoded[:, :4], second)
    torch.testing.assert_close(decoded[:, 4:], first)


def test_is_detectron2s_coder_on_boxes_one_larger():
    larger = torch.tensor([0.0, 0.0, 1.0, 1.0])
    first, second = boxes()[:10], boxes()[10:]
    theirs = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    torch.testing.assert_close(
        encode(second, first), theirs.get_deltas(first + larger, second + larger)
    )
    deltas = torch.randn(10, 12, dtype=torch.float64)
    expected = theirs.apply_deltas(deltas, first + larger) - larger.repeat(3)
    assert decode(deltas, first).dtype == torch.float64  # theirs is float32 whatever it gets
    torch.testing.assert_close(decode(deltas, first).float(), expected.float())


def test_growth_is_limited():
    decoded = decode(torch.tensor([[0.0, 0.0, 1e6, 0.0]]), torch.tensor([[0.0, 0.0, 15.0, 15.0]]))
    assert math.isclose(float(decoded[0, 2] - decoded[0, 0] + 1), 1000, rel_tol=1e-5)
    assert math.isclose(float(decoded[0, 3]), 15.0)


def test_clipping_makes_a_new_tensor():
    given = torch.tensor([[-5.0, 3.0, 200.0, 50.0, 4.0, -1.0, 9.0, 300.0]])
    before = given.clone()
    clipped = clip_inclusive(given, 90, 120)
    assert clipped.tolist() == [[0, 3, 119, 50, 4, 0, 9, 89]]
    assert given.equal(before)
