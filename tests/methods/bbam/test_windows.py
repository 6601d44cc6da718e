"""Windows of the image around boxes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from wsis.methods.bbam.explainer import ExplainerParams, explain
from wsis.methods.bbam.losses import ObjectiveParams
from wsis.methods.bbam.perturb import MaskBatch
from wsis.methods.bbam.targets import Target
from wsis.methods.bbam.windows import Window, cut, same_size, shift, window_of

PAIR = [[40.0, 70, 60, 90], [50, 65, 75, 80]]
POINT = [64.0, 64, 64, 64]


@pytest.mark.parametrize(
    ("proposals", "box", "context", "size", "window"),
    [
        (PAIR, [45.0, 68, 66, 101], 0, (256, 256), (32, 64, 64, 64)),
        (PAIR, [45.0, 68, 66, 101], 30, (256, 256), (0, 32, 128, 128)),
        ([[1.0, 90, 5, 100]], [1.0, 90, 5, 100], 1000, (100, 70), (0, 0, 128, 96)),  # padded
        ([POINT], POINT, 0, (128, 128), (64, 64, 32, 32)),  # never empty
        ([POINT], POINT, 24, (128, 128), (32, 32, 64, 64)),
    ],
)
def test_a_window_holds_box_proposals_and_context_on_the_networks_grid(
    proposals, box, context, size, window
):
    found = window_of(torch.tensor(proposals), torch.tensor(box), context, size, 32)
    assert found == Window(*window)


def test_windows_of_a_batch_grow_at_their_far_edges():
    grown = same_size([Window(32, 0, 64, 32), Window(0, 64, 32, 96)])
    assert grown == [Window(32, 0, 64, 96), Window(0, 64, 64, 96)]


def test_cut_shows_the_image_and_nothing_beyond_it_and_proposals_move():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    parts = cut(image, [Window(2, 1, 4, 4), Window(0, 0, 4, 4)])
    assert parts.shape == (2, 1, 4, 4)
    assert torch.equal(parts[0, 0, :2, :2], image[0, 0, 1:, 2:])
    assert parts[0].sum() == image[0, 0, 1:, 2:].sum()
    assert torch.equal(parts[1, 0, :3], image[0, 0])
    moved = shift(torch.tensor([[40.0, 70, 60, 90]]), Window(32, 64, 32, 32))
    assert moved.tolist() == [[8, 6, 28, 26]]


def test_masks_of_windows_are_parts_of_the_upsampled_masks():
    masks = [torch.rand(5, 7), torch.rand(3, 4)]
    windows = [Window(32, 0, 32, 64), Window(64, 32, 32, 64)]
    whole = MaskBatch(masks, 60, 100).upsample()
    parts = MaskBatch(masks, 60, 100, windows).upsample()
    assert torch.allclose(parts, cut(whole, windows), atol=1e-6)


class Local(nn.Module):
    """A network that sees no further than three pixels, and for which hidden pixels are 0."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1, bias=False, dtype=torch.float64)

    def forward(self, images, proposals):
        hidden = functional.relu(self.conv(images))
        maps = functional.conv2d(hidden, self.conv.weight[:, :2], padding=1)
        logits = torch.stack(
            [
                values[:, y0:y1, x0:x1].mean(dim=(1, 2))
                for values, boxes in zip(maps, proposals, strict=True)
                for x0, y0, x1, y1 in boxes.long().tolist()
            ]
        )
        return logits, torch.cat([logits, logits], dim=1)


def test_a_network_without_biases_gives_the_same_masks_in_windows():
    """Where 0 stays 0, all that a window leaves out is 0, so the approximation is none."""
    torch.manual_seed(0)
    network, image, targets = Local(), torch.randn(3, 96, 96, dtype=torch.float64), []
    for corner in (10, 40):
        box = torch.tensor([[corner, corner, corner + 20, corner + 12]], dtype=torch.float64)
        with torch.no_grad():
            logits, deltas = network(image[None], [box])
        mask = torch.zeros(24, 24, dtype=torch.float64)
        mask[corner // 4 : corner // 4 + 3, corner // 4 : corner // 4 + 5] = 1
        targets.append(Target(box, 1, logits.softmax(1)[:, 1], deltas, mask))
    params = ExplainerParams(ObjectiveParams(sparsity_weight=1e-3), learning_rate=0.1, steps=15)
    windows = same_size([window_of(t.proposals, t.proposals[0], 16, (96, 96), 8) for t in targets])
    assert windows[0].height < 96
    whole, parts = (
        explain(network, image, targets, params, windows=each) for each in (None, windows)
    )
    for a, b, target in zip(whole, parts, targets, strict=True):
        assert not torch.equal(a, target.mask)
        assert torch.allclose(a, b, atol=1e-9)
