"""Keys of the teacher that takes masks of another tool."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node, part
from wsis.data.external_masks import JoinParams


@node("MODEL.EXTERNAL")
@dataclass(frozen=True)
class ExternalParams:
    """The file, and how its masks find their boxes.

    Attributes:
        file: File of the masks: a COCO list of results, or a COCO JSON file; see docs/external_masks.md.
    """

    file: str = key("")
    joining: JoinParams = part(JoinParams())
