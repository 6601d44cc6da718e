"""Small files to make report pages of, and what a page shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.report.browser import by_id
from wsis.data.source import CocoSource
from wsis.structures import ScoreMaps
from wsis.structures.pseudo_labels import label_path, write_manifest
from wsis.structures.rle import encode_mask
from wsis.structures.score_maps import KIND, SUFFIX, provenance_digest, write_score_maps

SIZE = 64
STATUSES = ("ok", "ok", "fallback", "empty")
DRAWN = "[...document.querySelectorAll('#cards img')].every((image) => image.hasAttribute('src'))"
"""JavaScript: whether all pictures of the page are there."""
CARD = "document.activeElement.closest('.card')?.getAttribute('aria-posinset')"
"""JavaScript: the place of the mask that has the focus."""


def write_files(folder: Path, images: int = 4, each: int = 3) -> dict[str, Any]:
    """Images, ``gt.json`` and ``proxy.json``, whose masks are the true ones with more or less of their left side cut.

    Every second annotation is "wide" (category 3), the others "tall" (7); the status goes through :data:`STATUSES`,
    every "fallback" has ignored pixels. Returns the content of ``proxy.json``.
    """
    rng = np.random.default_rng(3)
    document: dict[str, Any] = {"info": {"wsis": {"method": "Shorten", "version": "1.0"}}}
    document["categories"] = [{"id": 3, "name": "wide"}, {"id": 7, "name": "tall"}]
    size = {"height": SIZE, "width": SIZE}
    names = [(i, f"{i}.png") for i in range(1, images + 1)]
    document["images"] = [{"id": i, "file_name": name, **size} for i, name in names]
    annotations, truth = document.setdefault("annotations", []), []
    for image_id in range(1, images + 1):
        pixels = rng.integers(0, 90, (SIZE, SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{image_id}.png"), pixels)
        for _ in range(each):
            number = len(truth)
            x, y = (int(v) for v in rng.integers(2, 30, 2))
            width, height = (28, 12) if number % 2 == 0 else (12, 28)
            true_mask = np.zeros((SIZE, SIZE), dtype=bool)
            true_mask[y : y + height, x : x + width] = True
            mask, ignore = true_mask.copy(), np.zeros_like(true_mask)
            cut = (number * 5) % (width - 2)
            mask[:, : x + cut] = False
            status = STATUSES[number % len(STATUSES)]
            annotation = {"id": 100 + number, "image_id": image_id, "status": status, "iscrowd": 0}
            annotation |= {"category_id": 7 if number % 2 else 3, "bbox": [x, y, width, height]}
            if status == "fallback":
                ignore[y : y + height, max(0, x - 2) : x + cut] = True
            if status == "empty":
                mask, ignore, cut = true_mask, true_mask, width
            annotation["segmentation"] = encode_mask(mask)
            annotation["score"] = round(1 - cut / width, 3)
            if status in ("fallback", "empty"):
                annotation["ignore_segmentation"] = encode_mask(ignore)
            annotations.append(annotation)
            truth.append({**annotation, "segmentation": encode_mask(true_mask)})
    (folder / "proxy.json").write_text(json.dumps(document))
    (folder / "gt.json").write_text(json.dumps({**document, "annotations": truth}))
    return document


def write_maps(folder: Path, source: CocoSource, name: str) -> Path:
    """Score maps of stride 8 of the classes of every image, as a teacher leaves them; returns their folder."""
    provenance = {"method": name}
    for image in source.images:
        classes = {
            source.id_to_contiguous[a["category_id"]] + 1
            for a in source.annotations_of(image["id"])
        }
        size = image["height"], image["width"]
        scores = np.ones((len(classes), *(-(-side // 8) for side in size)))
        maps = ScoreMaps(np.array(sorted(classes)), scores, *size, 8)
        path = label_path(folder, name, image["file_name"], SUFFIX)
        write_score_maps(path, maps, image["file_name"], provenance_digest(provenance))
    write_manifest(folder, provenance, [name], source.class_names, KIND)
    return folder / name


def shown(tab):
    """The values under the cards in the grid, in their order."""
    return tab.js(
        "[...document.querySelectorAll('.card')].sort((a, b) => a.ariaPosInset - b.ariaPosInset)"
        ".map((card) => card.querySelector('.value').textContent)"
    )


def counted(tab):
    return tab.text("count")


def choose(tab, identity, value):
    """Sets a control as a user's choice does."""
    tab.js(
        f"{{ const control = {by_id(identity)}; control.value = {json.dumps(value)};"
        "for (const kind of ['input', 'change']) control.dispatchEvent(new Event(kind)); }"
    )
