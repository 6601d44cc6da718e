"""Shared Detectron2 modules; importing it registers them."""

from wsis.modeling import backbones as _backbones  # noqa: F401  # registration
from wsis.modeling import box_mask_head as _box_mask_head  # noqa: F401  # registration
from wsis.modeling import context_roi_heads as _context_roi_heads  # noqa: F401  # registration
from wsis.modeling import crf_mask_rcnn as _crf_mask_rcnn  # noqa: F401  # registration
from wsis.modeling import pair_mask_head as _pair_mask_head  # noqa: F401  # registration
from wsis.modeling import point_mask_head as _point_mask_head  # noqa: F401  # registration
from wsis.modeling import pretrained as _pretrained  # noqa: F401  # registration
from wsis.modeling import proxy_mask_head as _proxy_mask_head  # noqa: F401  # registration
from wsis.modeling import recorded_rcnn as _recorded_rcnn  # noqa: F401  # registration
from wsis.modeling import tag_classifier as _tag_classifier  # noqa: F401  # registration
