"""Small files to make report pages of, and what a page shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wsis.structures.rle import encode_mask

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
    document: dict[str, Any] = {
        "info": {"wsis": {"method": "Shorten", "version": "1.0"}},
        "images": [],
        "categories": [{"id": 3, "name": "wide"}, {"id": 7, "name": "tall"}],
        "annotations": [],
    }
    truth = []
    for image_id in range(1, images + 1):
        pixels = rng.integers(0, 90, (SIZE, SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{image_id}.png"), pixels)
        document["images"].append(
            {"id": image_id, "file_name": f"{image_id}.png", "height": SIZE, "width": SIZE}
        )
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
            annotation = {
                "id": 100 + number,
                "image_id": image_id,
                "category_id": 3 if number % 2 == 0 else 7,
                "bbox": [x, y, width, height],
                "iscrowd": 0,
                "segmentation": encode_mask(true_mask if status == "empty" else mask),
                "score": 0.0 if status == "empty" else round(1 - cut / width, 3),
                "status": status,
            }
            if status == "fallback":
                ignore[y : y + height, max(0, x - 2) : x + cut] = True
            if status in ("fallback", "empty"):
                code = encode_mask(true_mask if status == "empty" else ignore)
                annotation["ignore_segmentation"] = code
            document["annotations"].append(annotation)
            truth.append({**annotation, "segmentation": encode_mask(true_mask)})
    (folder / "proxy.json").write_text(json.dumps(document))
    (folder / "gt.json").write_text(json.dumps({**document, "annotations": truth}))
    return document


def shown(tab):
    """The values under the cards in the grid, in their order."""
    return tab.js(
        "[...document.querySelectorAll('.card')].sort((a, b) => a.ariaPosInset - b.ariaPosInset)"
        ".map((card) => card.querySelector('.value').textContent)"
    )


def counted(tab):
    return tab.js("document.getElementById('count').textContent")


def choose(tab, identity, value):
    """Sets a control as a user's choice does."""
    tab.js(
        f"(() => {{ const control = document.getElementById('{identity}');"
        f"control.value = {json.dumps(value)};"
        "for (const kind of ['input', 'change']) control.dispatchEvent(new Event(kind)); })()"
    )
