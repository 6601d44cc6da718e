"""The command ``wsis``: the tools and the converters, by one word each, from any folder.

    wsis masks --json boxes.json --images images --config-file baselines/grabcut.yaml --output output/grabcut
    wsis WORD --help

Not in the package, and standard library only: it must also run where Detectron2 is still to be installed.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

WORDS = {
    "masks": "generate_proxy_masks",
    "train": "train_net",
    "evaluate": "evaluate_proxy_masks",
    "evaluate-labels": "evaluate_pseudo_labels",
    "evaluate-maps": "evaluate_score_maps",
    "check": "check_dataset",
    "report": "visualize_proxy_masks",
    "marks": "apply_marks",
    "strips": "label_strips",
    "draw": "draw_masks",
    "predict": "predict",
    "explain": "explain",
    "export": "export_masks",
    "compare": "quickstart",
    "record": "record_rois",
    "install-detectron2": "install_detectron2",
}
"""What a tool is called here; any other one goes by its own name."""
NOT_SHIPPED = ("benchmark", "document_config")
"""Tools that need the checkout."""
PREPARE = "prepare"
"""The word before a converter's name, as in ``wsis prepare boxes``."""
HELP = ("-h", "--help", "help")
"""What asks for the list of commands, of all or after a word that begins several."""


def shipped() -> Path:
    """The folder with tools, datasets and configs: in a wheel they are there, in a checkout links to them.

    Raises:
        SystemExit: there is no wsis.
    """
    found = importlib.util.find_spec("wsis")
    if found is None or found.origin is None:
        sys.exit("error: the package wsis is not installed")
    return Path(found.origin).parent / "shipped"


def commands(folder: Path) -> dict[str, Path]:
    """What may stand after ``wsis``, one or two words, to the script that it runs."""
    words = {tool: word for word, tool in WORDS.items()}
    tools = {path.stem: path for path in sorted(folder.glob("tools/*.py"))}
    found = {word: tools[tool] for word, tool in WORDS.items() if tool in tools}
    for name, path in tools.items():
        if name not in words and name not in NOT_SHIPPED:
            found[name.replace("_", "-")] = path
    for path in sorted(folder.glob("datasets/prepare_*.py")):
        name = path.stem.removeprefix("prepare_").replace("_", "-")
        found[f"{PREPARE} {name}"] = path
    return found


def overview(known: dict[str, Path]) -> str:
    """A line for each command, with the first one of its script."""
    lines = ["usage: wsis COMMAND [options]", "", "wsis COMMAND --help says more about each:", ""]
    for name, path in known.items():
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines.append(f"  {name:24}{text.splitlines()[0]}")
    lines.append(f"  {'configs [WORD]':24}The names that --config-file takes besides a path.")
    return "\n".join(lines)


def config_names(folder: Path, words: Sequence[str]) -> list[str]:
    """Names of the shipped configs that have all these words in them."""
    paths = sorted((folder / "configs").glob("**/*.yaml"))
    names = [path.relative_to(folder / "configs").as_posix() for path in paths]
    return [name for name in names if all(word.lower() in name.lower() for word in words)]


def tell(text: str) -> None:
    """Writes a text that may be longer than what is read of it, as before ``| head``."""
    try:
        sys.stdout.write(f"{text}\n" if text else "")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # what a shell says of a program that SIGPIPE ended


def find(known: dict[str, Path], words: Sequence[str]) -> tuple[str, Path]:
    """The command that words begin with, and its script.

    Raises:
        ValueError: none; names the nearest ones.
    """
    name = " ".join(words[: 2 if words[0] == PREPARE else 1])
    if name == "masks" and any(word.split("=")[0] == "--marks" for word in words):
        return name, known["marks"]  # masks of masks and of what a person says of them
    if name in known:
        return name, known[name]
    close = [each for each in known if each.startswith(f"{name} ")]
    close = close or difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    raise ValueError(f"wsis {name}: no such command{hint}; wsis --help lists all")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what the words (default ``sys.argv[1:]``) ask for, as ``python tools/...`` does.

    Raises:
        SystemExit: as the tool ends; with 2, after one line, where there is no such command or no Detectron2.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    folder = shipped()
    known = commands(folder)
    if not words or words[0] in HELP:
        tell(overview(known))
        return
    if words[0] in (PREPARE, "configs") and words[1:2] and words[1] in HELP:
        tell(overview({name: path for name, path in known.items() if name.split()[0] == words[0]}))
        return
    if words[0] == "configs":
        tell("\n".join(config_names(folder, words[1:])))
        return
    try:
        name, script = find(known, words)
        if script.stem != "install_detectron2" and importlib.util.find_spec("detectron2") is None:
            raise ValueError("Detectron2 is not installed: run wsis install-detectron2")
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    sys.argv = [f"wsis {name}", *words[len(name.split()) :]]
    runpy.run_path(os.fspath(script), run_name="__main__")


if __name__ == "__main__":
    main()
