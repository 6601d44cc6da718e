"""What importing wsis needs: no compiled extension of Detectron2, no CRF, no extra, no display, no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import importlib, pkgutil, socket, sys
from importlib.machinery import ExtensionFileLoader, PathFinder

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in ("pydensecrf", "jinja2"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name == "detectron2._C":
            spec = PathFinder.find_spec(name, path, target)
            if spec is not None and isinstance(spec.loader, ExtensionFileLoader):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

def refuse(*unused, **named):
    raise AssertionError("importing wsis asks for the network")

sys.meta_path.insert(0, Refuse)
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import wsis

wsis.get_cfg()
for module in pkgutil.walk_packages(wsis.__path__, "wsis."):
    importlib.import_module(module.name)
import torch

assert not torch.cuda.is_initialized()  # or no process that is forked later could use a GPU
import numpy as np

cfg = wsis.get_cfg()
cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "GrabCut", "cpu"
proxy = wsis.ProxyPredictor(cfg)(np.zeros((20, 30, 3), np.uint8), [[1, 2, 9, 12]])
print(tuple(proxy.pred_masks.shape))
"""


def test_everything_imports_and_a_teacher_works_without_what_is_optional(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "(1, 20, 30)"
