"""Time a way of doing something against the plain way of doing the same, in one run.

    python tools/benchmark.py PART [--output JSON] [--threads N] [options]

Prints a table, and writes it with --output. The ways take turns, after a warm-up round; a number is the median of the
rounds, beside it stand the lowest and the highest. `tools/benchmark.py PART --help` says what a part compares.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.bana import benchmark_bana_labels, benchmark_bana_pooling
from benchmarks.bana_seg import benchmark_bana_seg
from benchmarks.bas import benchmark_bas
from benchmarks.bbam import benchmark_bbam
from benchmarks.bbam_generation import benchmark_bbam_generation
from benchmarks.bbam_memory import benchmark_bbam_memory
from benchmarks.boxcaseg_loader import benchmark_boxcaseg_loader
from benchmarks.boxcaseg_network import benchmark_boxcaseg_network
from benchmarks.command import Part, add_part, format_part, run_part
from benchmarks.contour import benchmark_contour
from benchmarks.cpu_step import benchmark_cpu_step
from benchmarks.fusion import benchmark_fusion
from benchmarks.generate import benchmark_generate
from benchmarks.icam import benchmark_icam
from benchmarks.many_boxes import benchmark_many_boxes
from benchmarks.processes import benchmark_scale, benchmark_workers
from benchmarks.report import benchmark_report
from benchmarks.sam import benchmark_sam
from benchmarks.seeds import (
    benchmark_pairs,
    benchmark_score_maps,
    benchmark_seed_sweep,
    benchmark_walk,
)
from benchmarks.source import benchmark_source
from benchmarks.students import benchmark_students
from wsis.engine import run_tool
from wsis.structures.proxy_file import write_json_atomic

PARTS: dict[str, Part] = {
    "bana_pooling": benchmark_bana_pooling,
    "bana_labels": benchmark_bana_labels,
    "bana_seg": benchmark_bana_seg,
    "bas": benchmark_bas,
    "bbam": benchmark_bbam,
    "bbam_generation": benchmark_bbam_generation,
    "bbam_memory": benchmark_bbam_memory,
    "boxcaseg_loader": benchmark_boxcaseg_loader,
    "boxcaseg_network": benchmark_boxcaseg_network,
    "contour": benchmark_contour,
    "fusion": benchmark_fusion,
    "generate": benchmark_generate,
    "icam": benchmark_icam,
    "many_boxes": benchmark_many_boxes,
    "cpu_step": benchmark_cpu_step,
    "students": benchmark_students,
    "workers": benchmark_workers,
    "report": benchmark_report,
    "sam": benchmark_sam,
    "scale": benchmark_scale,
    "walk": benchmark_walk,
    "pairs": benchmark_pairs,
    "source": benchmark_source,
    "seed_sweep": benchmark_seed_sweep,
    "score_maps": benchmark_score_maps,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one part, prints its table and writes the JSON."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parsers = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for name, part in PARTS.items():
        add_part(parsers, name, part)
    args = parser.parse_args(argv)
    result = run_part(args.part, PARTS[args.part], args)
    print(format_part(result))
    if args.output:
        write_json_atomic(args.output, result, indent=2)


if __name__ == "__main__":
    run_tool(main)
