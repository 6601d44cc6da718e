"""Keys of the teacher that asks a promptable model."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node, part
from wsis.config.rules import at_least, at_least_below


@dataclass(frozen=True)
class TidyParams:
    """What is left of a mask.

    Attributes:
        min_part: Parts and holes of a mask that are smaller than this share of its largest part are removed; 0 = none.
    """

    min_part: float = key(0.05, at_least_below(0, 1))


@node("MODEL.SAM")
@dataclass(frozen=True)
class SAMParams:
    """A promptable model of the `transformers` library, asked by box.

    Attributes:
        path: Folder with config.json, *.safetensors and preprocessor_config.json or processor_config.json, as a model
            hub has it, of SAM, SAM-HQ, SAM 2 or SAM 3.
        second_pass: Ask every box once more, with the first answer beside it as mask prompt.
        boxes_together: Boxes of an image that are asked in one call; bears on memory and speed alone.
    """

    path: str = key("")
    second_pass: bool = key(True)
    boxes_together: int = key(16, at_least(1))
    tidy: TidyParams = part(TidyParams())
