"""What it costs that every finished image is on disk at once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.chain import DATASET, build_teacher, draw_shapes, teacher_cfg
from benchmarks.timing import Row, interleave, timing_rows
from wsis.data.registration import get_source
from wsis.engine.generation import generate_proxy_masks
from wsis.engine.journal import JournalWriter, header_line, journal_path, result_line
from wsis.engine.proxy_job import ProxyJob
from wsis.structures.proxy_file import proxy_annotation, write_proxy_file


def benchmark_journal(images: int = 300, size: int = 192, repeats: int = 7) -> list[Row]:
    """Writing masks through a journal, with a sync per image, against writing the file once from memory.

    The masks are made before: of the cheapest teacher that has outlines, the ellipse. ``generation`` is the whole of
    its generation on the same images with no worker, beside which the cost stands.

    Args:
        images: number of images.
        size: of an image's side in pixels.
        repeats: rounds that count.
    """
    with tempfile.TemporaryDirectory(prefix="wsis-benchmark-") as name:
        folder = Path(name)
        data = draw_shapes(folder / "data", images, size)
        cfg = teacher_cfg(data, folder / "out", "InscribedEllipse", workers=0)
        teacher = build_teacher(cfg)
        made = json.loads(generate_proxy_masks(cfg, teacher).files[0].read_bytes())
        writing = _Writing(made, folder)
        numbers = iter(range(10**9))

        def generation() -> None:
            again = cfg.clone()
            again.OUTPUT_DIR = str(folder / f"out{next(numbers)}")
            generate_proxy_masks(again, teacher)

        ways: dict[str, Callable[[], object]] = {
            "written once (plain)": writing.once,
            "journal, one sync": partial(writing.through_journal, lines_at_once=images),
            "journal, a sync per image": partial(writing.through_journal, lines_at_once=1),
            "generation": generation,
        }
        rows = timing_rows(interleave(ways, repeats), "written once (plain)")
    for row in rows:
        row["ms / image"] = 1000 * row["seconds"] / images
    return rows


class _Writing:
    """Writes the same masks in two ways.

    Args:
        made: a proxy-mask file.
        folder: where to write.
    """

    def __init__(self, made: dict[str, Any], folder: Path) -> None:
        self.info = made["info"]
        self.job = ProxyJob(
            name=DATASET,
            source=get_source(DATASET),
            folder=folder / "written",
            supervision="box",
            class_agnostic=False,
            keep_true_masks=False,
            provenance=made["info"]["wsis"],
        )
        self.job.folder.mkdir()
        by_id = {annotation["id"]: annotation for annotation in made["annotations"]}
        keys = ("id", "segmentation", "score", "status")
        self.records = {
            image["id"]: [
                {key: by_id[annotation["id"]][key] for key in keys}
                for annotation in self.job.asked(image["id"])
            ]
            for image in self.job.source.images
        }

    def once(self) -> None:
        """The final file from memory."""
        source = self.job.source
        masks = {each["id"]: each for records in self.records.values() for each in records}
        annotations = (
            proxy_annotation(a, masks[a["id"]]["segmentation"], None, 1.0, "ok")
            for a in source.annotations
        )
        write_proxy_file(self.job.path, self.info, source.images, source.categories, annotations)

    def through_journal(self, lines_at_once: int) -> None:
        """A journal, then the final file from it."""
        path = journal_path(self.job.folder, self.job.name, 0)
        with JournalWriter(path, header_line(self.job.provenance), 0) as writer:
            for lines in _groups(self.records, lines_at_once):
                writer.append(*lines)
        self.job.write(self.job.read_journals())


def _groups(records: dict[Any, list[dict[str, Any]]], number: int) -> Iterator[list[bytes]]:
    """The journal's lines, so many at a time."""
    lines = []
    for image_id, each in records.items():
        lines.append(result_line(image_id, each))
        if len(lines) == number:
            yield lines
            lines = []
    if lines:
        yield lines
