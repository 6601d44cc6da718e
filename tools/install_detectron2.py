#!/usr/bin/env python3
"""Install Detectron2 where there is none: ``python tools/install_detectron2.py [--wheel DIR]``.

Detectron2 itself is not on the package registry. ``pb1-detectron2`` is: the Python files of the v0.6
tag without the C++ sources, so that a plain ``pip install`` of it fails while compiling. This script
downloads that archive by name with pip (so pip's own index, proxy and certificate settings hold),
refuses it unless its SHA-256 is the pinned one, leaves the extension out, applies ``FIXES`` (what
Python code of 2021 lacks on today's Python, PyTorch, NumPy and Pillow), and builds and installs the
pure-Python wheel ``detectron2-0.6+wsis``. No code of the archive runs on the way. An importable
Detectron2, whatever its version, is left alone.

Standard library only; the interpreter that runs it is the one that gets Detectron2.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ARCHIVE = "pb1-detectron2==0.6"
SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
VERSION = "0.6+wsis"
DIST_INFO = f"detectron2-{VERSION}.dist-info"
WHEEL_NAME = f"detectron2-{VERSION}-py3-none-any.whl"

# Folders of the archive that become packages, as its own setup.py has it.
PACKAGES = {
    "detectron2": "detectron2",
    "projects/PointRend/point_rend": "detectron2/projects/point_rend",
    "projects/DeepLab/deeplab": "detectron2/projects/deeplab",
    "projects/Panoptic-DeepLab/panoptic_deeplab": "detectron2/projects/panoptic_deeplab",
}

# As in the archive, less what only served caffe2 export and code formatting (black, future, pydot),
# and without the upper bound of iopath, which shut out the release that fvcore needs.
REQUIREMENTS = (
    "Pillow>=7.1",
    "matplotlib",
    "numpy",
    "pycocotools>=2.0.2",
    "termcolor>=1.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5,<0.1.6",
    "iopath>=0.1.7",
    "omegaconf>=2.1",
    "hydra-core>=1.1",
)


class InstallError(Exception):
    """What stops the installation, in one line."""


@dataclass(frozen=True)
class Fix:
    """One textual change of one file of the wheel.

    Attributes:
        file: path inside the package.
        old: text that must occur exactly ``count`` times.
        new: its replacement.
        reason: why; written into the changed file, as the Apache licence asks.
        count: number of occurrences.
    """

    file: str
    old: str
    new: str
    reason: str
    count: int = 1


_PILLOW = "Pillow 10 removed Image.LINEAR"
_NUMPY = "NumPy 1.24 removed np.int, np.float, np.str and (until 2.0) np.bool"
_RESOURCES = "setuptools 82 removed pkg_resources"
_ROTATED = "the compiled operator is missing: let its use say so"
_SCHEDULER = "PyTorch's own schedulers derive from LRScheduler, no longer from _LRScheduler"

FIXES = (
    Fix("__init__.py", '"0.6"', f'"{VERSION}"', "name the changed version"),
    Fix("data/transforms/transform.py", "Image.LINEAR", "Image.BILINEAR", _PILLOW),
    Fix("model_zoo/model_zoo.py", "import pkg_resources\n", "", _RESOURCES),
    Fix(
        "model_zoo/model_zoo.py",
        'pkg_resources.resource_filename(\n        "detectron2.model_zoo", '
        'os.path.join("configs", config_path)\n    )',
        'os.path.join(os.path.dirname(__file__), "configs", config_path)',
        _RESOURCES,
    ),
    Fix("evaluation/sem_seg_evaluation.py", "=np.int)", "=int)", _NUMPY, 2),
    Fix("evaluation/sem_seg_evaluation.py", "=np.float)", "=float)", _NUMPY, 2),
    Fix("evaluation/sem_seg_evaluation.py", "(np.float)", "(float)", _NUMPY, 3),
    Fix("evaluation/pascal_voc_evaluation.py", "np.bool)", "bool)", _NUMPY, 2),
    Fix("data/datasets/pascal_voc.py", "np.str)", "str)", _NUMPY),
    Fix("data/build.py", "dtype=np.int)", "dtype=int)", _NUMPY),
    Fix("data/build.py", "dtype=np.int\n", "dtype=int\n", _NUMPY),
    Fix("structures/masks.py", "np.bool)", "bool)", _NUMPY, 3),
    Fix("utils/visualizer.py", "np.bool)", "bool)", _NUMPY, 3),
    Fix("utils/video_visualizer.py", "np.bool)", "bool)", _NUMPY),
    Fix(
        "data/common.py",
        "sample(self._fallback_candidates, k=1)",
        "sample(sorted(self._fallback_candidates), k=1)",
        "Python 3.11 refuses random.sample of a set",
    ),
    Fix("engine/hooks.py", "lr_scheduler._LRScheduler", "lr_scheduler.LRScheduler", _SCHEDULER, 2),
    Fix(
        "export/__init__.py",
        "from .api import *\n",
        "try:\n"
        "    from .api import *\n"
        "except ModuleNotFoundError as error:\n"
        '    if error.name is None or error.name.split(".")[0] != "caffe2":\n'
        "        raise\n",
        "PyTorch has no caffe2 any more; the other exporters and utils.analysis need none",
    ),
    Fix(
        "evaluation/coco_evaluation.py",
        "(COCOeval_opt if use_fast_impl else COCOeval)(",
        "COCOeval(",
        "no compiled COCO evaluation: use_fast_impl=True falls back to pycocotools",
    ),
    Fix("layers/nms.py", "# BC-compat\n", "# BC-compat\n\nfrom detectron2 import _C\n", _ROTATED),
    Fix("layers/nms.py", "torch.ops.detectron2.nms_rotated(", "_C.nms_rotated(", _ROTATED),
    Fix(
        "modeling/anchor_generator.py",
        "torch.meshgrid(shifts_y, shifts_x)",
        'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
        "torch.meshgrid warns without `indexing`",
    ),
)

# Takes the place of the compiled extension. The three functions below are those that
# `python -m detectron2.utils.collect_env` calls.
STAND_IN = '''\
"""Stand-in for Detectron2's compiled extension, which this pure-Python build leaves out."""


