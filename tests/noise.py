"""Teachers with one weight and some chance, and a dataset with everything that generation meets."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.modeling.teacher import (
    Maker,
    MapRefiner,
    Refiner,
    TagTeacher,
    Teacher,
    seed_from_inputs,
)
from wsis.structures import ImageMaps, ProxyMasks, ScoreMaps, Seed
from wsis.structures.boxes import box_to_slices

SIZE = (24, 32)
KINDS = {"NoiseTeacher": "proxy/noise.json", "NoiseTagTeacher": "score_maps/noise/manifest.json"}
"""The teachers, each with the file that ends a dataset named ``noise``."""


class NoiseRefiner:
    """Pixels of the box above a threshold of the seed, which chance moves; what else it does is for tests.

    Args:
        trap: folder; ``slow`` in it delays every image by a hundredth of a second, ``pids`` collects the
            numbers of the processes, ``kill-7`` kills the process at image 7, ``sem_seg``, ``ids``,
            ``map_name`` and ``size`` return what a teacher must not.
    """

    def __init__(self, trap: str) -> None:
        self.trap = Path(trap)

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        self.spring(seed)
        crops, ignore, scores = [], [], []
        for box, level in zip(seed.boxes, seed.maps["levels"], strict=True):
            rows, columns = box_to_slices(box, seed.height, seed.width)
            values = image[rows, columns].mean(axis=2) + np.random.normal(0, 5)  # noqa: NPY002
            crops.append((values > level, columns.start, rows.start))
            ignore.append((values > level - 20, columns.start, rows.start))
            scores.append(float(np.random.random()))  # noqa: NPY002
        masks = ProxyMasks.from_crops(seed, crops, ignore=ignore, scores=scores)
        if (self.trap / "sem_seg").exists():
            masks.sem_seg = {"y": np.zeros((seed.height, seed.width), np.uint8)}
        if (self.trap / "ids").exists():
            masks.annotation_ids = masks.annotation_ids[::-1]
        return masks

    def spring(self, seed: Seed) -> None:
        """What happens whatever is made."""
        if (self.trap / "slow").exists():
            time.sleep(0.01)
        if (self.trap / "pids").exists():
            (self.trap / "pids" / str(os.getpid())).touch()
        if (self.trap / f"kill-{seed.image_id}").exists():
            os.kill(os.getpid(), signal.SIGKILL)


class NoiseMapRefiner(NoiseRefiner):
    """A map of each tag, on a grid of a quarter of the image's sides, which chance moves, and a label of the image's
    size.
    """

    def __call__(self, seed: Seed, image: np.ndarray) -> ImageMaps:
        self.spring(seed)
        scores = cv2.blur(image, (5, 5))[::4, ::4].mean(axis=2) / seed.maps["levels"][:, None, None]
        scores += np.random.random(scores.shape)  # noqa: NPY002
        classes = 1 + np.array(seed.tags, dtype=int)
        maps = ScoreMaps(classes, scores, seed.height, seed.width, 4)
        label = (image.mean(axis=2) > seed.maps["levels"].mean()).astype(np.uint8) * classes[0]
        if (self.trap / "size").exists():
            label = label[1:]
        names = ["other"] if (self.trap / "map_name").exists() else ["m"]
        return ImageMaps({"y": label}, dict.fromkeys(names, maps))


class Noise(Maker):
    """Levels around the mean of the image, scaled by the weight and moved by chance, one for each box or tag."""

    result_keys = ("MODEL.PIXEL_MEAN",)
    proposed: list[Any]

    @configurable
    def __init__(self, *, trap: str = "") -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))
        self.trap = trap
        self.proposed = []

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {"trap": cfg.OUTPUT_DIR}

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        assert not torch.is_grad_enabled() and not self.training
        seeds = []
        for inputs in batched_inputs:
            self.proposed.append(inputs["image_id"])
            number = len(inputs["instances"] if "instances" in inputs else inputs["tags"])
            level = inputs["image"].float().mean() * self.scale + torch.randn(number)
            seeds.append(seed_from_inputs(inputs, {"levels": level.numpy()}))
        return seeds


@META_ARCH_REGISTRY.register()
class NoiseTeacher(Noise, Teacher):
    """Masks of boxes, by a threshold."""

    def refiner(self) -> Refiner:
        return NoiseRefiner(self.trap)


@META_ARCH_REGISTRY.register()
class NoiseTagTeacher(Noise, TagTeacher):
    """Of tags a label named ``y`` and score maps named ``m``."""

    label_names = ("y",)
    map_names = ("m",)

    def refiner(self) -> MapRefiner:
        return NoiseMapRefiner(self.trap)


def write_data(folder: Path, images: int = 12) -> dict[str, Any]:
    """Images of noise and ``boxes.json``, whose annotations are not grouped by image.

    Of the images the last has no annotation. Annotation 9001 is a crowd, 9002 lies outside its image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    height, width = SIZE
    document: dict[str, Any] = {"info": {"description": "noise"}, "images": [], "annotations": []}
    document["categories"] = [{"id": 3, "name": "a"}, {"id": 8, "name": "b"}]
    for image_id in range(1, images + 1):
        pixels = cv2.blur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (3, 3))
        cv2.imwrite(str(folder / f"{image_id}.png"), pixels)
        document["images"].append(
            {"id": image_id, "file_name": f"{image_id}.png", "height": height, "width": width}
        )
    for number in range(2 * (images - 1)):
        x, y = rng.integers(0, 16, 2).tolist()
        annotation = {"id": 100 + number, "image_id": 1 + number % (images - 1)}
        annotation |= {"category_id": 3 if number % 3 else 8, "bbox": [x + 0.25, y, 9.5, 7]}
        document["annotations"].append(annotation | {"iscrowd": 0})
    extra = {"image_id": 2, "category_id": 3}
    counts = [2 * height, 3, height * width - 2 * height - 3]
    crowd = {"iscrowd": 1, "segmentation": {"size": [height, width], "counts": counts}}
    document["annotations"].insert(3, {"id": 9001, **extra, "bbox": [1, 1, 8, 8], **crowd})
    document["annotations"].insert(5, {"id": 9002, **extra, "bbox": [40, 2, 5, 5]})
    write_json(folder, document)
    return document


def write_json(folder: Path, document: Any) -> None:
    """Replaces ``boxes.json``."""
    (folder / "boxes.json").write_text(json.dumps(document))


def make_opts(data: Path, output: Path, **changes: Any) -> list[str]:
    """Config keys as on the command line: the teacher, its weights, one dataset named ``noise``."""
    weights = data / "weights.pth"
    if not weights.exists():
        torch.save({"model": {"scale": torch.tensor(1.0)}}, weights)
    values = {
        "MODEL.META_ARCHITECTURE": "NoiseTeacher",
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": str(weights),
        "DATASETS.CUSTOM": [["noise", str(data / "boxes.json"), str(data)]],
        "DATASETS.TRAIN": ("noise",),
        "DATASETS.BAD_BOX": "skip",
        "INPUT.MIN_SIZE_TEST": SIZE[0],
        "PROXY.NUM_WORKERS": 0,
        "OUTPUT_DIR": str(output),
        "SEED": 1,
    }
    values.update({key.replace("__", "."): value for key, value in changes.items()})
    return [str(item) for pair in values.items() for item in pair]


def make_cfg(data: Path, output: Path, **changes: Any) -> CfgNode:
    """The config of :func:`make_opts`, ready for generation."""
    cfg = load_cfg(None, make_opts(data, output, **changes))
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    return cfg
