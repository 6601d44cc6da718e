"""Recorded masks of BBAM: top-CRF, assembly, MCG, semantic labels, polygons."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from skimage.measure import approximate_polygon, find_contours

from tests.golden.compare import Comparison, absolute, each, exact, share
from tests.golden.frame import Arrays, cases, check
from tests.golden.reference import refine_single, stored_map, stored_picture
from wsis.layers.masks_to_label import semantic_label
from wsis.methods.bbam.mcg import SegmentProposals, keep_touching, refine_pair, score_proposals
from wsis.methods.bbam.top_crf import (
    Slices,
    TopCRFParams,
    foreground_crf,
    prior_from_map,
    refine_prior,
    top_crf,
)
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.rle import decode_mask, encode_mask, rle_area, segmentation_to_rle

PRIOR, MARGINAL, PIXELS = 1e-5, 1e-3, 0.005
PUBLISHED = TopCRFParams()


def _slices(box: np.ndarray) -> Slices:
    """The reference takes inclusive corners for an exclusive end."""
    x0, y0, x1, y1 = (int(v) for v in box)
    return slice(y0, y1), slice(x0, x1)


class _Counted:
    """A CRF that counts its calls and keeps their inputs."""

    def __init__(self, refine) -> None:
        self.refine, self.inputs = refine, []

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        self.inputs.append(probability)
        return self.refine(probability)


@check("bbam", "save_mask", "mask_# net_hw_# written_#")
def bbam_save_mask(arrays: Arrays) -> Iterator[Comparison]:
    """The picture that the reference stores."""
    for i in cases(arrays, "mask_#"):
        size = (int(v) for v in arrays[f"net_hw_{i}"])
        written = stored_picture(arrays[f"mask_{i}"][0], *size)
        yield absolute(f"written_{i}", written, arrays[f"written_{i}"], 1.0)


@check(
    "bbam",
    "topcrf",
    "image_bgr mask_u8 box pre_085 q_085 final_085 ncrf_085 pre_02 q_02 final_02 ncrf_02",
)
def bbam_topcrf(arrays: Arrays) -> Iterator[Comparison]:
    """Input and result of the first CRF, number of CRFs, mask, for both thresholds."""
    image, box = arrays["image_bgr"], _slices(arrays["box"])
    attribution = stored_map(arrays["mask_u8"], *image.shape[:2])
    assert attribution is not None
    crf = foreground_crf(image, PUBLISHED.crf)
    for level, threshold in zip(("085", "02"), PUBLISHED.thresholds, strict=True):
        prior = prior_from_map(attribution, box, threshold, PUBLISHED)
        assert prior is not None
        counted = _Counted(crf)
        mask = refine_prior(prior, box, counted, PUBLISHED)
        yield absolute(f"pre_{level}", prior, arrays[f"pre_{level}"], PRIOR)
        yield absolute(f"q_{level}", crf(prior), arrays[f"q_{level}"], MARGINAL)
        yield share(f"final_{level}", mask, arrays[f"final_{level}"], PIXELS)
        yield exact(f"ncrf_{level}", len(counted.inputs), arrays[f"ncrf_{level}"])


@check("bbam", "topcrf_logic", "mask_u8_# hw_# box_# gain_# th_# pre_# last_in_# ncalls_# final_#")
def bbam_topcrf_logic(arrays: Arrays) -> Iterator[Comparison]:
    """Acceptance and stronger priors, the CRF replaced by a gain."""
    for i in cases(arrays, "hw_#"):
        height, width = (int(v) for v in arrays[f"hw_{i}"])
        box, gain = _slices(arrays[f"box_{i}"]), arrays[f"gain_{i}"]
        attribution = stored_map(arrays[f"mask_u8_{i}"], height, width)
        assert attribution is not None
        threshold = float(np.round(float(arrays[f"th_{i}"]), 6))
        prior = prior_from_map(attribution, box, threshold, PUBLISHED)
        assert prior is not None
        counted = _Counted(lambda p, gain=gain: np.minimum(1, gain * p))
        mask = refine_prior(prior, box, counted, PUBLISHED)
        priors = {"pre": prior, "last_in": counted.inputs[-1]}
        yield from each(arrays, priors, absolute, PRIOR, case=f"{{}}_{i}")
        found = {"ncalls": len(counted.inputs), "final": mask}
        yield from each(arrays, found, case=f"{{}}_{i}")


def _maps(arrays: Arrays, count: int) -> list[np.ndarray | None]:
    """Recorded maps by box; None where no file was stored, or one without contrast."""
    shape = arrays["image_bgr"].shape[:2]
    stored = cases(arrays, "mask_u8_#")
    return [
        stored_map(arrays[f"mask_u8_{i}"], *shape) if i in stored else None for i in range(count)
    ]


@check("bbam", "assembly", "image_bgr boxes masks_085 n_boxes")
def bbam_assembly(arrays: Arrays) -> Iterator[Comparison]:
    """Masks of all boxes of an image. Where no prior was accepted the reference has no mask.

    Such boxes are those without map that ours leaves empty; the recorded masks belong, in order, to
    the others.
    """
    boxes = [_slices(box) for box in arrays["boxes"]]
    maps = _maps(arrays, len(boxes))
    made = list(top_crf(arrays["image_bgr"], boxes, maps, PUBLISHED))
    kept = [
        m for m, given in zip(made, maps, strict=True) if given is not None or m.status != "empty"
    ]
    shape = (-1, *arrays["image_bgr"].shape[:2])
    foreground = np.array([m.foreground for m in kept], dtype=bool).reshape(shape)
    region = np.array([m.region for m in kept], dtype=bool).reshape(shape)
    yield exact("n_boxes", len(made), arrays["n_boxes"])
    yield share("masks_085", foreground, arrays["masks_085"], PIXELS)
    if "masks_02" in arrays:
        yield share("masks_02", region, arrays["masks_02"], PIXELS)


@check(
    "bbam",
    "mcg",
    "superpixels prop_ids prop_len mask1 mask2 box_xywh"
    " out1_count out2_count flag_count single_count kept_count scores_count"
    " out1_ref out2_ref flag_ref single_ref kept_ref scores_ref",
)
def bbam_mcg(arrays: Arrays) -> Iterator[Comparison]:
    """Counted pixels, and the published rule, where a pixel weighs row + column index."""
    ends = np.cumsum(arrays["prop_len"])
    proposals = SegmentProposals.from_lists(
        arrays["superpixels"], np.split(arrays["prop_ids"], ends)[: len(ends)]
    )
    x, y, width, height = (int(v) for v in arrays["box_xywh"])
    box = slice(y, y + height), slice(x, x + width)
    first, second = arrays["mask1"] > 0, arrays["mask2"] > 0
    indices = np.add.outer(*(np.arange(n) for n in first.shape))
    for rule, weights in (("count", None), ("ref", indices)):
        scores = [score_proposals(proposals, mask, box, weights) for mask in (first, second)]
        table = [s.iou for s in scores] + [scores[0].in_box] + [s.in_mask for s in scores]
        pair = refine_pair(proposals, first, second, box, weights)
        alone = refine_single(proposals, first, box, weights)
        got = {
            "kept": keep_touching(proposals, box).nonzero()[0],
            "flag": [pair[0] is first, pair[1] is second, alone is first],
            "out1": pair[0],
            "out2": pair[1],
            "single": alone,
        }
        expected = arrays[f"scores_{rule}"]
        yield absolute(f"scores_{rule}", np.stack(table, axis=1), expected, 1e-6)
        yield from each(arrays, got, case=f"{{}}_{rule}")


@check("bbam", "semantic", "classes boxes_xywh fg fg_or_ignore label")
def bbam_semantic(arrays: Arrays) -> list[Comparison]:
    """One label map."""
    boxes = xywh_to_xyxy(arrays["boxes_xywh"])
    masks = [[(mask > 0, 0, 0) for mask in arrays[name]] for name in ("fg", "fg_or_ignore")]
    label = semantic_label(arrays["classes"], boxes, *masks, *arrays["label"].shape)
    return [exact("label", label, arrays["label"])]


def mask_to_polygons(mask: np.ndarray, tolerance: float) -> list[list[float]]:
    """The outlines of a mask as polygons x, y, x, y, ...; none where all are smaller than the tolerance."""
    outlines = find_contours(np.pad(mask != 0, 1).astype(np.float64), 0.5)
    simple = [approximate_polygon(outline - 1, tolerance) for outline in outlines]
    return [p[:, ::-1].clip(min=0).ravel().tolist() for p in simple if len(p) >= 3]


@check("bbam", "annotation", "mask_# none_#_t#")
def bbam_annotation(arrays: Arrays) -> Iterator[Comparison]:
    """Polygons of all masks at all recorded tolerances, and what COCO makes of them."""
    for i in cases(arrays, "mask_#"):
        mask = arrays[f"mask_{i}"]
        for tolerance in cases(arrays, f"none_{i}_t#"):
            tag = f"{i}_t{tolerance}"
            polygons, none = mask_to_polygons(mask, tolerance), bool(arrays[f"none_{tag}"])
            yield exact(f"none_{tag}", not polygons, none)
            if none:
                continue
            code = segmentation_to_rle(polygons, *mask.shape) if polygons else encode_mask(mask * 0)
            yield exact(f"polylen_{tag}", [len(p) for p in polygons], arrays[f"polylen_{tag}"])
            yield absolute(f"poly_{tag}", sum(polygons, []), arrays[f"poly_{tag}"], 1e-4)
            found = {"area": rle_area(encode_mask(mask)), "raster": decode_mask(code)}
            yield from each(arrays, found, case=f"{{}}_{tag}")
