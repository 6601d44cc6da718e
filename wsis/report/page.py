"""The report page: one HTML file to look through proxy masks, the worst first. See ``docs/report.md``."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsis.data.source import CocoSource
from wsis.errors import ConfigError, DataError, counted
from wsis.evaluation.proxy_pairs import MaskPairs, pair_masks
from wsis.evaluation.proxy_quality import measure_pairs
from wsis.report.pictures import Picture, draw_strips, make_pictures, read_strips
from wsis.report.strip import StripMaker
from wsis.structures.proxy_file import atomic_writer, remove_torn
from wsis.structures.proxy_masks import STATUSES

if TYPE_CHECKING:
    from jinja2 import Template

PAGE_NAME = "index.html"
SCRIPTS = ("draw.js", "page.js", "marks.js", "grid.js")
SHOWN = 10_000
"""Masks on a page unless one says otherwise; more make the file large."""
DIGITS = 4
"""Of a share on the page."""
MEASURES = {
    "fit": "box_fit",
    "coverage": "coverage",
    "ignored": "ignored",
    "iou": "mIoU",
    "iouOutsideIgnored": "mIoU_outside_ignored",
}
"""Columns of the page that are metrics, and their names in :func:`wsis.evaluation.proxy_quality.measure_pairs`."""


@dataclass(frozen=True)
class WrittenPage:
    """What :func:`write_page` wrote.

    Args:
        path: the page.
        masks: in the file, crowds aside.
        shown: of them on the page, the worst ones.
        images: that the shown ones are of.
        measure: what "worst" means: "IoU" with the ground truth, or "box fit".
        unreadable: what was wrong with images, a line each; their masks have no picture.
        strips: of the images have one.
    """

    path: Path
    masks: int
    shown: int
    images: int
    measure: str
    unreadable: list[str]
    strips: int = 0


def write_page(
    output: str | os.PathLike[str],
    proxy: CocoSource,
    gt: CocoSource | None = None,
    shown: int = SHOWN,
    progress: Callable[[int], Callable[[], object]] | None = None,
    strips: str | os.PathLike[str] | StripMaker | None = None,
) -> WrittenPage:
    """Writes ``index.html`` into a folder: the whole page, or nothing.

    Args:
        output: folder, made if need be.
        proxy: a proxy-mask file, or any COCO JSON with boxes and masks, with the folder of its images.
        gt: the same annotations with true masks, or None.
        shown: so many masks, the worst ones.
        progress: given the number of images, returns what is called after each.
        strips: folder that :func:`wsis.report.strip.write_strips` wrote, or what makes strips of the images; an image
            that has a strip shows it beside its enlarged masks.

    Raises:
        DataError: see :func:`wsis.evaluation.proxy_pairs.pair_masks`; no image is there, or one has not the size that
            the file says; none has a strip, or one cannot be read; the page cannot be written.
        ConfigError: Jinja2 is not installed.
    """
    template = _template()
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file, expected a folder to write {PAGE_NAME} into")
    pairs = pair_masks(proxy, gt)
    values, _ = measure_pairs(pairs, gt is not None)
    order = worst_first(values)[:shown]
    images = _images_of(proxy, pairs, order)
    data = page_data(proxy, pairs, values, order)
    strip_of = _strips_of(strips, proxy, data["files"])
    data["strips"] = [int(strip is not None) for strip in strip_of]
    advance = progress(len(images)) if progress is not None else None
    pictures = make_pictures(proxy, pairs, order, advance)
    try:
        remove_torn(folder / PAGE_NAME)
        with atomic_writer(folder / PAGE_NAME) as stream:
            parts = {"data": data, "pictures": pictures.items, "strips": strip_of}
            for text in template.generate(parts, **_inlined(*SCRIPTS)):
                stream.write(text)
    except OSError as error:
        raise DataError(
            f"{folder / PAGE_NAME}: cannot be written ({error.strerror or error})"
        ) from error
    return WrittenPage(
        folder / PAGE_NAME,
        len(pairs.masks),
        len(order),
        len(images),
        str(data["measure"]),
        pictures.unreadable,
        sum(data["strips"]),
    )


def _strips_of(
    strips: str | os.PathLike[str] | StripMaker | None, proxy: CocoSource, files: list[str]
) -> list[Picture | None]:
    """The strips of images of a file by their names."""
    if strips is None:
        return []
    if not isinstance(strips, StripMaker):
        return read_strips(strips, files)
    entries = {image["file_name"]: image for image in proxy.images}
    return draw_strips(strips, [entries[name] for name in files])


def worst_first(values: dict[str, np.ndarray]) -> np.ndarray:
    """The order of masks: by IoU with the ground truth, then by box fit; those without a true mask come last.

    Args:
        values: of :func:`wsis.evaluation.proxy_quality.measure_pairs`, (N,) each.

    Returns:
        (N,) indices; equals stay in the file's order.
    """
    fit = values["box_fit"]
    iou = values.get("mIoU")
    return np.argsort(fit, kind="stable") if iou is None else np.lexsort((fit, iou))


def page_data(
    proxy: CocoSource, pairs: MaskPairs, values: dict[str, np.ndarray], order: np.ndarray
) -> dict[str, Any]:
    """All that the page knows of the masks but their pictures, ready for JSON.

    Args:
        proxy: the file.
        pairs: its N masks.
        values: their metrics, (N,) each.
        order: (M,) which masks the page shows, in its order.

    Returns:
        ``columns``: name to M values, one per card, None where there is none; indices into ``classes``, ``statuses``
        and ``files``. ``measure``: what goes by "worst". ``total``, ``crowd``: masks and crowd regions of the file.
        ``overall``: means over the whole file. ``title``, ``origin``: of the header. ``sha256``: what marks belong to.
    """
    annotation_of = {a["id"]: a for a in proxy.annotations}
    images = {image["id"]: image for image in proxy.images}
    annotations = [annotation_of[int(i)] for i in pairs.ids[order]]
    used = {a["image_id"] for a in annotations}
    files = list(dict.fromkeys(im["file_name"] for im in proxy.images if im["id"] in used))
    file_index = {name: i for i, name in enumerate(files)}
    statuses = [s for s in STATUSES if s in set(pairs.status)]
    columns: dict[str, list[Any]] = {
        "id": pairs.ids[order].tolist(),
        "class": pairs.classes[order].tolist(),
        "status": [statuses.index(pairs.status[i]) for i in order],
        "file": [file_index[images[a["image_id"]]["file_name"]] for a in annotations],
        "box": [[round(float(v), 2) for v in a["bbox"]] for a in annotations],
        "score": [a.get("score") for a in annotations],
    }
    columns |= {k: _numbers(values[v][order]) for k, v in MEASURES.items() if v in values}
    return {
        "title": _printable(Path(proxy.json_file).name),
        "origin": _printable(_origin(proxy)),
        "sha256": proxy.sha256,
        "measure": "IoU" if "mIoU" in values else "box fit",
        "total": len(pairs.masks),
        "crowd": pairs.num_crowd,
        "overall": {k: _mean(values[MEASURES[k]]) for k in ("fit", "iou") if MEASURES[k] in values},
        "classes": pairs.class_names,
        "statuses": statuses,
        "files": files,
        "columns": columns,
    }


def _origin(proxy: CocoSource) -> str:
    """What made the masks, as far as the file says so."""
    provenance = proxy.info.get("wsis")
    if isinstance(provenance, dict) and "method" in provenance:
        return f"{provenance['method']}, wsis {provenance.get('version')}"
    description = proxy.info.get("description")
    return description if isinstance(description, str) else ""


def _printable(text: str) -> str:
    """Without what UTF-8 cannot hold: half a surrogate pair, from JSON or from a file's name."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _numbers(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else round(float(v), DIGITS) for v in values]


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), DIGITS) if known.size else None


