"""Recorded explanations of BBAM: proposals, first masks, the course of the optimisation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image

from tests.golden.compare import Comparison, absolute, each, exact
from tests.golden.frame import Arrays, cases, check, tensor
from tests.golden.reference import PIXEL_MEAN_BGR
from tests.golden.toy_detector import SHAPES, ToyDetector
from wsis.methods.bbam.box_coder import clip_inclusive, decode
from wsis.methods.bbam.explainer import ExplainerParams, Step, explain
from wsis.methods.bbam.losses import ObjectiveParams
from wsis.methods.bbam.proposals import ProposalParams, select_positives, shift_box
from wsis.methods.bbam.targets import (
    StrideParams,
    Target,
    box_targets,
    class_deltas,
    covered_cells,
    detection_targets,
    initial_mask,
)

TRACE, FINAL = 1e-5, 1e-3
LOSS = 1e-4
JITTER = ProposalParams.jitter
EDGE = 1e-3


def _clipped_decode(
    deltas: torch.Tensor, boxes: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    return clip_inclusive(decode(deltas, boxes), height, width)


def _jitter_error(name: str, props: np.ndarray, box: np.ndarray, size: np.ndarray) -> Comparison:
    """How far recorded proposals are from shifted, cut copies of the box, in pixels."""
    boxes = tensor(box)
    sides = (boxes[2:] - boxes[:2]).repeat(2)
    offsets = ((tensor(props) - boxes) / sides).clamp(-JITTER, JITTER)
    drawn = shift_box(boxes, offsets, int(size[0]), int(size[1]))
    return absolute(name, drawn, props, EDGE)


@check(
    "bbam", "mask_init", "hw_# gt_# label_# props_# pred_label_# decoded_cls_# init_# saved_now_#"
)
def bbam_mask_init(arrays: Arrays) -> Iterator[Comparison]:
    """Jitter, decoding (of zero deltas), choice of positives, first mask."""
    for i in cases(arrays, "hw_#"):
        height, width = (int(v) for v in arrays[f"hw_{i}"])
        box, expected = tensor(arrays[f"gt_{i}"]), arrays[f"init_{i}"]
        decoded = tensor(arrays[f"decoded_cls_{i}"])
        agrees = tensor(arrays[f"pred_label_{i}"]) == int(arrays[f"label_{i}"])
        index = select_positives(box, decoded, agrees)
        mask = initial_mask(decoded[index], box, height, width, StrideParams())
        if len(index) and not expected.any():  # the reference has no cell at the centre
            x0, y0, x1, y1 = box.tolist()
            stride = StrideParams().stride((x1 - x0) * (y1 - y0) / (height * width))
            mask = covered_cells(decoded[index], (mask.shape[0], mask.shape[1]), stride)
        props = arrays[f"props_{i}"]
        unmoved = _clipped_decode(torch.zeros(props.shape), tensor(props), height, width)
        if (decoded == decoded[0]).all():  # a stub that answers with one box
            unmoved = decoded
        found = {"saved_now": int(len(index) == 0), "init": mask}
        yield from each(arrays, found, case=f"{{}}_{i}")
        yield absolute(f"decoded_cls_{i}", unmoved, decoded, EDGE)
        yield _jitter_error(f"props_{i}", props, arrays[f"gt_{i}"], arrays[f"hw_{i}"])


WEIGHTS = [f"w_{layer}_{part}" for layer in SHAPES for part in ("weight", "bias")]


def _detector_and_image(arrays: Arrays) -> tuple[ToyDetector, torch.Tensor]:
    weights = {name[2:]: tensor(arrays[name]) for name in WEIGHTS}
    bgr = tensor(arrays["image_rgb"]).float().permute(2, 0, 1).flip(0)
    return ToyDetector(weights), bgr - bgr.new_tensor(PIXEL_MEAN_BGR)[:, None, None]


def _trace(
    detector: ToyDetector, image: torch.Tensor, target: Target, params: ExplainerParams
) -> tuple[list[Step], torch.Tensor]:
    """All steps of one box, and its mask after them."""
    steps: list[Step] = []
    (mask,) = explain(detector, image, [target], params, observe=steps.append)
    return steps, mask


def _compare_trace(
    arrays: Arrays, i: int, steps: list[Step], mask: torch.Tensor
) -> Iterator[Comparison]:
    """Masks and gradients of the recorded first steps, all losses, the last mask."""
    first = steps[: len(arrays[f"masks_{i}"])]
    found = {
        "masks": torch.stack([step.masks[0] for step in first])[:, None],
        "grads": torch.stack([step.gradients[0] for step in first])[:, None],
    }
    yield from each(arrays, found, absolute, TRACE, case=f"{{}}_{i}")
    losses, expected = np.array([float(step.losses) for step in steps]), arrays[f"loss_{i}"]
    yield absolute(f"loss_{i} / its size", losses / expected, np.ones_like(expected), LOSS)
    yield absolute(f"mask_final_{i}", mask[None], arrays[f"mask_final_{i}"], FINAL)


def _attention(i: int, mask: np.ndarray, inst: np.ndarray, box: np.ndarray) -> Comparison:
    """0 where the mask is higher on the object than on the rest of its box, else by how much not."""
    up = torch.nn.functional.interpolate(
        tensor(mask)[None], size=inst.shape, mode="bilinear", align_corners=True
    )[0, 0].numpy()
    x0, y0, x1, y1 = (int(v) for v in box)
    inside, values = inst[y0 : y1 + 1, x0 : x1 + 1] > 0, up[y0 : y1 + 1, x0 : x1 + 1]
    if inside.all() or not inside.any():
        return exact(f"object {i} fills its box or is hidden", 0, 0)
    missing = max(float(values[~inside].mean() - values[inside].mean()), 0.0)
    return Comparison(f"inst_{i}, mask higher off the object", missing, 0.0)


def _clean(
    arrays: Arrays, logits: torch.Tensor, deltas: torch.Tensor, decoded: torch.Tensor, case: str
) -> Iterator[Comparison]:
    """What the detector says of the whole image."""
    yield from each(arrays, {"logits": logits, "reg": deltas}, absolute, TRACE, case=case)
    yield from each(arrays, {"decoded": decoded}, absolute, 1e-3, case=case)


@check(
    "bbam",
    "explain_train",
    "image_rgb gt_boxes gt_labels inst props_# init_# clean_logits_# clean_reg_# clean_decoded_# "
    + " ".join(WEIGHTS),
)
def bbam_explain_train(arrays: Arrays) -> Iterator[Comparison]:
    """Given boxes: clean pass, positives, first mask, optimisation."""
    detector, image = _detector_and_image(arrays)
    height, width = size = image.shape[-2:]
    clipped = partial(_clipped_decode, height=height, width=width)
    for i in cases(arrays, "props_#"):
        props, box = tensor(arrays[f"props_{i}"]), tensor(arrays["gt_boxes"][i])
        logits, deltas = detector(image[None], [props])
        yield _jitter_error(f"props_{i}", props.numpy(), box.numpy(), np.array(size))
        yield from _clean(arrays, logits, deltas, clipped(deltas, props), f"clean_{{}}_{i}")
        labels = [int(arrays["gt_labels"][i])]
        (target,) = box_targets(
            detector, image, box[None], labels, [props], clipped, ProposalParams(), StrideParams()
        )
        yield exact(f"init_{i}", target.mask, arrays[f"init_{i}"])
        if f"masks_{i}" not in arrays:
            yield exact(f"positives of {i}", len(target.proposals), 0)
            continue
        chosen = props[tensor(arrays[f"selected_{i}"])]
        yield exact(f"selected_{i}", target.proposals, chosen)
        params = ExplainerParams(steps=len(arrays[f"loss_{i}"]))
        steps, mask = _trace(detector, image, target, params)
        yield from _compare_trace(arrays, i, steps, mask)
        fifth = {"masked_image_step5_s4": steps[5].images[0, :, ::4, ::4]}
        yield from each(arrays, fifth, absolute, 1e-3, case=f"{{}}_{i}")
        fifth = {"logits": steps[5].logits, "reg": steps[5].deltas}
        yield from each(arrays, fifth, absolute, TRACE, case=f"{{}}_step5_{i}")
        yield _attention(i, arrays[f"mask_final_{i}"], arrays["inst"][i], box.numpy())


def _detections(
    logits: torch.Tensor, decoded: torch.Tensor, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, scores, labels and proposals of the final detections, by label, then falling score."""
    background_last = logits.softmax(dim=1).roll(-1, dims=1)
    found, index = fast_rcnn_inference_single_image(
        decoded[:, 4:], background_last, (height, width), 0.05, 0.5, 100
    )
    scores, labels = found.scores.numpy(), found.pred_classes.numpy() + 1
    order = np.lexsort((-scores, labels))
    return (
        found.pred_boxes.tensor.numpy()[order],
        scores[order],
        labels[order],
        index.numpy()[order],
    )


