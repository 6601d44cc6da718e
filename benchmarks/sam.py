"""What encoding an image once is worth when its boxes are asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.timing import Row, interleave, timing_rows
from wsis.methods.sam.prompts import ask
from wsis.methods.sam.weights import load_transformers

PLAIN = "one call per box (plain)"
_WIDTH, _SIDE = 64, 256


def benchmark_sam(boxes: int = 16, together: int = 16, repeats: int = 5) -> list[Row]:
    """Boxes of one image asked of a small random SAM: each by a call of its own with the image, as a script would,
    against one encoding for all; and the same with the second pass.

    ``difference`` is the largest between the predicted IoUs of both.

    Args:
        boxes: of the image.
        together: boxes of a call.
        repeats: rounds that count.
    """
    model, processor = _small_sam()
    image, corners = _image(boxes)
    shared = f"encoded once, {together} boxes a call"

    def plain() -> np.ndarray:
        found = []
        for box in corners:
            inputs = processor(images=image, input_boxes=[[box.tolist()]], return_tensors="pt")
            out = model(inputs["pixel_values"], input_boxes=inputs["input_boxes"].float())
            found.append(float(out.iou_scores.max().clamp(0, 1)))
        return np.array(found)

    def asked(second_pass: bool) -> np.ndarray:
        answers = ask(model, processor, image, corners, together, second_pass)
        return np.concatenate([each.scores for each in answers])

    ways = {
        PLAIN: plain,
        shared: lambda: asked(False),
        f"{shared}, twice": lambda: asked(True),
    }
    with torch.no_grad():
        rows = timing_rows(interleave(ways, repeats), PLAIN)
        difference = np.abs(plain() - asked(False)).max()
    for row in rows:
        row["boxes / s"] = boxes / row["seconds"]
        row["difference"] = difference if row["way"] == shared else float("nan")
    return rows


def _small_sam() -> tuple[Any, Any]:
    """A model of two transformer blocks for images of 256 px, and its processor."""
    hf = load_transformers()
    vision = hf.SamVisionConfig(
        hidden_size=_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=_SIDE,
        output_channels=_WIDTH,
        window_size=4,
        global_attn_indexes=[1],
        num_pos_feats=_WIDTH // 2,
        mlp_dim=2 * _WIDTH,
    )
    config = hf.SamConfig(
        vision_config=vision,
        prompt_encoder_config=hf.SamPromptEncoderConfig(hidden_size=_WIDTH, image_size=_SIDE),
        mask_decoder_config=hf.SamMaskDecoderConfig(
            hidden_size=_WIDTH,
            mlp_dim=2 * _WIDTH,
            num_attention_heads=2,
            iou_head_hidden_dim=_WIDTH,
        ),
    )
    torch.manual_seed(0)
    square = {"height": _SIDE, "width": _SIDE}
    images = hf.SamImageProcessor(size={"longest_edge": _SIDE}, pad_size=square)
    return hf.SamModel(config).eval(), hf.SamProcessor(images)


def _image(boxes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    near = rng.uniform(0, 150, (boxes, 2))
    corners = np.concatenate([near, near + rng.uniform(20, 80, (boxes, 2))], axis=1)
    return rng.integers(0, 256, (240, 320, 3), dtype=np.uint8), corners
