"""Damages one file of a tool's input at random and runs the tool: it succeeds, or ends in one line of error.

    python -m tests.mutations --number 2000 --seed 1

The files are JSON, XML, text of YOLO, CSV, PNG, JPEG and npz, as bytes and as what they mean (a value of another type,
an entry that is gone, twice or huge). Counts by tool how many runs ended well and how many in an error, and keeps what
a crash or an endless run can be repeated from: the folder with the damaged file, and the command.
"""

# ruff: noqa: T201, S311  (its lines are what this command is for; its chance is no secret)

from __future__ import annotations

import argparse
import io
import json
import os
import random
import runpy
import shutil
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import wsis.engine  # noqa: F401  # each tool, a copy of this process, finds it there
from tests.data import formats_trees as trees
from tests.generating import in_a_process
from tests.noise import make_opts, write_data
from tests.tiny import teacher_config, write_dataset

ROOT = Path(__file__).parents[1]
SECONDS = 60
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    2**63,
    0.5,
    "",
    "7",
    "ß\x00",
    [],
    [[]],
    {},
]
"""What may stand where something else was expected."""

Node = tuple[Any, Any]


def nodes(value: Any) -> Iterator[Node]:
    """Each container of a JSON document with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from nodes(value[key])


def mutate_json(text: bytes, rng: random.Random) -> bytes:
    """One entry is another, gone, there twice or under another key."""
    document = json.loads(text)
    holder, key = rng.choice(list(nodes(document)))
    if rng.random() < 0.6:
        holder[key] = rng.choice(ODD)
    elif isinstance(holder, list):
        holder[key : key + 1] = [holder[key]] * rng.choice([0, 2])
    else:
        value = holder.pop(key)
        if rng.random() < 0.5:
            holder[key + rng.choice(["s", " "])] = value
    return json.dumps(document).encode()


def mutate_xml(text: bytes, rng: random.Random) -> bytes:
    """One element has another text or attribute, or is gone."""
    root = ET.fromstring(text)
    parent, element = rng.choice([(p, e) for p in root.iter() for e in p])
    if rng.random() < 0.3:
        parent.remove(element)
    elif element.attrib and rng.random() < 0.7:
        element.set(rng.choice(list(element.attrib)), rng.choice(["", "-1", "x", "1e308", "nan"]))
    else:
        element.text = rng.choice(["", "-1", "x", "1e308", "nan", "99999"])
    return ET.tostring(root)


def mutate_lines(text: bytes, rng: random.Random) -> bytes:
    """One word of a line is another, or a line is gone or there twice."""
    lines = text.decode().splitlines()
    if not lines:
        return b"0 0.5 0.5 2 x\n"
    index = rng.randrange(len(lines))
    if rng.random() < 0.7:
        mark = "," if "," in lines[index] else " "
        words = lines[index].split(mark)
        words[rng.randrange(len(words))] = rng.choice(["", "-1", "x", "1e308", "nan", "0.5 0.5"])
        lines[index] = mark.join(words)
    else:
        lines[index : index + 1] = [lines[index]] * rng.choice([0, 2])
    return "\n".join(lines).encode()


def mutate_npz(data: bytes, rng: random.Random) -> bytes:
    """One array has another type or shape, or is gone."""
    with np.load(io.BytesIO(data)) as file:
        arrays = dict(file)
    name = rng.choice(sorted(arrays))
    array = arrays.pop(name)
    changes: list[Callable[[], Any]] = [
        lambda: array.astype(rng.choice(["float64", "int8", "U8", "bool"])),
        lambda: array[..., None],
        lambda: array.ravel()[:-1],
        lambda: np.zeros((0,), array.dtype),
    ]
    if rng.random() < 0.8:
        arrays[name] = rng.choice(changes)()
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Cut off, bytes changed, a part gone, twice or foreign."""
    at = rng.randrange(len(data) + 1)
    to = min(len(data), at + rng.choice([1, 4, 64]))
    noise = rng.randbytes(rng.choice([1, 3, 16]))
    forms = [data[:at], data[:at] + data[to:], data[:at] + noise + data[to:]]
    return rng.choice([*forms, data[:at] + data[at:to] * 2 + data[to:], noise])


