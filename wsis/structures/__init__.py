"""Data that passes between the parts: seeds, proxy masks, score maps, run-length codes, the proxy-mask file."""

from wsis.structures.proxy_masks import STATUSES, Crop, ProxyMasks
from wsis.structures.rle import RLE
from wsis.structures.score_maps import ImageMaps, ScoreMaps
from wsis.structures.seed import Seed

__all__ = ["RLE", "STATUSES", "Crop", "ImageMaps", "ProxyMasks", "ScoreMaps", "Seed"]
