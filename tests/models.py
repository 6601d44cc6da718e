"""Every model that trains, with a batch for it, so small that a step takes no time."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from tests.methods.bana import tiny_classifier, tiny_segmentor
from tests.methods.bas import tiny as tiny_bas
from tests.methods.bbam import tiny_detector
from tests.methods.boxcaseg import tiny as tiny_boxcaseg
from tests.methods.cam import tiny as tiny_cam
from tests.methods.icam import tiny as tiny_icam
from tests.methods.irn import tiny as tiny_irn
from tests.tiny import write_config, write_dataset
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.layers.tag_losses import TAG_LOSSES

Case = tuple[nn.Module, Any]


def losses_and_gradient(model: nn.Module, batch: Any, scale: float = 1.0) -> dict[str, float]:
    """The losses of a step, and the largest gradient of each parameter.

    Args:
        model: is left in training mode.
        batch: for it.
        scale: of the losses on their way back, as mixed precision has it; the gradients are divided by it.
    """
    torch.manual_seed(7)
    with EventStorage():
        losses = model.train()(batch)
    (scale * sum(losses.values())).backward()
    found = {name: float(value.detach()) for name, value in losses.items()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[name] = float(parameter.grad.abs().max()) / scale
    return found


def classifier() -> Case:
    """BANA's stage 1."""
    samples = [([[4, 4, 30, 40]], [1]), ([[10, 4, 50, 40], [1, 1, 20, 20]], [0, 1])]
    model = tiny_classifier.make_classifier()
    return model, [tiny_classifier.make_sample(*sample) for sample in samples]


def segmentor(loss: str) -> Case:
    """BANA's stage 3."""
    cfg = tiny_segmentor.make_cfg(MODEL__BANA_SEG__LOSS=loss)
    return WsisTrainer.build_model(cfg), tiny_segmentor.samples(2)


def boxcaseg() -> Case:
    """Two of three samples are salient."""
    return tiny_boxcaseg.make_model(), tiny_boxcaseg.make_batch(True, False, True)


def cam(loss: str) -> Case:
    """A classifier of image tags."""
    return tiny_cam.make_model(loss), tiny_cam.make_batch()


def icam(kind: str) -> Case:
    """ICAM of tags, whose losses draw nothing here, or of boxes, or AffinityNet."""
    cfg = tiny_icam.bare_cfg(ICAM[kind])
    cfg.MODEL.ICAM.LOSS.IMPORTANCE = "expected"
    torch.manual_seed(1)
    batch = tiny_icam.make_box_batch() if kind == "icam_box" else tiny_icam.make_batch()
    return WsisTrainer.build_model(cfg), batch


def bas() -> Case:
    """Of tags."""
    return tiny_bas.make_model(), tiny_bas.make_batch()


def bas_box(region: str) -> Case:
    """Of boxes; which, and how much around them, is drawn on the CPU."""
    model = tiny_bas.make_box_model(region, tightness_weight=0.5)
    return model, tiny_bas.make_box_batch(region)


def irn() -> Case:
    """Edges and displacements."""
    return tiny_irn.make_model(), tiny_irn.make_batch()


ICAM = {
    "icam": tiny_icam.ICAM,
    "icam_box": tiny_icam.BOX,
    "affinity_net": tiny_icam.AFFINITY,
}
METHODS: dict[str, Callable[[], Case]] = {
    "classifier": classifier,
    **{loss: partial(segmentor, loss) for loss in ("CE_CRF", "BASELINE", "NAL", "ER", "BS")},
    "boxcaseg": boxcaseg,
    "irn": irn,
    **{f"tags_{loss}": partial(cam, loss) for loss in TAG_LOSSES},
    **{kind: partial(icam, kind) for kind in ICAM},
    "bas": bas,
    **{f"bas_{region}": partial(bas_box, region) for region in ("crop", "shared")},
}
"""Those that draw no random numbers on the device."""


def detector(kind: str) -> Callable[[], Case]:
    """BBAM in training, one of :data:`tests.methods.bbam.tiny_detector.KINDS`; needs the CRF."""

    def make() -> Case:
        inputs = [tiny_detector.make_inputs(seed=seed) for seed in (0, 1)]
        return tiny_detector.make_bbam(kind), inputs

    return make


EXPLAINED = {kind: detector(kind) for kind in tiny_detector.KINDS}
MODELS = [*METHODS, *(pytest.param(kind, marks=tiny_detector.needs_crf) for kind in EXPLAINED)]
STUDENTS = pytest.mark.parametrize(
    ("head", "architecture"),
    [
        ("ProxyMaskHead", "GeneralizedRCNN"),
        ("PairMaskHead", "GeneralizedRCNN"),
        ("BoxMaskHead", "GeneralizedRCNN"),
        pytest.param("ProxyMaskHead", "CRFMaskRCNN", marks=tiny_detector.needs_crf),
    ],
)


def student(folder: Path, head: str, architecture: str = "GeneralizedRCNN") -> Case:
    """A Mask R-CNN with one of our mask heads; the batch has true masks."""
    write_dataset(folder / "data")
    keys = {"MODEL__MASK_ON": True, "MODEL__ROI_MASK_HEAD__NAME": head}
    keys |= {"MODEL__META_ARCHITECTURE": architecture}
    cfg = load_cfg(write_config(folder, folder / "data", WSIS__SUPERVISION="mask", **keys))
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    torch.manual_seed(1)
    return WsisTrainer.build_model(cfg), next(iter(WsisTrainer.build_train_loader(cfg)))
