"""Box crops and salient images, from files to what the network is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
from detectron2.config import CfgNode

from wsis.config.params import read
from wsis.data.build import training_dicts
from wsis.data.crops import draw_jitter, jittered_windows
from wsis.data.dicts import to_dicts
from wsis.data.images import read_image
from wsis.data.mapper import image_options
from wsis.data.registration import get_source
from wsis.data.source import CocoSource
from wsis.errors import ConfigError, DataError, counted
from wsis.methods.boxcaseg.config import BoxCasegParams, SampleParams
from wsis.methods.boxcaseg.transforms import (
    SalientWindow,
    box_label,
    box_pixels,
    is_grey,
    salient_sample,
)
from wsis.structures.boxes import box_to_slices, mask_to_box
from wsis.structures.pseudo_labels import IGNORE
from wsis.structures.rle import RLE, decode_mask, segmentation_to_rle


@dataclass(frozen=True)
class Samples:
    """Samples of one image.

    Attributes:
        images: (n, 3, S, S) float32, normalised.
        labels: (n, 1, S, S) uint8, 1 inside of the box, or of the mask; IGNORE where a mask's file does not know.
        salient: the labels are masks.
    """

    images: np.ndarray
    labels: np.ndarray
    salient: bool

    @classmethod
    def empty(cls, number: int, size: int, *, salient: bool) -> Samples:
        """Room for n samples."""
        images = np.empty((number, 3, size, size), dtype=np.float32)
        return cls(images, np.empty((number, 1, size, size), dtype=np.uint8), salient)

    def mirror(self, rngs: Sequence[np.random.Generator]) -> None:
        """Turns each sample left to right half of the time; one generator for each."""
        for k, rng in enumerate(rngs):
            if rng.random() < 0.5:
                for values in (self.images, self.labels):
                    values[k] = values[k, ..., ::-1].copy()


@dataclass(frozen=True)
class BoxImage:
    """An image with boxes: (N, 4) float64 XYXY in its pixels, N at least 1."""

    file_name: str
    height: int
    width: int
    boxes: np.ndarray


@dataclass(frozen=True)
class SalientImage:
    """An image and the codes, one at least, whose union is its mask; of each, also what it does not know."""

    file_name: str
    height: int
    width: int
    masks: tuple[RLE, ...]
    ignored: tuple[RLE | None, ...] = ()

    def label(self) -> np.ndarray:
        """(H, W) uint8: 1 where a mask is for certain, else IGNORE where one is not, else 0."""
        label = np.zeros((self.height, self.width), dtype=np.uint8)
        unknown = np.zeros(label.shape, dtype=bool)
        for mask, ignored in zip_longest(self.masks, self.ignored):
            inside = decode_mask(mask)
            if ignored is not None:
                region = decode_mask(ignored)
                unknown |= region
                inside = inside & ~region
            label[inside] = 1
        label[unknown & (label == 0)] = IGNORE
        return label


def sample_params(cfg: CfgNode) -> SampleParams:
    """Reads the keys.

    Raises:
        ConfigError: a value out of its range.
    """
    depth = image_options(cfg)["high_bit_depth"]
    return replace(read(cfg, BoxCasegParams).samples, high_bit_depth=depth)


def box_images(cfg: CfgNode) -> list[BoxImage]:
    """The images of ``DATASETS.TRAIN`` with the boxes of single objects; crowds are left out.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.

    Raises:
        ConfigError, DataError: see :func:`wsis.data.build.training_dicts`; or there is no box.
    """
    images = []
    for record in training_dicts(cfg):
        boxes = [a["bbox"] for a in record["annotations"] if "bbox" in a and not a["iscrowd"]]
        if boxes:
            size = record["height"], record["width"]
            images.append(BoxImage(record["file_name"], *size, np.array(boxes, dtype=np.float64)))
    if not images:
        raise DataError(
            f"DATASETS.TRAIN {', '.join(cfg.DATASETS.TRAIN)}: found no box, expected one at least"
        )
    return images


def salient_images(cfg: CfgNode) -> list[SalientImage]:
    """The images with masks of ``MODEL.BOXCASEG.SALIENT_DATASETS``; neither crowds count, nor what stands in for a mask
    that was not found. With ``SALIENT_CROP`` "object" an image comes once for each mask.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.

    Returns:
        Empty where no such dataset is named.

    Raises:
        ConfigError: a name is unknown, or in ``DATASETS.TRAIN`` too.
        DataError: a file is wrong, or has no mask.
    """
    names = list(cfg.MODEL.BOXCASEG.SALIENT_DATASETS)
    both = sorted(set(names) & set(cfg.DATASETS.TRAIN))
    if both:
        raise ConfigError(
            f"MODEL.BOXCASEG.SALIENT_DATASETS: {both[0]!r} is in DATASETS.TRAIN too, expected other datasets: "
            "masks of the training boxes must not be seen"
        )
    images = []
    of_objects = cfg.MODEL.BOXCASEG.SALIENT_CROP == "object"
    for name in names:
        source = get_source(name, bad_box="skip", need_boxes=False)
        found = []
        stand_ins = _stand_ins(source)
        for record in to_dicts(source):
            size = record["height"], record["width"]
            codes = [
                tuple(
                    segmentation_to_rle(a[key], *size) if a.get(key) else None
                    for key in ("segmentation", "ignore_segmentation")
                )
                for a in record["annotations"]
                if "segmentation" in a and not a["iscrowd"] and a["id"] not in stand_ins
            ]
            groups = [[each] for each in codes] if of_objects else [codes] if codes else []
            found += [
                SalientImage(record["file_name"], *size, *zip(*group, strict=True))
                for group in groups
            ]
        if not found:
            raise DataError(
                f"{source.json_file}: of {counted(len(source.annotations), 'annotation')} none has a 'segmentation', "
                f"expected masks, since MODEL.BOXCASEG.SALIENT_DATASETS names {name!r}"
            )
        images += found
    return images


def _stand_ins(source: CocoSource) -> set[int]:
    """Ids of the masks of a proxy-mask file that were not found but put in the place of one."""
    known = source.table.where(source.table.has("status"))
    out = {a["id"] for a in known if a.get("status") in ("fallback", "empty", "failed")}
    if out:
        number = counted(len(out), "mask stands", "masks stand")
        source.tell(f"{number} in for what was not found (see status): not used as salient objects")
    return out


def box_samples(
    image: BoxImage,
    chosen: Sequence[int],
    rngs: Sequence[np.random.Generator],
    params: SampleParams,
) -> Samples:
    """Jittered crops of boxes of one image, which is read once.

    Args:
        image: where the boxes are.
        chosen: n of them.
        rngs: one for each.
        params: of the samples.

    Raises:
        DataError: the image cannot be read or has another size.
    """
    height, width, size = image.height, image.width, params.crop_size
    pixels = read_image(image.file_name, height, width, params.high_bit_depth)
    out = Samples.empty(len(chosen), size, salient=False)
    windows = sample_windows(image, chosen, rngs, params)
    for k, (i, window) in enumerate(zip(chosen, windows, strict=True)):
        box_pixels(pixels[window], size, params.normalisation, out.images[k])
        touched = box_to_slices(image.boxes[i], height, width)
        out.labels[k] = box_label(touched, window, size)
    if params.turn == "columns":
        out.mirror(rngs)
    return out


def sample_windows(
    image: BoxImage,
    chosen: Sequence[int],
    rngs: Sequence[np.random.Generator],
    params: SampleParams,
) -> list[tuple[slice, slice]]:
    """What :func:`box_samples` cuts out: rows and columns of each, never empty."""
    drawn = [draw_jitter(rng, 1, params.jitter_shift, params.jitter_scale) for rng in rngs]
    boxes, jitter = image.boxes[list(chosen)], np.concatenate(drawn)
    windows = jittered_windows(boxes, jitter, image.height, image.width)
    return [(slice(y0, y1), slice(x0, x1)) for x0, y0, x1, y1 in windows.tolist()]


def whole_sample(image: SalientImage, rng: np.random.Generator, params: SampleParams) -> Samples:
    """A window of a salient image, or a crop around its mask, turned half of the time; a single sample.

    Args:
        image: with its masks.
        rng: of the window.
        params: of the sample.

    Raises:
        DataError: the image cannot be read or has another size.
    """
    pixels = read_image(image.file_name, image.height, image.width, params.high_bit_depth)
    if is_grey(pixels):
        pixels = pixels[..., :1]
    mask = image.label()
    out = Samples.empty(1, params.crop_size, salient=True)
    window, resized = salient_window(rng, params), params.salient_size
    if params.salient_crop != "image":
        pixels, mask = _around_mask(pixels, mask, rng, params)
        window, resized = window._replace(top=0, left=0), params.crop_size
    _, out.labels[0] = salient_sample(
        pixels, mask, window, resized, params.crop_size, params.normalisation, out.images[0]
    )
    if params.turn == "columns":
        out.mirror([rng])
    return out


def _around_mask(
    pixels: np.ndarray, mask: np.ndarray, rng: np.random.Generator, params: SampleParams
) -> tuple[np.ndarray, np.ndarray]:
    """What a jittered crop of the tight box of a mask (H, W) uint8 sees of both; all of them where it is empty."""
    box = mask_to_box(mask > 0)
    if box is None:
        return pixels, mask
    jitter = draw_jitter(rng, 1, params.jitter_shift, params.jitter_scale)
    x0, y0, x1, y1 = jittered_windows(box, jitter, *mask.shape)[0].tolist()
    return pixels[y0:y1, x0:x1], mask[y0:y1, x0:x1]


def salient_window(rng: np.random.Generator, params: SampleParams) -> SalientWindow:
    """What is cut out of a salient image; the last possible row and column are never drawn, as published."""
    room = max(params.salient_size - params.crop_size, 1)
    top, left = rng.integers(0, room, 2).tolist()
    return SalientWindow(params.turn == "rows" and bool(rng.random() < 0.5), top, left)
