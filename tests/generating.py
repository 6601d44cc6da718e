from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from detectron2.modeling import build_model

from wsis.engine import WsisCheckpointer
from wsis.engine.generation import GenerationResult, generate_proxy_masks


def generate(cfg, *, resume: bool = False) -> GenerationResult:
    model = build_model(cfg)
    WsisCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    return generate_proxy_masks(cfg, model, resume=resume)


def read(result: GenerationResult) -> dict[str, Any]:
    return json.loads(result.files[0].read_text())


def in_a_process(work: Callable[[], Any]) -> int:
    """Does the work in a copy of this process; returns its number."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            work()
        finally:
            os._exit(0)
    return child


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