def get_compiler_version():
    return "none (pure-Python build)"


def get_cuda_version():
    return "none (pure-Python build)"


def has_cuda():
    return False


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*args, **kwargs):
        raise NotImplementedError(
            f"detectron2._C.{name} is not in this pure-Python build of Detectron2: deformable "
            "convolution, rotated boxes and the fast COCO evaluation need Detectron2 compiled from "
            "source"
        )

    return missing
'''

# Stands in for setuptools while pip downloads: pip asks a source archive for its metadata, which
# would run the archive's setup.py. This answers in its place.
BACKEND = """\
import pathlib, sys

__legacy__ = sys.modules[__name__]


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    info = pathlib.Path(metadata_directory, "pb1_detectron2-0.6.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: pb1-detectron2\\nVersion: 0.6\\n")
    return info.name
"""


def find_existing() -> str | None:
    """Return version and place of the importable Detectron2, or None where there is none."""
    code = "import detectron2 as d; print(d.__version__, 'in', d.__path__[0])"
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


def download(folder: Path) -> Path:
    """Download the source archive by name with pip, running none of its code.

    Args:
        folder: existing folder for the archive and pip's input.

    Returns:
        The archive's path.

    Raises:
        InstallError: pip found or delivered nothing, or an archive with another hash.
    """
    backend = folder / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(BACKEND, encoding="utf-8")
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{ARCHIVE} --hash=sha256:{SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
    command += ["--dest", str(folder / "archive"), "--requirement", str(requirement)]
    # PYTHONPATH puts the stand-in before the real setuptools, which must not patch distutils here.
    env = {**os.environ, "PYTHONPATH": str(backend.parent), "SETUPTOOLS_USE_DISTUTILS": "stdlib"}
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    if "DO NOT MATCH THE HASHES" in result.stderr:
        raise InstallError(f"{ARCHIVE} from the package index has not the pinned SHA-256 {SHA256}")
    archives = sorted((folder / "archive").glob("*.tar.gz"))
    if result.returncode != 0 or len(archives) != 1:
        errors = [
            line for line in result.stderr.splitlines() if "ERROR" in line or "No mod" in line
        ]
        detail = errors[-1].removeprefix("ERROR: ") if errors else "pip gave no reason"
        raise InstallError(f"pip cannot download {ARCHIVE} (is the index reachable?): {detail}")
    return archives[0]


def check_hash(archive: Path) -> None:
    """Refuse an archive whose SHA-256 is not the pinned one.

    Raises:
        InstallError: naming both hashes.
    """
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise InstallError(f"{archive.name} has SHA-256 {found}, expected {SHA256}")


def read_archive(archive: Path) -> dict[str, bytes]:
    """Return the wheel's files, path inside the wheel to content, before any fix."""
    files = {}
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            if not member.isfile():
                continue
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            content = tar.extractfile(member)
            for source, target in PACKAGES.items():
                if content is not None and path.is_relative_to(source):
                    files[str(target / path.relative_to(source))] = content.read()
            if str(path) == "LICENSE" and content is not None:
                files[f"{DIST_INFO}/LICENSE"] = content.read()
    return files


def apply_fixes(files: dict[str, bytes], fixes: tuple[Fix, ...] = FIXES) -> None:
    """Apply the fixes in place and note each reason once at the end of the changed file.

    Raises:
        InstallError: a fix whose file is missing, or whose old text is not there ``count`` times.
    """
    reasons: dict[str, dict[str, None]] = {}
    for fix in fixes:
        file = f"detectron2/{fix.file}"
        text = files.get(file, b"").decode("utf-8")
        if (found := text.count(fix.old)) != fix.count:
            raise InstallError(
                f"fix of {file} does not apply: {fix.old!r} found {found} times, "
                f"expected {fix.count} ({fix.reason})"
            )
        files[file] = text.replace(fix.old, fix.new).encode("utf-8")
        reasons.setdefault(file, {})[fix.reason] = None
    for file, texts in reasons.items():
        notes = "".join(f"# Changed for detectron2 {VERSION}: {text}\n" for text in texts)
        files[file] = files[file].rstrip(b"\n") + b"\n\n" + notes.encode("utf-8")


def write_wheel(files: dict[str, bytes], folder: Path) -> Path:
    """Write the wheel with its metadata, byte-identical for identical files.

    Args:
        files: path inside the wheel to content.
        folder: where to write; made if missing.

    Returns:
        The wheel's path.
    """
    requires = "".join(f"Requires-Dist: {requirement}\n" for requirement in REQUIREMENTS)
    metadata = (
        f"Metadata-Version: 2.1\nName: detectron2\nVersion: {VERSION}\n"
        "Summary: Detectron2 0.6 without its compiled extension, fixed for current dependencies\n"
        f"License: Apache-2.0\nRequires-Python: >=3.11\n{requires}"
    )
    wheel = "Wheel-Version: 1.0\nGenerator: wsis\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {
        **files,
        f"{DIST_INFO}/METADATA": metadata.encode(),
        f"{DIST_INFO}/WHEEL": wheel.encode(),
    }
    record = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(content)}\n")
    record.append(f"{DIST_INFO}/RECORD,,\n")
    files[f"{DIST_INFO}/RECORD"] = "".join(record).encode()

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WHEEL_NAME
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)  # its fixed date keeps the wheel reproducible
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return path


def build_wheel(archive: Path, folder: Path) -> Path:
    """Build the wheel of a checked archive in ``folder`` and return its path."""
    check_hash(archive)
    files = read_archive(archive)
    apply_fixes(files)
    files["detectron2/_C.py"] = STAND_IN.encode("utf-8")
    return write_wheel(files, folder)


def main() -> None:
    """Build the wheel, and install it unless ``--wheel`` asks for the file only."""
    parser = argparse.ArgumentParser(description="Install Detectron2 where there is none.")
    parser.add_argument("--wheel", metavar="DIR", type=Path, help="only write the wheel into DIR")
    args = parser.parse_args()
    if args.wheel is None and (existing := find_existing()) is not None:
        print(f"Detectron2 {existing} is already there: left alone")
        return
    with tempfile.TemporaryDirectory(prefix="detectron2-") as temporary:
        folder = Path(temporary)
        wheel = build_wheel(download(folder), args.wheel or folder)
        if args.wheel is not None:
            print(wheel)
            return
        command = [sys.executable, "-m", "pip", "install", "--quiet", str(wheel)]
        if (status := subprocess.run(command).returncode) != 0:
            raise InstallError(f"pip install of {wheel.name} ended with status {status}")
    print(f"Detectron2 {find_existing()} installed")


if __name__ == "__main__":
    try:
        main()
    except (InstallError, OSError) as error:
        sys.exit(f"error: {error}")
