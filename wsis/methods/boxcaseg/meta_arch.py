"""BoxCaseg as a Detectron2 meta-architecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.utils import comm
from torch import Tensor, nn

from wsis.config.params import read
from wsis.data.build import Batches
from wsis.data.image_checks import check_image_files
from wsis.data.registration import get_source
from wsis.errors import ConfigError
from wsis.layers.pixel_losses import dice_loss
from wsis.methods.boxcaseg.config import BoxCasegParams, NetworkParams
from wsis.methods.boxcaseg.loader import build_joint_loader
from wsis.methods.boxcaseg.losses import box_terms, saliency_loss, upsample, weak_losses
from wsis.methods.boxcaseg.network import (
    BackboneNetwork,
    BoxCasegNetwork,
    FoldedNetwork,
    TwoHeads,
)
from wsis.methods.boxcaseg.refiner import BYTES, BoxCasegRefiner, byte_maps
from wsis.methods.boxcaseg.transforms import prepare_crops
from wsis.modeling.parameter_groups import parameter_groups
from wsis.modeling.teacher import Refiner, Teacher, seed_from_inputs
from wsis.structures import Seed
from wsis.structures.pseudo_labels import IGNORE

BRANCHES = 4
HRNET_KEYS = ("width", "stage1_width", "blocks", "modules", "norm_momentum", "fcn_ratio")


@META_ARCH_REGISTRY.register()
class BoxCaseg(Teacher):
    """Class-agnostic segmentation of boxes (Wang et al., CVPR 2021).

    In training mode it takes batches of box crops and salient images from its own loader; in eval mode it cuts the
    object out of each given box. A box as large as the image asks for the object of the whole image.
    """

    class_free = True
    needs_image = False
    needs_original_image = True
    result_keys: tuple[str, ...] = ("MODEL.BOXCASEG",)
    result_packages = ("timm",)

    @configurable
    def __init__(self, *, network: TwoHeads, params: BoxCasegParams) -> None:
        """
        Args:
            network: with both heads.
            params: of its losses, and of how masks are made.
        """
        super().__init__()
        self.network = network
        self.params = params
        self.boxes_per_batch = params.boxes_per_batch
        if isinstance(network, BackboneNetwork):
            self.result_keys = ("MODEL", "INPUT.FORMAT")
        self._folded: tuple[tuple[Any, ...], FoldedNetwork] | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BOXCASEG``, and Detectron2's keys of a backbone.

        Raises:
            ConfigError: a value out of its range.
        """
        params = read(cfg, BoxCasegParams)
        network = _network(cfg, params.network)
        on_gpu = torch.device(cfg.MODEL.DEVICE).type == "cuda"
        if params.sync_norm and on_gpu and comm.get_world_size() > 1:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return {"network": network, "params": params}

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]] | None:
        """See :mod:`wsis.modeling.parameter_groups`; of HRNet, Detectron2's."""
        if not isinstance(self.network, BackboneNetwork):
            return None
        factors = self.params.network.lr_factors
        return parameter_groups(self, self.network.backbone, cfg.SOLVER, factors)

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
                (1, H, W) float32 in [0, 1] and ``salient``, whether that is a mask and not a box. Where a mask is
                IGNORE the full head does not learn from it, and the weak head takes it for a part of the object.

        Returns:
            In training mode ``loss_mil``, ``loss_pairwise`` and ``loss_saliency``, and the terms that have a weight.
            ``loss_saliency`` is 0 in a batch without a salient sample: the full head does not run then, unless it
            learns from all samples, and its parameters have zero gradients.
        """
        if not self.training:
            return super().forward(batched_inputs)
        images, labels = (
            torch.stack([sample[key] for sample in batched_inputs]) for key in ("image", "label")
        )
        known = labels != IGNORE
        marked = not known.all()  # before the labels are on a GPU, which need not be waited for
        images, labels, known = (each.to(self.device) for each in (images, labels, known))
        labels = labels.clamp(max=1)
        salient = torch.tensor([bool(sample["salient"]) for sample in batched_inputs])
        salient = salient.to(self.device)
        # channels last: a tenth less time for a step on a CPU (tools/benchmark.py boxcaseg_network)
        terms = self.params.terms
        everything = terms.full_samples == "all"
        chosen = torch.ones_like(salient) if everything else salient
        weak, full = self.network(images.contiguous(memory_format=torch.channels_last), chosen)
        losses = self._box_losses(weak, labels, images)
        if everything and not salient.all():
            parts = [each[~salient] for each in (full, labels, images)]
            for name, loss in self._box_losses(*parts).items():
                losses[name] = losses[name] + loss
        masks = full[salient] if everything else full
        kept = known[salient] if marked else None
        losses["loss_saliency"] = saliency_loss(masks, labels[salient], kept)
        if terms.dice_weight and len(masks):
            upsampled = upsample(masks, labels.shape[-2:])
            dice = dice_loss(upsampled, labels[salient], known=kept)
            losses["loss_dice"] = terms.dice_weight * dice.mean()
        if not len(full):  # every parameter takes part in every step, as several processes need it
            parts = [parameter.sum() for parameter in self.network.full_parameters()]
            losses["loss_saliency"] = losses["loss_saliency"] + torch.stack(parts).sum() * 0.0
        return losses

    def _box_losses(self, logits: Tensor, labels: Tensor, images: Tensor) -> dict[str, Tensor]:
        tightness, smoothness = weak_losses(logits, labels, self.params.pairwise_weight)
        own = {"loss_mil": tightness, "loss_pairwise": smoothness}
        return own | box_terms(logits, labels, images, self.params.terms)

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`Teacher.propose`; looks at ``original_image`` (H, W, 3) uint8 RGB.

        Returns:
            Seeds with one map, :data:`wsis.methods.boxcaseg.refiner.BYTES`, (N, h, w) uint8 of the
            network's stride: the probabilities in the N boxes, see :func:`wsis.methods.boxcaseg.refiner.byte_maps`.
        """
        return [self._propose_image(inputs) for inputs in batched_inputs]

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        return BoxCasegRefiner(self.params.confidence)

    def _propose_image(self, inputs: dict[str, Any]) -> Seed:
        boxes = np.asarray(inputs["instances"].original_boxes).reshape(-1, 4)
        network = self._inference_network()
        size, normalisation = self.params.test_size, self.params.samples.normalisation
        side = -(-size // self.network.stride)
        maps = np.zeros((len(boxes), side, side), dtype=np.uint8)
        for start in range(0, len(boxes), self.boxes_per_batch):
            part = slice(start, start + self.boxes_per_batch)
            crops = prepare_crops(inputs["original_image"], boxes[part], size, normalisation)
            maps[part] = byte_maps(self._probabilities(network, crops.to(self.device)))
        return seed_from_inputs(inputs, {BYTES: maps})

    def _probabilities(self, network: FoldedNetwork, crops: Tensor) -> Tensor:
        """(N, 3, S, S) to (N, s, s)."""
        found = torch.sigmoid(network(crops)[:, 0])
        if self.params.test_flip:
            found = (found + torch.sigmoid(network(crops.flip(3))[:, 0]).flip(2)) / 2
        return found

    def _inference_network(self) -> FoldedNetwork:
        """The folded network of the weights as they are now."""
        tensors = (*self.network.parameters(), *self.network.buffers())
        version = tuple((t.data_ptr(), t._version, t.dtype) for t in tensors)
        if self._folded is None or self._folded[0] != version:
            self._folded = version, FoldedNetwork(self.network, self.params.test_head)
        return self._folded[1]


def _network(cfg: CfgNode, params: NetworkParams) -> TwoHeads:
    if params.trunk == "backbone":
        pixels = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
        return BackboneNetwork(build_backbone(cfg), params, *pixels, bgr=cfg.INPUT.FORMAT == "BGR")
    form = {name: getattr(params, name) for name in HRNET_KEYS}
    width = form.pop("width")
    return BoxCasegNetwork([width << i for i in range(BRANCHES)], **form)
