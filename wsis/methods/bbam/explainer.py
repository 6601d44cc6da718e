"""Attribution masks by gradient descent through a frozen detector.

Boxes share nothing but time: Adam works cell by cell, so the masks of a batch are those of each box
alone, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wsis.config.params import key, part
from wsis.config.rules import above, at_least
from wsis.methods.bbam.losses import ObjectiveParams, fidelity, mean_over_groups, regulariser
from wsis.methods.bbam.perturb import MaskBatch, perturb
from wsis.methods.bbam.targets import Forward, Scores, Target, class_deltas, softmax_scores
from wsis.methods.bbam.windows import Window, cut, shift


@dataclass(frozen=True)
class ExplainerParams:
    """Optimisation of the masks; there is no early stop.

    Attributes:
        learning_rate: Learning rate of Adam.
        steps: Steps of Adam.
    """

    objective: ObjectiveParams = part(ObjectiveParams())
    learning_rate: float = key(0.02, above(0))
    steps: int = key(300, at_least(1))


@dataclass(frozen=True)
class Step:
    """One step of a batch of B boxes, seen before the masks move.

    Attributes:
        index: from 0.
        masks: B tensors (h_i, w_i).
        gradients: of the objective, likewise.
        losses: (B,) objective of each box.
        images: (B, 3, H, W) perturbed images or windows.
        logits, deltas: the detector's answers for all proposals of the batch.
    """

    index: int
    masks: list[Tensor]
    gradients: list[Tensor]
    losses: Tensor
    images: Tensor
    logits: Tensor
    deltas: Tensor


class _Batch:
    """The boxes that are optimised together, and the objective of their masks."""

    def __init__(
        self,
        forward: Forward,
        images: Tensor,
        targets: Sequence[Target],
        params: ObjectiveParams,
        fill: Tensor | None,
        scores: Scores,
        windows: Sequence[Window] | None,
    ) -> None:
        self.forward, self.images, self.fill = forward, images, fill
        self.params, self.scores = params, scores
        counts = [len(target.proposals) for target in targets]
        device = images.device
        height, width = images.shape[-2:]
        self.masks = MaskBatch([target.mask for target in targets], height, width, windows)
        self.proposals = [target.proposals for target in targets]
        if windows is not None:
            self.images = cut(images, windows)
            self.fill = None if fill is None else cut(fill, windows)
            self.proposals = [shift(p, w) for p, w in zip(self.proposals, windows, strict=True)]
        self.classes = torch.tensor([target.class_index for target in targets], device=device)
        self.classes = self.classes.repeat_interleave(torch.tensor(counts, device=device))
        self.clean_scores = torch.cat([target.scores for target in targets]).detach()
        self.clean_deltas = torch.cat([target.deltas for target in targets]).detach()
        self.mean = mean_over_groups(counts, self.clean_scores)
        self.rows = torch.arange(sum(counts), device=device)

    def evaluate(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses (B,), perturbed images, logits and deltas at the present masks."""
        images = perturb(self.images, self.masks.upsample(), self.fill)
        logits, deltas = self.forward(images, self.proposals)
        moved = fidelity(
            self.scores(logits)[self.rows, self.classes],
            class_deltas(deltas, self.classes),
            self.clean_scores,
            self.clean_deltas,
        )
        losses = self.mean @ moved
        losses = losses + regulariser(self.masks.values, self.params, self.masks.valid)
        return losses, images, logits, deltas


def explain(
    forward: Forward,
    images: Tensor,
    targets: Sequence[Target],
    params: ExplainerParams,
    *,
    fill: Tensor | None = None,
    scores: Scores = softmax_scores,
    windows: Sequence[Window] | None = None,
    observe: Callable[[Step], None] | None = None,
) -> list[Tensor]:
    """The attribution masks of a batch of boxes.

    The detector's parameters get no gradient and are not changed. Gradients are enabled here.

    Args:
        forward: the detector, in eval mode; not called if no target has a proposal.
        images: (3, H, W) shared by all boxes, or (B, 3, H, W); mean-subtracted; float32 or float64.
        targets: B boxes.
        params: optimisation.
        fill: see :func:`wsis.methods.bbam.perturb.perturb`; (3, H, W) or (B, 3, H, W).
        scores: how logits become probabilities.
        windows: B windows of one size, in which the boxes are explained instead of in the whole image (an
            approximation, for detectors whose proposals are boxes).
        observe: called once per step with the boxes that have proposals, in their order.

    Returns:
        B masks (h_i, w_i) in [0, 1]; all 0 for a target without proposals.
    """
    active = [i for i, target in enumerate(targets) if len(target.proposals)]
    masks = [torch.zeros_like(target.mask) for target in targets]
    if not active:
        return masks

    def pick(stack: Tensor) -> Tensor:
        return stack[None] if stack.ndim == 3 else stack[active]

    batch = _Batch(
        forward,
        pick(images),
        [targets[i] for i in active],
        params.objective,
        None if fill is None else pick(fill),
        scores,
        None if windows is None else [windows[i] for i in active],
    )
    values = batch.masks.values.requires_grad_()
    optimiser = torch.optim.Adam([values], lr=params.learning_rate)
    for index in range(params.steps):
        with torch.enable_grad():
            losses, *answers = batch.evaluate()
            (gradient,) = torch.autograd.grad(losses.sum(), values)
        if observe is not None:
            split = batch.masks.split
            seen = [answer.detach() for answer in answers]
            observe(Step(index, split(values), split(gradient), losses.detach(), *seen))
        values.grad = gradient
        optimiser.step()
        with torch.no_grad():
            values.clamp_(0, 1)
    for i, mask in zip(active, batch.masks.split(values), strict=True):
        masks[i] = mask
    return masks