@check(
    "bbam",
    "explain_demo",
    "image_rgb props clean_logits clean_reg clean_decoded det_boxes det_scores det_labels det_proposal_idx n_explained "
    + " ".join(WEIGHTS),
)
def bbam_explain_demo(arrays: Arrays) -> Iterator[Comparison]:
    """Detections, and the explanation of each above 0.7 from its one proposal."""
    detector, image = _detector_and_image(arrays)
    height, width = image.shape[-2:]
    clipped = partial(_clipped_decode, height=height, width=width)
    props = tensor(arrays["props"])
    logits, deltas = detector(image[None], [props])
    decoded = clipped(deltas, props)
    index, scores = arrays["det_proposal_idx"], arrays["det_scores"]
    order = np.lexsort((-scores, arrays["det_labels"]))
    explained = index[scores > 0.7]
    yield from _clean(arrays, logits, deltas, decoded, "clean_{}")
    yield exact("n_explained", len(explained), arrays["n_explained"])
    yield exact("n_explained traces", len(cases(arrays, "masks_#")), arrays["n_explained"])
    names = ("det_boxes", "det_scores", "det_labels", "det_proposal_idx")
    for name, value in zip(names, _detections(logits, decoded, height, width), strict=True):
        yield absolute(name, value, arrays[name][order], 1e-3)
    objective = ObjectiveParams(sparsity_weight=0.07, tv_weight=1e-3)
    classes = logits[explained].argmax(dim=1)
    chosen = class_deltas(deltas[explained], classes)
    certain = logits[explained].softmax(dim=1).gather(1, classes[:, None])[:, 0]
    known = props[explained], classes, certain, chosen, clipped(chosen, props[explained])
    targets = detection_targets(*known, (height, width), StrideParams())
    for i, (number, target) in enumerate(zip(explained.tolist(), targets, strict=True)):
        # the reference also fills the cells that the proposal's pixels address
        x0, y0, x1, y1 = (int(v) for v in props[number])
        artefact = target.mask.clone()
        artefact[y0:y1, x0:x1] = 1
        init = arrays[f"init_{i}"]
        yield exact(f"init_{i}", artefact, init)
        started = Target(**(vars(target) | {"mask": tensor(init)}))
        params = ExplainerParams(objective, steps=len(arrays[f"loss_{i}"]))
        yield from _compare_trace(arrays, i, *_trace(detector, image, started, params))
