"""What the network of a teacher, of boxes or of tags, hands to its refiner."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from wsis.structures.rle import RLE


@dataclass
class Seed:
    """The raw result of a teacher for one image: picklable CPU data, before refinement.

    Args:
        image_id: the source's image id.
        file_name: path of the image.
        height, width: original size of the image in pixels.
        boxes: (N, 4) float32, XYXY in original pixels, cut to the image; N = 0 where there are only tags.
        classes: (N,) int64, contiguous class index (0-based).
        annotation_ids: the source's N annotation ids, same order as ``boxes``.
        maps: whatever the method's refiner needs, by name.
        void: codes of regions that the teacher was not asked about: crowds, and in a generation given masks; filled in
            by who calls ``propose``, and only where someone looks at them.
        tags: contiguous classes that the image has, ascending, where there are no boxes.
    """

    image_id: int | str
    file_name: str
    height: int
    width: int
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), dtype=np.float32))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    annotation_ids: tuple[int, ...] = ()
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    void: list[RLE] = field(default_factory=list)
    tags: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.annotation_ids)
