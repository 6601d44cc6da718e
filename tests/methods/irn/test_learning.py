"""What IRNet's losses teach: edges where labels change, and displacements to the middle of objects."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch.nn import functional

from wsis.config import get_cfg
from wsis.errors import ConfigError
from wsis.layers.random_walk import pairs_of_edges, random_walk
from wsis.methods.irn import IRN
from wsis.methods.irn.config import IRNParams
from wsis.methods.irn.network import IRNetHead
from wsis.structures.pseudo_labels import IGNORE

SIDE = 64
STRIDES = (4, 8, 16)


class Pyramid(Backbone):
    """The means of the pixels, coarser and coarser, and whether it was asked to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3, affine=False)

    def forward(self, x):
        assert not torch.is_grad_enabled() and not self.training
        return {f"p{stride}": functional.avg_pool2d(x, stride) for stride in STRIDES}

    def output_shape(self):
        return {f"p{stride}": ShapeSpec(channels=3, stride=stride) for stride in STRIDES}


def scene(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright square of class 1 or 2 on a dark ground, and its mask times its class."""
    side = int(torch.randint(24, 36, (), generator=generator))
    y, x = torch.randint(4, SIDE - side - 4, (2,), generator=generator).tolist()
    label = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    label[y : y + side, x : x + side] = 1 + y % 2
    image = 20 * torch.randn(3, SIDE, SIDE, generator=generator) + 120.0 * (label > 0)
    return image, label


def with_doubt(label: torch.Tensor) -> torch.Tensor:
    """The label without what is within 4 pixels of a change."""
    inside = (label > 0).float()[None]
    near = functional.max_pool2d(inside, 9, 1, 4) + functional.max_pool2d(-inside, 9, 1, 4)
    return torch.where(near[0] > 0, IGNORE, label)


def inputs_of(generator: torch.Generator, number: int = 8) -> list[dict[str, torch.Tensor]]:
    scenes = [scene(generator) for _ in range(number)]
    return [{"image": image, "labels": with_doubt(label)[None]} for image, label in scenes]


@pytest.fixture(scope="module")
def trained() -> tuple[IRN, list[dict[str, float]]]:
    """The network, and its losses in training."""
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(4)
    params = IRNParams(radius=5, min_side=0)
    model = IRN(backbone=Pyramid(), pixel_mean=[60.0] * 3, pixel_std=[60.0] * 3, params=params)
    optimizer, course = torch.optim.Adam(model.head.parameters(), lr=0.01), []
    for _ in range(120):
        losses = model.train()(inputs_of(generator))
        course.append({name: loss.item() for name, loss in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return model.eval(), course


def test_the_loss_of_affinities_falls(trained) -> None:
    first, *_, last = trained[1]
    assert set(last) == {"loss_affinity", "loss_displacement"}
    assert last["loss_affinity"] < 0.25 * first["loss_affinity"]


@pytest.mark.parametrize("seed", range(10, 14))
def test_edges_hold_a_walk_inside_the_object(trained, seed: int) -> None:
    model, (image, label) = trained[0], scene(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        edge, _ = model.maps(model.normalise(image))
    share = (label > 0).view(16, 4, 16, 4).float().mean(dim=(1, 3))
    scores, (rows, columns) = torch.zeros(1, 16, 16), (share == 1).nonzero().T
    scores[0, rows.min() : rows.min() + 3, columns.min() : columns.min() + 3] = 1
    walked = random_walk(scores * (1 - edge), pairs_of_edges(edge, 5), 5, 10, 256)[0]
    before, after = (
        ((found & (share > 0.5)).sum() / (found | (share > 0.5)).sum()).item()
        for found in (scores[0] > 0, walked > 0.22 * walked.max())
    )
    assert before < 0.3 and after > max(0.5, 2 * before), (before, after)


def test_the_mean_displacement_is_followed_and_left_out(trained) -> None:
    model, shift = trained[0], trained[0].head.mean_shift
    assert shift.running_mean.abs().max() > 0.01
    image = inputs_of(torch.Generator().manual_seed(7), 1)[0]["image"]
    with torch.no_grad():
        with_shift = model.maps(image)[1]
        plain = with_shift + shift.running_mean[:, None, None]
        shift.running_mean.zero_()
        torch.testing.assert_close(model.maps(image)[1], plain)


def test_what_learns_and_how_fast(trained) -> None:
    cfg = get_cfg()
    cfg.SOLVER.update(BASE_LR=0.1, WEIGHT_DECAY=1e-4)
    model = trained[0]
    groups = model.parameter_groups(cfg)
    assert [group["lr"] for group in groups] == pytest.approx([0.1, 1.0])
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [{names[id(each)].split(".")[1] for each in group["params"]} for group in groups]
    assert found == [{"edge_levels", "edge"}, {"displacement_levels", "coarse", "displacement"}]
    assert sum(len(group["params"]) for group in groups) == len(list(model.head.parameters()))
    model.train()
    assert not model.backbone.training and not any(
        p.requires_grad for p in model.backbone.parameters()
    )
    model.eval()


@pytest.mark.parametrize("size", [(16, 16), (37, 50), (64, 63)])
@pytest.mark.parametrize("min_side", [0, 64])
def test_any_size_has_cells_of_stride_4(size: tuple[int, int], min_side: int) -> None:
    params = IRNParams(min_side=min_side)
    model = IRN(backbone=Pyramid(), pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3, params=params)
    with torch.no_grad():
        edge, displacement = model.eval().maps(torch.rand(3, *size))
    cells = tuple(-(-side // 4) for side in size)
    assert edge.shape == cells and displacement.shape == (2, *cells) and edge.isfinite().all()


@pytest.mark.parametrize("strides", [(8, 16), (4, 4), (4,), (4, 4, 4, 8), (8, 4), (2, 4, 8)])
def test_maps_that_cannot_be_joined_are_refused(strides: tuple[int, ...]) -> None:
    shapes = {f"p{i}": ShapeSpec(channels=3, stride=stride) for i, stride in enumerate(strides)}
    with pytest.raises(ConfigError, match="expected rising ones: one or two of 4"):
        IRNetHead(shapes)
