"""The CPU's part: the masks of an image's boxes, decoded on their boxes and fused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask

from wsis.data.source import Annotation
from wsis.layers.iou import box_iou
from wsis.methods.fusion.rules import RULES, mean_iou, patterns
from wsis.structures import RLE, Crop, ProxyMasks, Seed
from wsis.structures.boxes import box_to_slices, xywh_to_xyxy
from wsis.structures.rle import decode_crop

NO_MASK = ("empty", "failed")


def seed_maps(annotations: list[list[Annotation]]) -> dict[str, np.ndarray]:
    """What :class:`FusionRefiner` needs of the annotations of R files, N each, in the order of the boxes.

    Returns:
        ``masks``, ``ignored`` (R, N) text counts or None; ``scores`` (R, N), 0 where there is no mask.
    """

    def counts(key: str) -> np.ndarray:
        codes = [[a.get(key, {}).get("counts") for a in row] for row in annotations]
        return np.array(codes, dtype=object)

    scores = [[a["score"] * (a["status"] not in NO_MASK) for a in row] for row in annotations]
    return {
        "masks": counts("segmentation"),
        "ignored": counts("ignore_segmentation"),
        "scores": np.array(scores, dtype=np.float64),
    }


@dataclass(frozen=True)
class FusionRefiner:
    """Fuses the masks of each box, inside the box.

    A file without a mask of the box, or with one of score 0, has no vote. The score of a mask is the mean over the
    files of the IoU with theirs, 0 for a file without a vote. Where no file has a mask, and where no pixel is left, the
    status is ``empty``.

    Args:
        rule: one of :data:`wsis.methods.fusion.rules.RULES`.
        min_agreement: below which a pixel is ignored.
    """

    rule: str
    min_agreement: float

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        """See :data:`wsis.modeling.teacher.Refiner`."""
        made = [self._fused(seed, row) for row in range(len(seed))]
        crops, ignored, scores = (
            (list(each) for each in zip(*made, strict=True)) if made else ([],) * 3
        )
        return ProxyMasks.from_crops(seed, crops, ignore=ignored, scores=scores)

    def _fused(self, seed: Seed, row: int) -> tuple[Crop, Crop, float]:
        size, box = (seed.height, seed.width), seed.boxes[row]
        rows, columns = box_to_slices(box, *size)
        scores = seed.maps["scores"][:, row]
        voters = np.flatnonzero(scores > 0)

        def placed(values: np.ndarray) -> Crop:
            return values, columns.start, rows.start

        if not len(voters):
            nothing = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
            return placed(nothing), placed(nothing), 0.0

        def windows(name: str) -> list[Any]:
            codes = (_code(counts, size) for counts in seed.maps[name][voters, row])
            return [code and decode_crop(code, rows, columns) for code in codes]

        votes = np.stack(windows("masks")).astype(np.int8)
        for vote, ignored in zip(votes, windows("ignored"), strict=True):
            if ignored is not None:
                vote[ignored] = -1
        tight = coco_mask.toBbox([_code(c, size) for c in seed.maps["masks"][voters, row]])
        seen = patterns(votes)
        fused = RULES[self.rule](seen, scores[voters], box_iou(xywh_to_xyxy(tight), box[None]))
        sure = fused.agreement >= self.min_agreement
        score = mean_iou(seen, fused.inside) * len(voters) / len(scores)
        inside, unsure = (fused.inside & sure)[seen.where], ~sure[seen.where]
        return placed(inside), placed(unsure), score


def _code(counts: str | None, size: tuple[int, int]) -> RLE | None:
    return None if counts is None else {"size": list(size), "counts": counts}
