"""A decoder that ends at the finest map."""

import torch
from detectron2.layers import ShapeSpec

from wsis.layers.top_down import TopDown

SHAPES = {"fine": ShapeSpec(channels=3, stride=2), "mid": ShapeSpec(channels=5, stride=4)}
SHAPES["coarse"] = ShapeSpec(channels=2, stride=16)


def maps(height=33, width=20):
    return {
        name: torch.randn(2, s.channels, -(-height // s.stride), -(-width // s.stride))
        for name, s in SHAPES.items()
    }


def test_every_map_and_every_parameter_counts_whatever_the_size():
    decoder, given = TopDown(SHAPES, 4), maps()
    for each in given.values():
        each.requires_grad_()
    out = decoder(given)
    assert out.shape == (2, 4, 17, 10)
    out.square().sum().backward()
    assert all(each.grad.any() for each in given.values())
    assert all(parameter.grad is not None for parameter in decoder.parameters())


@torch.no_grad()
def test_the_order_of_the_maps_is_that_of_their_strides():
    decoder, given = TopDown(SHAPES, 4).eval(), maps(32, 32)
    turned = TopDown(dict(reversed(SHAPES.items())), 4).eval()
    turned.load_state_dict(decoder.state_dict())
    assert torch.equal(decoder(given), turned(dict(reversed(given.items()))))


@torch.no_grad()
def test_coarse_maps_are_enlarged_and_added():
    """With 1x1 and 3x3 identities what is left is the sum of what each map has, enlarged."""
    names = ("fine", "coarse")
    decoder = TopDown(
        {name: ShapeSpec(1, stride=s) for name, s in zip(names, (1, 2), strict=True)}, 1
    )
    for block in (*decoder.lateral, *decoder.smooth):
        torch.nn.init.dirac_(block[0].weight)
    given = {"fine": torch.rand(1, 1, 6, 8), "coarse": torch.rand(1, 1, 3, 4)}
    enlarged = torch.nn.functional.interpolate(given["coarse"], scale_factor=2, mode="bilinear")
    found = decoder.eval()(given)
    assert torch.allclose(found, given["fine"] + enlarged, rtol=1e-4)
