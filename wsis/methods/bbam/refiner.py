"""From the attribution maps of an image to its proxy masks and its semantic label."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wsis.errors import DataError
from wsis.layers.masks_to_label import semantic_label
from wsis.methods.bbam.maps import map_at_image
from wsis.methods.bbam.mcg import SegmentProposals, load_mcg, refine_box
from wsis.methods.bbam.top_crf import BoxMasks, Slices, TopCRFParams, top_crf
from wsis.structures import Crop, ProxyMasks, Seed
from wsis.structures.boxes import box_to_slices, mask_to_box
from wsis.structures.pseudo_labels import IGNORE

LABEL = "bbam"
"""Name of the semantic label."""
OLD_PREFIX = "2007_"
"""Of VOC 2007's images in VOC 2012, whose MCG files lack it."""


@dataclass(frozen=True)
class BBAMRefiner:
    """The CPU's part of BBAM; picklable.

    Attributes:
        params: of the top-CRF.
        mcg_folders: see :func:`find_mcg`; empty = without MCG.
        sem_seg: also make the semantic label.
    """

    params: TopCRFParams
    mcg_folders: tuple[str, ...] = ()
    sem_seg: bool = False

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        """See :data:`wsis.modeling.teacher.Refiner`; attribution map i is ``seed.maps[str(i)]``."""
        boxes = [box_to_slices(box, seed.height, seed.width) for box in seed.boxes]
        crops: list[Crop] = []
        regions: list[Crop] = []
        status: list[str] = []
        for made in self._masks(seed, image, boxes):
            crops.append(_window(made.foreground))
            regions.append(_window(made.region))
            status.append(made.status)
        masks = ProxyMasks.from_crops(seed, crops, ignore=regions, status=status)
        if self.sem_seg:
            masks.sem_seg = {LABEL: _label(seed, boxes, crops, regions, masks.status)}
        return masks

    def _masks(self, seed: Seed, image: np.ndarray, boxes: list[Slices]) -> Iterator[BoxMasks]:
        """Both masks of each box, the region with the foreground in it."""
        maps = (map_at_image(seed.maps[str(i)], seed.height, seed.width) for i in range(len(boxes)))
        proposals = find_mcg(self.mcg_folders, seed.file_name, image.shape[:2])
        for box, masks in zip(boxes, top_crf(image, boxes, maps, self.params), strict=True):
            foreground, region = masks.foreground, masks.region
            if proposals is not None and masks.status != "empty":
                foreground, region = refine_box(proposals, foreground, region, box)
            yield BoxMasks(foreground, region | foreground, masks.status)


def find_mcg(
    folders: tuple[str, ...], file_name: str, shape: tuple[int, ...]
) -> SegmentProposals | None:
    """The MCG proposals of an image.

    Args:
        folders: searched in this order for the image's name with ``.mat``, then for it without the prefix of VOC 2007.
        file_name: path of the image.
        shape: its height and width.

    Returns:
        None where no folder has them.

    Raises:
        DataError: the file is not of this form, or of an image of another size.
    """
    stem = os.path.splitext(os.path.basename(file_name))[0]
    for folder in folders:
        for name in dict.fromkeys((stem, stem.removeprefix(OLD_PREFIX))):
            path = os.path.join(folder, f"{name}.mat")
            if not os.path.isfile(path):
                continue
            proposals = load_mcg(path)
            if proposals.superpixels.shape != shape:
                raise DataError(
                    f"{path}: superpixels of an image of {proposals.superpixels.shape} (height, width), "
                    f"but {file_name} has {shape}"
                )
            return proposals
    return None


def _window(mask: np.ndarray) -> Crop:
    """The part of a mask that holds all of it, in memory of its own."""
    box = mask_to_box(mask)
    x0, y0, x1, y1 = (0, 0, 1, 1) if box is None else box.astype(int).tolist()
    return mask[y0:y1, x0:x1].copy(), x0, y0


def _label(
    seed: Seed, boxes: list[Slices], crops: list[Crop], regions: list[Crop], status: list[str]
) -> np.ndarray:
    """The semantic label; class c becomes c + 1, and background in a box without mask is ignored."""
    found = np.array([state != "empty" for state in status], dtype=bool)
    nothing = np.zeros((1, 1), dtype=bool), 0, 0
    certain, possible = (
        [window if known else nothing for window, known in zip(windows, found, strict=True)]
        for windows in (crops, regions)
    )
    size = seed.height, seed.width
    label = semantic_label(seed.classes + 1, seed.boxes, certain, possible, *size)
    for i in np.flatnonzero(~found):
        inside = label[boxes[i]]
        inside[inside == 0] = IGNORE
    return label
