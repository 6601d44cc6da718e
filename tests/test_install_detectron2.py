"""The installer of Detectron2: on a small archive of the same form, and what it installed."""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import detectron2
import pytest

from tests.detectron2_behaviour import CHECKS
from tools import install_detectron2 as installer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools" / "install_detectron2.py"
NOTE = "\n# Changed for detectron2 0.6+wsis: "


def source_files() -> dict[str, str]:
    """A tree of the archive's form: every text that a fix replaces, as often as it expects it."""
    projects = ("PointRend/point_rend", "DeepLab/deeplab", "Panoptic-DeepLab/panoptic_deeplab")
    files = {
        "setup.py": "import pathlib, torch\npathlib.Path('ran').touch()\nraise SystemExit('compile')\n",
        "LICENSE": "licence\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: pb1-detectron2\nVersion: 0.6\n",
        "tools/train_net.py": "",
        "detectron2/model_zoo/configs/Base.yaml": "VERSION: 2\n",
        "detectron2/projects/__init__.py": "",
        **{f"projects/{name}/__init__.py": "" for name in projects},
    }
    folders = {target: source for source, target in installer.PACKAGES.items() if "/" in target}
    for fix in installer.FIXES:
        path = f"detectron2/{fix.file}"
        for target, source in folders.items():
            path = path.replace(f"{target}/", f"{source}/")
        files[path] = files.get(path, "") + f"{fix.old}\n" * fix.count
    return files


def write_archive(path: Path, files: dict[str, str]) -> str:
    """Write a source archive and return its SHA-256."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"pb1-detectron2-0.6/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive that carries the pinned hash."""
    path = tmp_path / "index" / "pb1-detectron2-0.6.tar.gz"
    path.parent.mkdir()
    monkeypatch.setattr(installer, "SHA256", write_archive(path, source_files()))
    return path


@pytest.fixture
def local_index(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip finds packages in the archive's folder only; temporary files go to a folder of their own."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    temporary = archive.parent.parent / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return temporary


def test_wheel_has_all_packages_and_configs_and_says_so(archive: Path, tmp_path: Path) -> None:
    path, again = (installer.build_wheel(archive, tmp_path / name) for name in ("a", "b"))
    assert path.read_bytes() == again.read_bytes()
    assert path.name == "detectron2-0.6+wsis-py3-none-any.whl"
    wheel, info = zipfile.ZipFile(path), "detectron2-0.6+wsis.dist-info"
    names = set(wheel.namelist())
    projects = [f"projects/{n}/__init__.py" for n in ("point_rend", "deeplab", "panoptic_deeplab")]
    expected = {f"detectron2/{n}" for n in ("_C.py", "model_zoo/configs/Base.yaml", *projects)}
    assert expected | {f"{info}/LICENSE"} <= names
    assert not any(name.startswith(("tools", "projects", "setup.py")) for name in names)
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "\nName: detectron2\nVersion: 0.6+wsis\n" in metadata
    assert "Requires-Dist: fvcore" in metadata and "black" not in metadata
    rows = list(csv.reader(io.StringIO(wheel.read(f"{info}/RECORD").decode())))
    assert sorted(row[0] for row in rows) == sorted(wheel.namelist())
    for name, digest, size in (row for row in rows if row[0] != f"{info}/RECORD"):
        content = wheel.read(name)
        found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
        assert digest == "sha256=" + found.rstrip("=") and int(size) == len(content)


@pytest.mark.parametrize("fix", installer.FIXES, ids=lambda fix: fix.file)
def test_every_fix_replaces_its_text_and_says_why(fix: installer.Fix) -> None:
    files = {f"detectron2/{fix.file}": (f"{fix.old}\n" * fix.count).encode()}
    installer.apply_fixes(files, (fix,))
    body, _, note = files.popitem()[1].decode().partition(NOTE)
    assert note == f"{fix.reason}\n"
    assert body.strip() == (f"{fix.new}\n" * fix.count).strip()


@pytest.mark.parametrize("times", [0, 2])
def test_fix_that_does_not_apply_is_an_error(times: int) -> None:
    fix = replace(installer.FIXES[0], count=1)
    files = {f"detectron2/{fix.file}": (f"{fix.old}\n" * times).encode()}
    text = f"^.*detectron2/{fix.file}.*found {times} times.*$"
    with pytest.raises(installer.InstallError, match=text) as caught:
        installer.apply_fixes(files, (fix,))
    assert "\n" not in str(caught.value)


def test_archive_with_another_hash_is_refused(archive: Path, tmp_path: Path) -> None:
    pinned = installer.SHA256
    found = write_archive(archive, {"LICENSE": "other\n"})
    with pytest.raises(installer.InstallError, match=f"SHA-256 {found}, expected {pinned}"):
        installer.build_wheel(archive, tmp_path / "wheel")
    assert not (tmp_path / "wheel").exists()


def test_option_wheel_writes_only_the_wheel(local_index, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["install_detectron2.py", "--wheel", str(tmp_path / "out")])
    installer.main()
    assert capsys.readouterr().out == f"{tmp_path / 'out' / installer.WHEEL_NAME}\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [installer.WHEEL_NAME]
    assert not list(local_index.iterdir()), "temporary files are left"
    assert not list(tmp_path.rglob("ran")), "the archive's setup.py ran"


def test_download_of_another_hash_is_refused(local_index, archive, tmp_path) -> None:
    write_archive(archive, {**source_files(), "LICENSE": "other\n"})
    with pytest.raises(installer.InstallError, match="has not the pinned SHA-256"):
        installer.download(tmp_path)


def test_unreachable_index_is_one_line(local_index: Path, archive: Path, tmp_path: Path) -> None:
    archive.unlink()
    with pytest.raises(installer.InstallError) as caught:
        installer.download(tmp_path)
    text = str(caught.value)
    assert text.startswith("pip cannot download pb1-detectron2==0.6 (is the index reachable?): ")
    assert "No matching distribution" in text and "\n" not in text


def test_existing_detectron2_is_left_alone() -> None:
    result = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"Detectron2 {detectron2.__version__} in " in result.stdout
    assert "is already there: left alone" in result.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [("__version__ = '0.7'", "0.7 in "), ("raise ImportError", None), (None, None)],
)
def test_only_an_importable_detectron2_counts(text, expected, tmp_path, monkeypatch) -> None:
    (tmp_path / "detectron2").mkdir()
    if text is not None:
        (tmp_path / "detectron2/__init__.py").write_text(text)
    # Python without site-packages: the folder is the only Detectron2, or a mere folder of that name.
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = installer.find_existing()
    assert found is None if expected is None else str(found).startswith(expected)


def test_stand_in_names_the_operator_and_answers_collect_env() -> None:
    stand_in: Any = ModuleType("detectron2._C")
    exec(compile(ast.parse(installer.STAND_IN), "_C.py", "exec"), stand_in.__dict__)
    assert "pure-Python" in stand_in.get_compiler_version() and not stand_in.has_cuda()
    assert "pure-Python" in stand_in.get_cuda_version()
    operator = stand_in.deform_conv_forward
    with pytest.raises(NotImplementedError, match=r"detectron2\._C\.deform_conv_forward"):
        operator(1, key=2)
    assert not hasattr(stand_in, "__wrapped__")


@pytest.fixture(scope="module")
def behaviour() -> dict[str, str]:
    """The checks of detectron2_behaviour.py in a process that has not imported wsis."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "detectron2_behaviour.py")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("check", [check.__name__ for check in CHECKS])
def test_installed_detectron2(check: str, behaviour: dict[str, str]) -> None:
    assert behaviour[check] == "ok", behaviour[check]