def _images_of(proxy: CocoSource, pairs: MaskPairs, order: np.ndarray) -> list[dict[str, Any]]:
    """The images that the chosen masks are of; single ones may be missing, but not all: that is another folder."""
    chosen = set(pairs.ids[order].tolist())
    ids = {a["image_id"] for a in proxy.annotations if a["id"] in chosen}
    images = [image for image in proxy.images if image["id"] in ids]
    if images and not any(os.path.isfile(proxy.path_of(image)) for image in images):
        raise DataError(
            f"{proxy.json_file}: of its {counted(len(images), 'image')} none is there "
            f"(the first: {proxy.path_of(images[0])}), expected their folder as --images"
        )
    return images


def _template() -> Template:
    """The page's template, everything that it prints escaped."""
    try:
        import jinja2
    except ImportError as error:
        raise ConfigError(
            f"the report page needs Jinja2 ({error}): `make install`, or `pip install wsis[report]`"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("wsis.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def _inlined(*scripts: str) -> dict[str, str]:
    """The page's own style and script, and the hashes by which the browser runs these and nothing else."""
    folder = resources.files("wsis.report") / "templates"
    css, *js = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", *scripts))

    texts = {"css": css, "js": "".join(js)}
    digests = {k: base64.b64encode(hashlib.sha256(v.encode()).digest()) for k, v in texts.items()}
    return texts | {f"{k}_hash": f"sha256-{v.decode()}" for k, v in digests.items()}
