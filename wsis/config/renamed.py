"""Keys that have another name now."""

from __future__ import annotations

from collections.abc import Iterable

from wsis.errors import ConfigError

_SEGMENTOR = [
    "HEAD",
    "LABELS",
    "TEMPERATURE",
    "LR_FACTORS",
    "PROTOCOLS",
    "SCALES",
    "CRF",
    "CRF_MIN_PROBABILITY",
]
RENAMED: dict[str, str] = {
    "MODEL.BANA.CROP_SIZE": "INPUT.SCALED_CROP.SIZE",
    "MODEL.BANA.SCALE_RANGE": "INPUT.SCALED_CROP.SCALE_RANGE",
    "MODEL.BANA.JITTER": "INPUT.SCALED_CROP.JITTER",
    "MODEL.BANA.STRONG_DATASETS": "MODEL.SEGMENTOR.STRONG_DATASETS",
    "MODEL.BANA_SEG.ASPP_CHANNELS": "MODEL.SEGMENTOR.HEAD_CHANNELS",
    "MODEL.BANA_SEG.ASPP_RATES": "MODEL.SEGMENTOR.HEAD_RATES",
    **{f"MODEL.BANA_SEG.{name}": f"MODEL.SEGMENTOR.{name}" for name in _SEGMENTOR},
}
"""Old name to new name, of keys and of whole nodes."""


def refuse_renamed(where: str, keys: Iterable[str]) -> None:
    """Looks for keys that were renamed, or lie below a node that was.

    Raises:
        ConfigError: one is there; begins with ``where``.
    """
    for key in keys:
        for old in sorted(RENAMED, key=len, reverse=True):
            if key == old or key.startswith(f"{old}."):
                new = RENAMED[old] + key.removeprefix(old)
                raise ConfigError(f"{where}: no such key {key}: it is now {new}")
