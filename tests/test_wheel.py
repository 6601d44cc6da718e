"""The built wheel in an environment of its own: what is in it, and `wsis` from any folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = "wsis/shipped/"

pytestmark = pytest.mark.slow


def check_call(*words: str | Path, cwd: Path) -> str:
    """Output of a command that must not fail, in an environment that knows no other wsis."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PIP_NO_INDEX": "1"}
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, since a build leaves its folder in the tree."""
    source = tmp_path_factory.mktemp("source")
    for name in ("wsis", "configs", "tools"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    (source / "datasets").mkdir()
    for path in (*ROOT.glob("*.*"), ROOT / "LICENSE", *ROOT.glob("datasets/*.py")):
        if path.is_file():
            shutil.copy(path, source / path.relative_to(ROOT))
    words = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    check_call(sys.executable, *words, cwd=source)
    (path,) = source.glob("dist/wsis-*.whl")
    return path


@pytest.fixture(scope="module")
def scripts(wheel, tmp_path_factory):
    """Folder with ``python`` and ``wsis`` of a fresh environment, which borrows all packages but wsis."""
    folder = tmp_path_factory.mktemp("fresh")
    check_call(sys.executable, "-m", "venv", "--without-pip", "env", cwd=folder)
    python = folder / "env/bin/python"
    words = ["-m", "pip", "--python", python, "install", "--no-deps", wheel]
    check_call(sys.executable, *words, cwd=folder)
    # as a path, not as a site: the editable wsis there stays unknown
    (site,) = folder.glob("env/lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    found = check_call(python, "-c", "import wsis; print(wsis.__file__)", cwd=folder)
    assert Path(found.strip()).parent.parent == site
    return python.parent


def test_what_is_in_it(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {name.removeprefix(SHIPPED) for name in names if name.startswith(SHIPPED)}
    expected = {
        *ROOT.glob("configs/**/*.yaml"),
        *ROOT.glob("tools/*.py"),
        *ROOT.glob("datasets/*.py"),
    }
    of_checkout = {"tools/benchmark.py", "tools/document_config.py"}
    assert shipped == {path.relative_to(ROOT).as_posix() for path in expected} - of_checkout
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("wsis/**/*.py")}
    rest = {name for name in names if ".dist-info/" not in name and not name.startswith(SHIPPED)}
    templates = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("wsis/report/templates/*")}
    assert rest == {"wsis_command.py"} | modules | templates


def test_masks_of_three_images_from_any_folder(scripts, tmp_path):
    wsis = scripts / "wsis"
    shapes = ["--size", "64", "--train", "3", "--val", "1", "--output", "shapes"]
    check_call(wsis, "prepare", "shapes", *shapes, cwd=tmp_path)
    data = ["--json", "shapes/annotations/shapes_train_boxes.json", "--images", "shapes/images"]
    assert "3 read" in check_call(wsis, "check", *data, cwd=tmp_path)
    words = ["--config-file", "baselines/grabcut.yaml", "--name", "mine", "--num-gpus", "2"]
    words += ["--output", "out", "MODEL.DEVICE", "cpu", "PROXY.NUM_WORKERS", "1"]
    check_call(wsis, "masks", *data, *words, cwd=tmp_path)
    proxy = json.loads((tmp_path / "out/proxy/mine.json").read_text())
    assert len(proxy["images"]) == 3
    assert {a["status"] for a in proxy["annotations"]} <= {"ok", "fallback"}
    truth = "shapes/annotations/shapes_train.json"
    words = ["--proxy", "out/proxy/mine.json", "--gt", truth]
    assert "mIoU" in check_call(wsis, "evaluate", *words, cwd=tmp_path)
