#!/usr/bin/env python
"""Teachers side by side on one dataset: proxy masks, students, scores, pictures.

    python tools/quickstart.py --plan configs/plans/quickstart.yaml --output output/demo

Carries out the plan with the same commands that you would type, prints the table, and writes
results.json and pictures into the output folder. Started again it continues where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from detectron2.utils.logger import setup_logger
from PIL import Image

from wsis.config import find_config
from wsis.data.registration import get_source
from wsis.data.source import load_source
from wsis.engine import output_path, run_tool
from wsis.engine.comparison import Comparison
from wsis.engine.plan import load_plan
from wsis.errors import ConfigError
from wsis.report.comparison import format_results, student_sheet, teacher_sheet
from wsis.report.page import write_page


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the plan."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", required=True, metavar="YAML")
    parser.add_argument("--output", required=True, type=output_path, metavar="DIR")
    parser.add_argument(
        "--data", default="", metavar="DIR", help="takes the place of {data} in the plan"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="steps that are made at a time (default 1)"
    )
    args = parser.parse_args(argv)
    if args.jobs < 1:
        raise ConfigError(f"--jobs: found {args.jobs}, expected 1 or more")
    setup_logger(name="wsis")
    output = args.output.absolute()
    data = str(Path(args.data).absolute()) if args.data else ""
    plan = load_plan(find_config(args.plan), {"data": data, "output": str(output)})
    comparison = Comparison(plan, Path(__file__).resolve().parent.parent, output, args.jobs)
    start = time.monotonic()
    results = comparison.run()
    minutes = (time.monotonic() - start) / 60
    _draw(comparison)
    print(f"\n{plan.title}\n\n{format_results(results)}\n")
    if detector := results["detector"]:
        print(f"detector: box AP {detector['AP']:.1f}, AP50 {detector['AP50']:.1f}")
    steps = sum(results["seconds"].values()) / 60
    print(f"{minutes:.1f} minutes; {steps:.1f} of all steps one by one, those done before included")
    pictures = ("teachers.png", "students.png") if plan.student else ("teachers.png",)
    names = ("results.json", *pictures, "report/*/index.html")
    written = [*(str(output / name) for name in names), *(each[-1] for each in plan.show[-1:])]
    print(f"written: {', '.join(written)}")


def _draw(comparison: Comparison) -> None:
    """The two pictures of a finished plan, and a page to look through each teacher's masks."""
    plan = comparison.plan
    proxies = _existing(plan.teachers, comparison.proxy_file)
    train = get_source(plan.train_masks, bad_box="skip")
    masks = {
        name: load_source(path, train.image_root, bad_box="skip") for name, path in proxies.items()
    }
    sheet = teacher_sheet({**masks, "true masks": train})
    Image.fromarray(sheet).save(comparison.output / "teachers.png")
    for name, proxy in masks.items() if find_spec("jinja2") else ():
        page = comparison.output / "report" / comparison.folder(name).name
        write_page(page, proxy, comparison.truth(name))
    if not plan.student:
        return
    predictions = _existing(comparison.rows, comparison.predictions)
    val = get_source(plan.val, bad_box="skip")
    Image.fromarray(student_sheet(val, predictions)).save(comparison.output / "students.png")


def _existing(rows: Iterable[str], path_of: Callable[[str], Path]) -> dict[str, Path]:
    """The rows that have a file; one without masks has none."""
    paths = {row: path_of(row) for row in rows}
    return {row: path for row, path in paths.items() if path.exists()}


if __name__ == "__main__":
    run_tool(main)
