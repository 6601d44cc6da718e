"""One image encoded once, any number of boxes asked; the published way to ask a box twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Answers:
    """The best mask of each of some boxes.

    Attributes:
        logits: (n, h, w) float32, above 0 = inside, on the map that the network sees the image on.
        scores: (n,) float32, the predicted IoU, from 0 to 1.
        spans: rows and columns of the map that the image covers, from its upper left corner; the rest is padding.
    """

    logits: np.ndarray
    scores: np.ndarray
    spans: tuple[float, float]


def ask(
    model: Any,
    processor: Any,
    image: np.ndarray,
    boxes: np.ndarray,
    boxes_together: int,
    second_pass: bool,
) -> Iterator[Answers]:
    """The masks of the boxes of one image, in their order.

    Args:
        model, processor: see :class:`wsis.methods.sam.weights.Promptable`.
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) float XYXY in pixels of the image, N at least 1.
        boxes_together: boxes of a call, and of what is yielded at a time.
        second_pass: ask again with the first mask as prompt.
    """
    inputs = processor(
        images=np.require(image, requirements="W"),  # else PyTorch warns
        input_boxes=[boxes.tolist()],
        return_tensors="pt",
        input_data_format="channels_last",
    )
    pixels = inputs["pixel_values"].to(model.device, model.dtype)
    seen = inputs.get("reshaped_input_sizes")  # of families that pad the image to a square
    height, width = pixels.shape[-2:] if seen is None else seen[0].tolist()
    shares = height / pixels.shape[-2], width / pixels.shape[-1]
    embeddings = _encode(model, pixels)
    for chunk in inputs["input_boxes"].to(model.device, model.dtype).split(boxes_together, dim=1):
        masks, scores = best_of(*_decode(model, embeddings, input_boxes=chunk))
        if second_pass:  # a mask prompt belongs to an image, so every box has an image of its own
            repeated = {name: _repeated(value, len(masks)) for name, value in embeddings.items()}
            prompts = {"input_boxes": chunk[0, :, None], "input_masks": masks[:, None]}
            masks, scores = best_of(*_decode(model, repeated, **prompts))
        spans = shares[0] * masks.shape[1], shares[1] * masks.shape[2]
        yield Answers(masks.cpu().numpy(), scores.clamp(0, 1).cpu().numpy(), spans)


def best_of(masks: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Of several masks per box the one with the highest score, the first on a tie.

    Args:
        masks: (B, N, M, h, w).
        scores: (B, N, M).

    Returns:
        (B N, h, w) and (B N,).
    """
    masks, scores = masks.flatten(0, 1), scores.flatten(0, 1)
    rows = torch.arange(len(scores), device=scores.device)
    best = scores.argmax(dim=1)
    return masks[rows, best], scores[rows, best]


def _encode(model: Any, pixels: Tensor) -> dict[str, Any]:
    """What the decoder wants to be told about an image: a tensor, several levels, or with the encoder's inner ones."""
    found = model.get_image_embeddings(pixels)
    if isinstance(found, tuple):
        return {"image_embeddings": found[0], "intermediate_embeddings": found[1]}
    return {"image_embeddings": found}


def _decode(model: Any, embeddings: dict[str, Any], **prompts: Tensor) -> tuple[Tensor, Tensor]:
    out = model(**embeddings, **prompts, multimask_output=True)
    return out.pred_masks, out.iou_scores


def _repeated(value: Any, number: int) -> Any:
    """The embeddings of one image for as many, without copying them."""
    if isinstance(value, Tensor):
        return value.expand(number, *value.shape[1:])
    return [_repeated(each, number) for each in value]
