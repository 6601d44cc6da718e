"""The parts on the command line.

A part is a function with a default for every argument, which become its options on the command line; it returns the
rows of its table.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
from collections.abc import Callable
from typing import Any

from tabulate import tabulate

from benchmarks.timing import Row, machine
from wsis.engine import output_path
from wsis.errors import ConfigError
from wsis.parallel import limited_threads

Part = Callable[..., list[Row]]

_MAY_BE_NONE = ("boxes", "crf_steps", "masks", "per_image", "plain_boxes", "processes", "workers")
"""Numbers that may be 0."""


def add_part(parsers: Any, name: str, part: Part) -> None:
    """Adds a part to the command line, with an option for each of its arguments.

    Args:
        parsers: what ``add_subparsers`` of an ``ArgumentParser`` returned.
        name: of the part.
        part: its arguments have numbers, texts or tuples of them as defaults.
    """
    description = (inspect.getdoc(part) or "").partition("\n\nArgs:")[0]
    parser = parsers.add_parser(
        name,
        help=" ".join(description.partition("\n\n")[0].split()),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output", type=output_path, metavar="JSON", help="write the rows to this file"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: 1")
    for key, value in _defaults(part).items():
        several = isinstance(value, tuple)
        parser.add_argument(
            "--" + key.replace("_", "-"),
            type=type(value[0] if several else value),
            nargs="+" if several else None,
            default=value,
            help=f"default: {' '.join(map(str, value)) if several else value}",
        )


def _defaults(part: Part) -> dict[str, Any]:
    return {key: each.default for key, each in inspect.signature(part).parameters.items()}


def run_part(name: str, part: Part, args: argparse.Namespace) -> dict[str, Any]:
    """Runs a part with a fixed number of threads.

    Args:
        name: of the part.
        part: the function.
        args: as parsed after :func:`add_part`.

    Returns:
        Name, options, description of the machine, and rows, as they go into the JSON file.

    Raises:
        ConfigError: a number is too small.
    """
    options = {key: getattr(args, key) for key in _defaults(part)}
    check_numbers({**options, "threads": args.threads})
    with limited_threads(args.threads):
        about = machine()
        rows = part(**options)
    return {"part": name, "options": options, "machine": about, "rows": rows}


def check_numbers(options: dict[str, Any]) -> None:
    """Checks the options that are numbers, or lists of them.

    Raises:
        ConfigError: one is too small.
    """
    for key, value in options.items():
        least = 0 if key in _MAY_BE_NONE else 1
        for number in value if isinstance(value, list | tuple) else [value]:
            if (isinstance(number, int) and number < least) or (
                isinstance(number, float) and not number > 0
            ):
                expected = f"at least {least}" if isinstance(number, int) else "above 0"
                option = key.replace("_", "-")
                raise ConfigError(f"--{option}: found {number}, expected {expected}")


def format_part(result: dict[str, Any]) -> str:
    """The result of :func:`run_part` as text: the machine, then a table for the rows of each kind."""
    about = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    tables = [
        tabulate(list(rows), headers="keys", floatfmt=".4g", tablefmt="pipe")
        for _, rows in itertools.groupby(result["rows"], key=tuple)
    ]
    return "\n\n".join([f"{result['part']}: {about}", *tables])
