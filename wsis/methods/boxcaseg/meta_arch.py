"""BoxCaseg as a Detectron2 meta-architecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from torch import nn

from wsis.config.params import read
from wsis.data.build import Batches
from wsis.data.image_checks import check_image_files
from wsis.data.registration import get_source
from wsis.errors import ConfigError
from wsis.methods.boxcaseg.config import BoxCasegParams
from wsis.methods.boxcaseg.loader import build_joint_loader
from wsis.methods.boxcaseg.losses import saliency_loss, weak_losses
from wsis.methods.boxcaseg.network import BoxCasegNetwork, FoldedNetwork
from wsis.methods.boxcaseg.refiner import BYTES, BoxCasegRefiner, byte_maps
from wsis.methods.boxcaseg.transforms import prepare_crops
from wsis.modeling.teacher import Refiner, Teacher, seed_from_inputs
from wsis.structures import Seed

BRANCHES = 4
STRIDE = 4


@META_ARCH_REGISTRY.register()
class BoxCaseg(Teacher):
    """Class-agnostic segmentation of boxes (Wang et al., CVPR 2021).

    In training mode it takes batches of box crops and salient images from its own loader; in eval mode it cuts the
    object out of each given box. A box as large as the image asks for the object of the whole image.
    """

    needs_image = False
    needs_original_image = True
    result_keys = ("MODEL.BOXCASEG",)
    result_packages = ("timm",)

    @configurable
    def __init__(self, *, network: BoxCasegNetwork, params: BoxCasegParams) -> None:
        """
        Args:
            network: with both heads.
            params: of its losses, and of how masks are made.
        """
        super().__init__()
        self.network = network
        self.params = params
        self.boxes_per_batch = params.boxes_per_batch
        self._folded: tuple[tuple[Any, ...], FoldedNetwork] | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BOXCASEG``.

        Raises:
            ConfigError: a value out of its range.
        """
        params = read(cfg, BoxCasegParams)
        form = dict(vars(params.network))
        width = form.pop("width")
        network = BoxCasegNetwork([width << i for i in range(BRANCHES)], **form)
        on_gpu = torch.device(cfg.MODEL.DEVICE).type == "cuda"
        if params.sync_norm and on_gpu and comm.get_world_size() > 1:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return {"network": network, "params": params}

    @classmethod
    def check_training_data(cls, cfg: CfgNode) -> None:
        """See :meth:`Method.check_training_data`; the files of the salient images are looked for, too."""
        cls.build_train_loader(cfg)
        for name in cfg.MODEL.BOXCASEG.SALIENT_DATASETS:
            check_image_files(get_source(name, bad_box="skip", need_boxes=False))

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Batches:
        """See :func:`wsis.methods.boxcaseg.loader.build_joint_loader`.

        Raises:
            ConfigError: no salient images for the head that makes the masks.
        """
        keys = cfg.MODEL.BOXCASEG
        if not keys.SALIENT_DATASETS and keys.TEST_HEAD == "full":
            raise ConfigError(
                "MODEL.BOXCASEG.SALIENT_DATASETS: found nothing, expected a dataset with masks, or MODEL.BOXCASEG."
                "TEST_HEAD weak to do without"
            )
        return build_joint_loader(cfg)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses in training mode, else see :meth:`Teacher.forward`.

        Args:
            batched_inputs: in training mode samples of one size: ``image`` (3, H, W) float32, normalised, ``label``
                (1, H, W) float32 in [0, 1] and ``salient``, whether that is a mask and not a box.

        Returns:
            In training mode ``loss_mil``, ``loss_pairwise`` and ``loss_saliency``. The latter is 0 in a batch without a
            salient sample: the full head does not run then, and its parameters have zero gradients.
        """
        if not self.training:
            return super().forward(batched_inputs)
        images, labels = (
            torch.stack([sample[key] for sample in batched_inputs]).to(self.device)
            for key in ("image", "label")
        )
        salient = torch.tensor([bool(sample["salient"]) for sample in batched_inputs])
        salient = salient.to(self.device)
        # channels last: a tenth less time for a step on a CPU (tools/benchmark.py boxcaseg_network)
        weak, full = self.network(images.contiguous(memory_format=torch.channels_last), salient)
        tightness, smoothness = weak_losses(weak, labels, self.params.pairwise_weight)
        saliency = saliency_loss(full, labels[salient])
        if not len(full):  # every parameter takes part in every step, as several processes need it
            parts = [parameter.sum() for parameter in self.network.full_parameters()]
            saliency = saliency + torch.stack(parts).sum() * 0.0
        return {"loss_mil": tightness, "loss_pairwise": smoothness, "loss_saliency": saliency}

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`Teacher.propose`; looks at ``original_image`` (H, W, 3) uint8 RGB.

        Returns:
            Seeds with one map, :data:`wsis.methods.boxcaseg.refiner.BYTES`, (N, h, w) uint8 of stride 4: the
            probabilities in the N boxes, see :func:`wsis.methods.boxcaseg.refiner.byte_maps`.
        """
        return [self._propose_image(inputs) for inputs in batched_inputs]

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        return BoxCasegRefiner(self.params.confidence)

    def _propose_image(self, inputs: dict[str, Any]) -> Seed:
        boxes = np.asarray(inputs["instances"].original_boxes).reshape(-1, 4)
        network = self._inference_network()
        size, normalisation = self.params.test_size, self.params.samples.normalisation
        side = -(-size // STRIDE)
        maps = np.zeros((len(boxes), side, side), dtype=np.uint8)
        for start in range(0, len(boxes), self.boxes_per_batch):
            part = slice(start, start + self.boxes_per_batch)
            crops = prepare_crops(inputs["original_image"], boxes[part], size, normalisation)
            maps[part] = byte_maps(torch.sigmoid(network(crops.to(self.device))[:, 0]))
        return seed_from_inputs(inputs, {BYTES: maps})

    def _inference_network(self) -> FoldedNetwork:
        """The folded network of the weights as they are now."""
        tensors = (*self.network.parameters(), *self.network.buffers())
        version = tuple((t.data_ptr(), t._version, t.dtype) for t in tensors)
        if self._folded is None or self._folded[0] != version:
            self._folded = version, FoldedNetwork(self.network, self.params.test_head)
        return self._folded[1]
