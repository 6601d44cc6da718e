"""What happens besides the iterations of a training."""

from __future__ import annotations

import os

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from wsis.engine.generation import generate_proxy_masks
from wsis.engine.launch import share_buffers


class GenerateAfterTrain(HookBase):
    """Makes the proxy masks of ``DATASETS.TRAIN`` when a teacher's training has ended, with its last weights.

    The exit status of the generation becomes the trainer's.

    Args:
        cfg: the training's config; ``MODEL.WEIGHTS`` is replaced by the last checkpoint.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self._cfg = cfg

    def after_train(self) -> None:
        """Generates, unless the training was cut short."""
        if self.trainer.iter < self.trainer.max_iter:
            return
        comm.synchronize()  # the main process may still be writing the weights
        share_buffers(self.trainer.model)  # the file has those of the main process
        cfg = self._cfg.clone()
        cfg.defrost()
        cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
        cfg.freeze()
        result = generate_proxy_masks(cfg, self.trainer.model, resume=self.trainer.resume)
        self.trainer.exit_status = result.exit_status
