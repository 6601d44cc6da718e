"""Size and speed of the report page: how long it takes to write, how large it is, how soon a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wsis.data.shapes.scene import Scene, draw_scene
from wsis.data.source import load_source
from wsis.errors import ConfigError
from wsis.report.page import write_page
from wsis.structures.boxes import mask_to_box
from wsis.structures.rle import encode_mask

SCENES = 40
"""Different images; more images of the file are these again."""


def benchmark_report(masks: int = 10_000, size: int = 320) -> list[dict[str, Any]]:
    """The report page with true masks beside the proxies, at a tenth of the masks and at all of them.

    Time to write it, its size, and, where a Chromium is installed, the milliseconds until its script has drawn the
    first cards' frames and until everything is loaded.

    Args:
        masks: number of masks.
        size: of an image's side in pixels; an object covers about a tenth of its area.

    Raises:
        ConfigError: fewer than 10 masks.
    """
    if masks < 10:
        raise ConfigError(f"--masks: found {masks}, expected at least 10")
    rows = []
    with tempfile.TemporaryDirectory(prefix="wsis-benchmark-") as name:
        folder = Path(name)
        scenes = [draw_scene(0, "train", index, size) for index in range(SCENES)]
        for index, scene in enumerate(scenes):
            cv2.imwrite(str(folder / f"{index}.png"), scene.image[:, :, ::-1])
        for number in (masks // 10, masks):
            gt, proxy = _write_files(folder, scenes, number)
            start, cpu_start = time.perf_counter(), time.process_time()
            source, truth = load_source(proxy, folder), load_source(gt)
            page = write_page(folder / "report", source, truth, shown=number)
            row: dict[str, Any] = {
                "masks": number,
                "images": page.images,
                "seconds to write": time.perf_counter() - start,
                "CPU seconds": time.process_time() - cpu_start,
                "MB": page.path.stat().st_size / 1e6,
                "kB / mask": page.path.stat().st_size / 1e3 / number,
            }
            ready, loaded = _load(page.path, folder)
            rows.append({**row, "ms to first cards": ready, "ms to all": loaded})
    return rows


def _write_files(folder: Path, scenes: list[Scene], masks: int) -> tuple[Path, Path]:
    """A ground truth and a proxy-mask file whose masks are the true ones, grown or shrunk; equals share their codes."""
    kernel = np.ones((3, 3), dtype=np.uint8)
    made = []
    for scene in scenes:
        objects = []
        for number, (mask, kind) in enumerate(zip(scene.masks, scene.classes, strict=True)):
            change = cv2.dilate if number % 2 else cv2.erode
            proxy = change(mask.astype(np.uint8), kernel, iterations=1 + number % 4)
            box = mask_to_box(mask)
            assert box is not None, "a scene has no empty mask"
            corners = [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]
            objects.append((kind, corners, encode_mask(mask), encode_mask(proxy)))
        made.append(objects)
    images: list[dict[str, Any]] = []
    annotations: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    size = scenes[0].image.shape[0]
    while len(annotations[0]) < masks:
        index = len(images) % len(scenes)
        images.append(
            {"id": len(images), "file_name": f"{index}.png", "height": size, "width": size}
        )
        for kind, corners, *codes in made[index][: masks - len(annotations[0])]:
            for target, code in zip(annotations, codes, strict=True):
                target.append(
                    {
                        "id": len(target) + 1,
                        "image_id": images[-1]["id"],
                        "category_id": kind,
                        "bbox": corners,
                        "segmentation": code,
                        "score": (len(target) * 37 % 101) / 100,
                    }
                )
    kinds = sorted({kind for scene in scenes for kind in scene.classes})
    categories = [{"id": kind, "name": f"form {kind}"} for kind in kinds]
    paths = folder / "gt.json", folder / "proxy.json"
    for path, own in zip(paths, annotations, strict=True):
        document = {"images": images, "categories": categories, "annotations": own}
        path.write_text(json.dumps(document), encoding="utf-8")
    return paths


def _load(page: Path, folder: Path) -> tuple[int | None, int | None]:
    """Milliseconds until a page's first cards stand and until all of it is loaded, None without a browser."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return None, None
    dump = folder / "dump.html"
    with dump.open("wb") as stream:
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
        profile = f"--user-data-dir={folder / 'profile'}"
        subprocess.run(
            [browser, *options, profile, "--dump-dom", page.as_uri()],
            stdout=stream,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    with dump.open(encoding="utf-8", errors="replace") as text:
        head = text.read(2000)
    found = [re.search(rf'data-{name}="(\d+)"', head) for name in ("ready", "loaded")]
    ready, loaded = (None if match is None else int(match.group(1)) for match in found)
    return ready, loaded
