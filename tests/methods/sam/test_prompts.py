"""Every family: the teacher's masks are those of asking for each box on its own, by the library's own way."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch

from tests.methods.sam import tiny
from wsis.methods.sam.masks import MaskRefiner, seed_maps
from wsis.methods.sam.prompts import ask, best_of
from wsis.structures import Seed
from wsis.structures.boxes import box_to_slices
from wsis.structures.rle import decode_mask

FAMILIES = pytest.mark.parametrize("family", tiny.FAMILIES)
BOXES = np.array(
    [[2, 3, 40, 30], [10.5, 10, 70, 47], [0, 0, 80, 48], [60, 2, 79, 20], [5, 5, 9, 9]]
)
RGB = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def plain(family, box, second_pass):
    """Logits of the best mask on the image, and its score, by calls of the library alone."""
    model, processor = tiny.model(family), tiny.processor(family)
    inputs = processor(images=RGB, input_boxes=[[box.tolist()]], return_tensors="pt")
    prompts = {"input_boxes": inputs["input_boxes"].float()}
    more = {}
    with torch.no_grad():
        for _ in range(1 + second_pass):
            out = model(inputs["pixel_values"], **prompts, **more, multimask_output=True)
            best = out.iou_scores[0, 0].argmax()
            more = {"input_masks": out.pred_masks[:, 0, best, None]}
    sizes = [inputs["original_sizes"]]
    sizes += [inputs[key] for key in ("reshaped_input_sizes",) if key in inputs]
    whole = processor.post_process_masks(out.pred_masks, *sizes, binarize=False)[0][0, best]
    return whole.numpy(), float(out.iou_scores[0, 0, best].clamp(0, 1))


@FAMILIES
@pytest.mark.parametrize("second_pass", [False, True])
def test_as_each_box_alone(family, second_pass):
    model, processor = tiny.model(family), tiny.processor(family)
    with (
        torch.no_grad(),
        mock.patch.object(
            model, "get_image_embeddings", wraps=model.get_image_embeddings
        ) as encode,
    ):
        answers = list(ask(model, processor, RGB, BOXES, 2, second_pass))
    assert encode.call_count == 1 and [len(each.scores) for each in answers] == [2, 2, 1]
    maps = seed_maps(answers, BOXES, RGB.shape[:2])
    seed = Seed(1, "", *RGB.shape[:2], BOXES, np.zeros(5, dtype=int), tuple(range(5)), maps)
    masks = MaskRefiner(0.0)(seed, RGB)
    shares = []
    for i, (rows, columns) in enumerate(box_to_slices(box, *RGB.shape[:2]) for box in BOXES):
        logits, score = plain(family, BOXES[i], second_pass)
        assert maps["scores"][i] == pytest.approx(score, abs=1e-4)
        window = logits[rows, columns]
        found = np.zeros_like(window, dtype=bool)
        if masks.status[i] == "ok":
            found = decode_mask(masks.masks[i])[rows, columns]
        agree = found == (window > 0)  # the library enlarges padded images in two steps
        assert agree.mean() > 0.9 and agree[np.abs(window) > logits.std()].all()
        shares.append(round(found.mean(), 3))
    assert len(set(shares)) > 2, "masks follow their boxes"


@FAMILIES
def test_chunks_do_not_matter(family):
    model, processor = tiny.model(family), tiny.processor(family)
    with torch.no_grad():
        whole, parts = (
            seed_maps(ask(model, processor, RGB, BOXES, n, True), BOXES, RGB.shape[:2])
            for n in (16, 1)
        )
    assert np.allclose(whole["scores"], parts["scores"], atol=1e-5)
    for one, other in zip(whole["logits"], parts["logits"], strict=True):
        assert np.allclose(one.astype(float), other.astype(float), rtol=2e-3, atol=1e-3)


def test_the_best_is_the_first_of_the_highest():
    masks = torch.arange(6.0).reshape(1, 2, 3, 1, 1)
    found, scores = best_of(masks, torch.tensor([[[0.1, 0.9, 0.2], [0.5, 0.3, 0.5]]]))
    assert found.flatten().tolist() == [1, 3] and scores.tolist() == pytest.approx([0.9, 0.5])
