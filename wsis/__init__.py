"""Boxes (or image tags) in, instance masks out, on Detectron2. Importing it registers everything."""

from wsis import compat as _compat  # noqa: F401  # first: it mends what Detectron2 needs
from wsis import methods as _methods  # noqa: F401  # registration
from wsis.config import get_cfg
from wsis.data.registration import register_builtin
from wsis.engine.proxy_predictor import ProxyPredictor
from wsis.errors import ConfigError, DataError, WsisError

__version__ = "0.1.0"
__all__ = ["ConfigError", "DataError", "ProxyPredictor", "WsisError", "get_cfg"]

register_builtin()
