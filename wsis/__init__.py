"""Boxes (or image tags) in, instance masks out, on Detectron2. Importing it registers everything."""

from wsis import compat as _compat  # noqa: F401  # before anything of Detectron2

__version__ = "0.1.0"
