from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from detectron2.modeling import build_model

from wsis.engine import WsisCheckpointer
from wsis.engine.generation import GenerationResult, generate_proxy_masks

PARTS = ("proxy", "pseudo_labels", "score_maps")


def generate(cfg, *, resume: bool = False) -> GenerationResult:
    model = build_model(cfg)
    WsisCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    return generate_proxy_masks(cfg, model, resume=resume)


def read(result: GenerationResult) -> dict[str, Any]:
    return json.loads(result.files[0].read_text())


def outputs(folder: Path) -> dict[str, bytes]:
    """All that a generation has made in its ``OUTPUT_DIR`` but journals and locks, by name."""
    files = (path for part in PARTS for path in (folder / part).rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.suffix != ".jsonl" and path.name != ".lock"
    }


def by_id(result: GenerationResult) -> dict[int, dict[str, Any]]:
    """The annotations."""
    return {a["id"]: a for a in read(result)["annotations"]}


@contextlib.contextmanager
def edited(folder: Path) -> Iterator[dict[str, Any]]:
    """``boxes.json`` in a folder, to be changed in the block."""
    path = folder / "boxes.json"
    document = json.loads(path.read_text())
    yield document
    path.write_text(json.dumps(document))


def in_a_process(work: Callable[[], Any], errors: Path = Path(os.devnull)) -> int:
    """Does the work silently in a copy of this process; returns its number. It exits with 1 if that raises."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            work()
            status = 0
        except BaseException:  # noqa: BLE001  # the parent process tells
            errors.write_text(traceback.format_exc())
        finally:
            os._exit(status)
    return child


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def killed_while_writing(pattern: str, folder: Path, work: Callable[[], Any]) -> str:
    """Kills the work where it would finish a file of this pattern; returns the name of what is left of it."""
    mark = folder.parents[1] / f"half{pattern}"
    finish = os.fsync

    def stop(descriptor: int) -> None:
        if any(folder.glob(pattern)):
            mark.touch()
            time.sleep(600)
        finish(descriptor)

    def until_then() -> None:
        os.fsync = stop
        work()

    child = in_a_process(until_then)
    wait_for(mark.exists)
    kill(child)
    mark.unlink()
    (half,) = hidden(folder)
    return half


def hidden(folder: Path) -> set[str]:
    return {path.name for path in folder.glob(".*")}
