"""A mask loss for masks with a region of doubt: two seeds that grow where the head is sure.

The mask loss of BBAM's student (Lee et al., CVPR 2021). Certain foreground and certain background
are balanced against each other, what lies between belongs to neither until the head's own
probability says so.
"""

from __future__ import annotations

import torch
from detectron2.structures import Instances
from torch import Tensor
from torch.nn import functional as F

from wsis.modeling.proxy_mask_head import cut_out, select_class
from wsis.structures.run_masks import RunMasks

GROW_ABOVE, GROW_BELOW = 0.9, 0.1


def drop_isolated(cells: Tensor) -> Tensor:
    """Cells that have at least one of their eight neighbours with them.

    Args:
        cells: (B, M, M) bool.

    Returns:
        (B, M, M) bool.
    """
    ring = torch.ones((1, 1, 3, 3), device=cells.device)
    ring[..., 1, 1] = 0
    return cells & (F.conv2d(cells[:, None].float(), ring, padding=1)[:, 0] > 0)


def grown_seeds(
    probabilities: Tensor,
    foreground: Tensor,
    region: Tensor,
    above: float = GROW_ABOVE,
    below: float = GROW_BELOW,
) -> tuple[Tensor, Tensor]:
    """The cells that enter the loss.

    fg = (f or s > above) and g, bg = (not g or s < below) and not f, both without isolated cells.

    Args:
        probabilities: s, (B, M, M) in [0, 1], no gradient.
        foreground: f, (B, M, M) bool, certain foreground.
        region: g, (B, M, M) bool, foreground or uncertain. Where f lies outside of g (noise of
            polygons) the cell belongs to neither seed.
        above, below: a probability beyond which the head is sure.

    Returns:
        Foreground and background cells, (B, M, M) bool, disjoint unless above < below.
    """
    fg = (foreground | (probabilities > above)) & region
    bg = (~region | (probabilities < below)) & ~foreground
    return drop_isolated(fg), drop_isolated(bg)


def pair_mask_loss(
    logits: Tensor,
    classes: Tensor,
    foreground: Tensor,
    region: Tensor,
    above: float = GROW_ABOVE,
    below: float = GROW_BELOW,
) -> Tensor:
    """Half the mean cross-entropy of grown foreground plus half that of grown background.

    The means are over the cells of all masks of the batch.

    Args:
        logits: (B, C, M, M), or (B, 1, M, M) if the mask does not depend on the class.
        classes: (B,) int64, which of the C masks is meant.
        foreground: (B, M, M) bool, certain foreground.
        region: (B, M, M) bool, foreground or uncertain.
        above, below: see :func:`grown_seeds`.

    Returns:
        Scalar; 0 with zero gradients where either set of cells is empty.
    """
    chosen = select_class(logits, classes).float()
    fg, bg = grown_seeds(chosen.detach().sigmoid(), foreground, region, above, below)
    loss = _balanced(chosen, fg, bg)
    return torch.where(fg.any() & bg.any(), loss, torch.zeros_like(loss))


def balanced_mask_loss(logits: Tensor, classes: Tensor, targets: Tensor) -> Tensor:
    """Half the mean cross-entropy of the foreground plus half that of the background.

    For masks without a region of doubt. An empty half counts 0.

    Args:
        logits: (B, C, M, M) or (B, 1, M, M).
        classes: (B,) int64, which of the C masks is meant.
        targets: (B, M, M) bool.

    Returns:
        Scalar.
    """
    return _balanced(select_class(logits, classes).float(), targets, ~targets)


def region_targets(instances: list[Instances], mask_size: int) -> Tensor:
    """Foreground or uncertain, cut out for foreground proposals.

    Mask and ignored pixels are cut out as one: a cell that each of them covers by less than half,
    and both together by more, is not background.

    Args:
        instances: as :func:`wsis.modeling.proxy_mask_head.mask_targets` takes them.
        mask_size: M.

    Returns:
        (B, M, M) bool; nothing for images without masks.
    """
    parts = []
    for image in instances:
        masks = image.gt_masks if image.has("gt_masks") else None
        if masks is not None and image.has("gt_ignore_masks"):
            masks = RunMasks.of(masks).union(image.gt_ignore_masks)
        parts.append(cut_out(masks, image, mask_size))
    return torch.cat(parts)


def _balanced(logits: Tensor, fg: Tensor, bg: Tensor) -> Tensor:
    def mean(values: Tensor, cells: Tensor) -> Tensor:
        return (values * cells).sum() / cells.sum().clamp(min=1)

    # -log s and -log(1 - s)
    return 0.5 * mean(F.softplus(-logits), fg) + 0.5 * mean(F.softplus(logits), bg)