MEANING = {
    ".json": mutate_json,
    ".xml": mutate_xml,
    ".txt": mutate_lines,
    ".csv": mutate_lines,
    ".yaml": mutate_lines,
    ".npz": mutate_npz,
}


def doors(root: Path) -> dict[str, tuple[list[Any], str]]:
    """Tool, words and the pattern of the files that are damaged, by name; the data in ``root`` are made here."""
    data, made = root / "data", root / "made"
    write_dataset(data)
    boxes = data / "boxes.json"
    custom = ["DATASETS.CUSTOM", f"[['tiny', '{boxes}', '{data}']]", "DATASETS.TRAIN", "('tiny',)"]
    ellipse = ["--config-file", ROOT / "configs/baselines/ellipse.yaml", *custom]
    write_data(root / "tags")
    kind = {"MODEL__META_ARCHITECTURE": "NoiseTagTeacher", "WSIS__SUPERVISION": "image"}
    noise = make_opts(root / "tags", root / "maps", PROXY__SEM_SEG=True, **kind)
    tags = ["--json", root / "tags/boxes.json", "--images", root / "tags"]
    for words in (
        [*ellipse, "OUTPUT_DIR", made],
        noise,
        [*ellipse[:2], *tags, "--output", root / "truth", "DATASETS.BAD_BOX", "skip"],
    ):
        status, errors = ended(["tools/generate_proxy_masks.py", *words], root / "log.txt")
        assert status == 0, errors[-500:]
    proxy, out = made / "proxy/tiny.json", root / "out"
    evaluate = ["tools/evaluate_proxy_masks.py", "--proxy", proxy, "--gt", boxes]
    labels = next(path.parent for path in (root / "maps").rglob("*.png"))
    maps = next(path.parent for path in (root / "maps").rglob("*.npz"))
    truth = root / "truth/proxy/boxes.json"
    config = teacher_config(root / "run", data, SOLVER__MAX_ITER=1, OUTPUT_DIR=str(out))
    found = {
        "check_dataset": (["tools/check_dataset.py", "--json", boxes, "--images", data], "data/*"),
        "generation": (["tools/generate_proxy_masks.py", *ellipse, "OUTPUT_DIR", out], "data/*"),
        "training": (["tools/train_net.py", "--config-file", config], "data/*"),
        "proxy quality": (evaluate, "made/proxy/*.json"),
        "truth": (evaluate, "data/*.json"),
        "label quality": (
            ["tools/evaluate_pseudo_labels.py", "--labels", labels, "--gt", truth],
            f"{labels.relative_to(root)}/*",
        ),
        "map quality": (
            ["tools/evaluate_score_maps.py", "--maps", maps, "--gt", truth],
            f"{maps.relative_to(root)}/*",
        ),
        "page": (
            ["tools/visualize_proxy_masks.py", "--proxy", proxy, "--images", data, "--output", out],
            "made/proxy/*.json",
        ),
        "folder per class": (
            [
                "datasets/prepare_image_folder.py",
                "--images",
                root / "f",
                "--output",
                out / "t.json",
            ],
            "f/*/*",
        ),
    }
    for form in ("coco-polygons", "yolo-seg", "labelme"):
        words = ["tools/export_masks.py", "--to", form, "--proxy", proxy, "--output", out / "x"]
        more = [] if form == "coco-polygons" else ["--images", data]
        found[f"export {form}"] = ([*words, *more], "made/proxy/*.json")
    shutil.copytree(data, root / "f/animal", ignore=shutil.ignore_patterns("*.json"))
    for form, make in trees.FORMS.items():
        tree = root / form
        trees.write_images(tree / "images")
        source = make(tree)
        words = ["datasets/prepare_boxes.py", "--from", form, "--input", source]
        words += ["--images", tree / "images", "--output", out / "boxes.json"]
        if form == "openimages":
            words += ["--classes", tree / "codes.csv"]
        found[f"boxes of {form}"] = (words, f"{form}/**/*")
    return found


