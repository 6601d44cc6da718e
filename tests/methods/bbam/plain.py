"""The explainer as the paper has it, one box at a time, to compare with."""

import torch
from torch.nn import functional

from tests.golden.toy_detector import ToyDetector
from wsis.methods.bbam.explainer import ExplainerParams
from wsis.methods.bbam.targets import Target


def plain_explain(
    detector: ToyDetector, image: torch.Tensor, target: Target, params: ExplainerParams
) -> torch.Tensor:
    """The mask of one box after all steps, from the formulas of the paper alone.

    Args:
        detector: with parameters that may require gradient, as in the reference.
        image: (3, H, W).
        target: with proposals.
        params: optimisation.
    """
    mask = target.mask.clone()[None, None].requires_grad_()
    optimiser = torch.optim.Adam([mask], lr=params.learning_rate)
    c, objective = target.class_index, params.objective
    for _ in range(params.steps):
        up = functional.interpolate(mask, image.shape[-2:], mode="bilinear", align_corners=True)
        logits, deltas = detector(up * image, [target.proposals])
        moved = (deltas[:, 4 * c : 4 * c + 4] - target.deltas).abs().mean(dim=1)
        changed = (logits.softmax(dim=1)[:, c] - target.scores).abs()
        m, beta = mask[0, 0], objective.tv_power
        variation = (
            ((m[1:] - m[:-1]).abs() ** beta).sum()
            + ((m[:, 1:] - m[:, :-1]).abs() ** beta).sum()
            + 2 * ((m[1:, 1:] - m[:-1, :-1]).abs() ** beta).sum()
            + 2 * ((m[1:, :-1] - m[:-1, 1:]).abs() ** beta).sum()
        )
        loss = (moved / 2 + changed / 2).mean()
        loss = loss + objective.sparsity_weight * m.abs().sum() + objective.tv_weight * variation
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        mask.data.clamp_(0, 1)
    return mask.detach()[0, 0]
