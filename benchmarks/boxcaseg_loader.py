"""BoxCaseg's samples: made by its loader, and one by one by scikit-image's steps."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy import ndimage

from benchmarks.timing import Row, interleave, timing_rows
from wsis.data.images import read_image
from wsis.data.shapes.scene import draw_scene
from wsis.methods.boxcaseg.loader import JointLoader, JointSamples
from wsis.methods.boxcaseg.sampler import EpochSampler
from wsis.methods.boxcaseg.samples import (
    BoxImage,
    SalientImage,
    SampleParams,
    salient_window,
    sample_windows,
)
from wsis.methods.boxcaseg.transforms import BOX_MEAN, MEAN, STD
from wsis.structures.boxes import box_to_slices
from wsis.structures.rle import decode_mask, encode_mask

VOC_PARAMS = SampleParams(288, 320, 0.25, (0.5, 1.5), "legacy")
BATCH = 8


def benchmark_boxcaseg_loader(
    images: int = 30,
    boxes: tuple[int, ...] = (2, 7, 0),
    height: int = 375,
    width: int = 500,
    repeats: int = 5,
) -> list[Row]:
    """An epoch of BoxCaseg's loader, in one process, against reading and resizing the image anew for every sample.

    The plain way resizes as scikit-image does, by scipy. Both make the same samples of 288 pixels of the same JPEG
    files; ``largest difference`` is that of their pixels and labels. ``reading alone`` reads each image
    once and makes nothing of it.

    Args:
        images: number of images.
        boxes: of each image, a case for each number; 0 = salient images.
        height: of the images in pixels.
        width: of the images in pixels.
        repeats: rounds that count.
    """
    rows = []
    for number in boxes:
        with tempfile.TemporaryDirectory(prefix="wsis-benchmark-") as name:
            work = LoaderWork(Path(name), images, number, height, width)
            kind = f"{number} boxes an image" if number else "salient images"
            plain, loader = f"{kind}, plain", f"{kind}, loader"
            ways = {plain: work.plain, loader: work.loaded, f"{kind}, reading alone": work.read}
            timings = interleave(ways, repeats)
            difference = work.largest_difference()
        for row in timing_rows(timings, plain):
            rows.append({**row, "samples / s": work.number / row["seconds"]})
            rows[-1]["largest difference"] = difference if row["way"] == loader else 0.0
    return rows


class LoaderWork:
    """JPEG images with random boxes, or with a mask, and two ways to the same samples of them.

    Args:
        folder: where the images are written.
        images: their number.
        boxes: of each; 0 = a mask instead.
        height, width: of all images in pixels.
        params: of the samples.
    """

    def __init__(
        self,
        folder: Path,
        images: int,
        boxes: int,
        height: int,
        width: int,
        params: SampleParams = VOC_PARAMS,
    ) -> None:
        rng = np.random.default_rng(0)
        boxed, salient = [], []
        for number in range(images):
            scene = draw_scene(0, "train", number, max(height, width))
            name = str(folder / f"{number}.jpg")
            cv2.imwrite(name, scene.image[:height, :width, ::-1])
            if boxes:
                boxed.append(BoxImage(name, height, width, _boxes(rng, boxes, height, width)))
            else:
                mask = np.asarray(scene.masks.any(axis=0))[:height, :width]
                salient.append(SalientImage(name, height, width, (encode_mask(mask),)))
        self.samples = JointSamples(boxed, salient, params)
        batch = min(BATCH, images)
        self.loader = JointLoader(
            self.samples, EpochSampler(self.samples.images, len(salient), batch)
        )
        self.batches = images * max(boxes, 1) // batch
        self.number = self.batches * batch
        """Of the samples of either way."""
        self.per_image = max(boxes, 1)
        """Samples of each image."""

    def loaded(self) -> None:
        """An epoch of the loader, in this process."""
        for _ in itertools.islice(self.loader, self.batches):
            pass

    def plain(self) -> None:
        """As many samples one by one."""
        for _ in itertools.islice(self.plain_samples(), self.number):
            pass

    def read(self) -> None:
        """Reads as many images as an epoch is made from, and makes nothing of them."""
        images: list[BoxImage | SalientImage] = [*self.samples.boxed, *self.samples.salient]
        for image in images[: -(-self.number // self.per_image)]:
            read_image(image.file_name, image.height, image.width)

    def plain_samples(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Image (3, S, S) and label (1, S, S) float32, in the order of the loader's tasks."""
        for task in self.loader.tasks():
            for sample, seed in zip(task.samples, task.seeds, strict=True):
                rng = np.random.default_rng(seed)
                first = sample - len(self.samples.images)
                yield self._salient(first, rng) if first >= 0 else self._box(sample, rng)

    def largest_difference(self) -> float:
        """Between pixels, in normalised colour, and labels of the two ways over one epoch."""
        plain = self.plain_samples()
        worst, done = 0.0, 0
        for task in self.loader.tasks():
            made = self.samples[task]
            for image, label in zip(made.images.numpy(), made.labels.numpy(), strict=True):
                expected, expected_label = next(plain)
                worst = max(worst, float(np.abs(image - expected).max()))
                worst = max(worst, float(np.abs(label - expected_label).max()))
            done += len(task.samples)
            if done >= self.number:
                break
        return worst

    def _box(self, sample: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        params, number = self.samples.params, self.samples.images[sample]
        image = self.samples.boxed[number]
        chosen = sample - int(self.samples.first[number])
        pixels = read_image(image.file_name, image.height, image.width)
        mask = np.zeros((image.height, image.width), dtype=np.uint8)
        mask[box_to_slices(image.boxes[chosen], image.height, image.width)] = 1
        window = sample_windows(image, [chosen], [rng], params)[0]
        resized = _resize(pixels[window], params.crop_size, "grid-constant")
        return _tensors(resized - BOX_MEAN, _resize_label(mask[window], params.crop_size))

    def _salient(self, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        params, image = self.samples.params, self.samples.salient[number]
        pixels = read_image(image.file_name, image.height, image.width)
        resized = _resize(pixels, params.salient_size, "mirror")
        label = _resize_label(decode_mask(image.masks[0]).astype(np.uint8), params.salient_size)
        drawn = salient_window(rng, params)
        if drawn.flip_rows:
            resized, label = resized[::-1], label[::-1]
        rows = slice(drawn.top, drawn.top + params.crop_size)
        columns = slice(drawn.left, drawn.left + params.crop_size)
        resized = resized[rows, columns]
        return _tensors((resized / resized.max() - MEAN) / STD, label[rows, columns])


def _resize(image: np.ndarray, size: int, mode: str) -> np.ndarray:
    """(H, W, 3) uint8 to (S, S, 3) float64 in [0, 1], the steps of scikit-image's ``resize`` with order 1."""
    pixels = image / 255
    factors = np.array([image.shape[0] / size, image.shape[1] / size, 1.0])
    if (factors > 1).any():
        sigma = np.maximum(0, (factors - 1) / 2)
        pixels = ndimage.gaussian_filter(pixels, sigma, mode=mode.removeprefix("grid-"))
    out = ndimage.zoom(pixels, 1 / factors, order=1, mode=mode, grid_mode=True)
    return np.clip(out, image.min() / 255, image.max() / 255)


def _resize_label(mask: np.ndarray, size: int) -> np.ndarray:
    """(H, W) to (S, S), without interpolation."""
    factors = size / mask.shape[0], size / mask.shape[1]
    return np.asarray(ndimage.zoom(mask, factors, order=0, mode="mirror", grid_mode=True))


def _boxes(rng: np.random.Generator, number: int, height: int, width: int) -> np.ndarray:
    """(N, 4) XYXY of 5 % to 60 % of each side."""
    sides = rng.uniform(0.05, 0.6, (number, 2)) * (width, height)
    near = rng.uniform(0, 1, (number, 2)) * ((width, height) - sides)
    return np.concatenate([near, near + sides], axis=1).round()


def _tensors(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    return planes, label[None].astype(np.float32)
