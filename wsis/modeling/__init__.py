"""Shared Detectron2 modules; importing it registers them."""

from wsis.modeling import proxy_mask_head as _proxy_mask_head  # noqa: F401  # registration