def ended(words: list[Any], log: Path) -> tuple[int | None, str]:
    """Runs a tool in a copy of this process; its exit status, None where it did not end, and all that it printed."""

    def work() -> None:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1) for n in (1, 2))
        sys.argv = [str(word) for word in words]
        try:
            runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(int(end.code or 0))
        except BaseException:  # noqa: BLE001  # told as any crash
            sys.excepthook(*sys.exc_info())
            os._exit(1)

    child = in_a_process(work)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), log.read_text(errors="replace")
        time.sleep(0.01)
    os.killpg(child, 9)
    os.waitpid(child, 0)
    return None, log.read_text(errors="replace")


def judged(status: int | None, printed: str, out: Path) -> str:
    """fine or refused; else what is wrong."""
    if status is None:
        return "does not end"
    if "Traceback (most recent call last)" in printed:
        return "crash"
    if status in (0, 3):
        return "fine"
    lines = printed.strip().splitlines()
    told = [number for number, line in enumerate(lines, 1) if line.startswith("error: ")]
    # the checker tells all that is wrong and then counts it
    if status != 2 or not told or (told[-1] < len(lines) and " problem" not in lines[-1]):
        return f"status {status} without an error line"
    left = [path for path in out.rglob("*") if path.name.startswith(".") and path.is_file()]
    return f"left {left[0].name}" if [p for p in left if p.name != ".lock"] else "refused"


def campaign(
    number: int, rng: random.Random, root: Path, keep: Path, only: str = ""
) -> Counter[tuple[str, str]]:
    """So many damaged files, each to one tool; what they ended in, by tool.

    Args:
        number: of files.
        rng: of what is damaged, and how.
        root: empty folder to work in.
        keep: where the work folder of what ended otherwise goes.
        only: name of the tool; "" = any.
    """
    pristine = root / "pristine"
    counts: Counter[tuple[str, str]] = Counter()
    work = root / "work"
    work.mkdir()
    table = {name: door for name, door in doors(work).items() if only in ("", name)}
    work.rename(pristine)

    def fresh() -> None:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(pristine, work)

    for name, (words, _) in table.items():  # else what is refused says nothing about the damage
        fresh()
        status, printed = ended(words, work / "log.txt")
        assert status == 0, f"{name}, nothing damaged: {printed[-500:]}"
    for index in range(number):
        fresh()
        name = rng.choice(sorted(table))
        words, pattern = table[name]
        path = rng.choice(sorted(p for p in work.glob(pattern) if p.is_file()))
        before = path.read_bytes()
        meaning = MEANING.get(path.suffix, mutate_bytes)
        try:
            path.write_bytes((meaning if rng.random() < 0.7 else mutate_bytes)(before, rng))
        except (ValueError, IndexError):  # the file has nothing to change in its meaning
            path.write_bytes(mutate_bytes(before, rng))
        outcome = judged(*ended(words, work / "log.txt"), work / "out")
        counts[name, outcome] += 1
        if outcome not in ("fine", "refused"):
            shutil.copytree(work, keep / str(index))
            command = " ".join(map(str, words))
            print(f"{index}: {name}, {path.relative_to(work)}: {outcome}: {command}", flush=True)
    return counts


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--number", type=int, default=2000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--keep", type=Path, default=Path("mutations"), metavar="DIR")
    parser.add_argument("--tool", default="", metavar="NAME", help="a name that is printed; all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="wsis-mutations-") as folder:
        counts = campaign(args.number, random.Random(args.seed), Path(folder), args.keep, args.tool)
    for name in sorted({name for name, _ in counts}):
        print(name, {outcome: n for (each, outcome), n in sorted(counts.items()) if each == name})
    total = Counter[str]()
    for (_, outcome), n in counts.items():
        total[outcome] += n
    print(f"{args.number} damaged files, seed {args.seed}: {dict(total)}")


if __name__ == "__main__":
    main()
