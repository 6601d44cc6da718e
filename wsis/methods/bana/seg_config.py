"""Keys of BANA's segmentation network (stage 3), and what they are turned into."""

from __future__ import annotations

from detectron2.config import CfgNode as CN

from wsis.config import register_config
from wsis.config.crf import add_crf_keys
from wsis.errors import ConfigError
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.bana.nal import LOSSES, NoiseParams
from wsis.modeling.semantic_inference import PROTOCOLS, ProtocolParams

HEADS = ("largefov", "aspp")


@register_config
def add_bana_seg_config(cfg: CN) -> None:
    """Adds ``MODEL.BANA_SEG`` and ``MODEL.BANA.STRONG_DATASETS``; defaults as published for VOC with VGG-16.

    Args:
        cfg: changed in place.
    """
    cfg.MODEL.BANA_SEG = CN()
    # "largefov": the classifier stands on the backbone's last map (DeepLab-V1); "aspp": on the sum of dilated branches
    # (DeepLab-V2).
    cfg.MODEL.BANA_SEG.HEAD = "largefov"
    # Channels of the branches of "aspp".
    cfg.MODEL.BANA_SEG.ASPP_CHANNELS = 256
    # Dilations of the branches of "aspp".
    cfg.MODEL.BANA_SEG.ASPP_RATES = [6, 12, 18, 24]
    # The two labels of the datasets in DATASETS.TRAIN, which are semantic ones (DATASETS.CUSTOM_SEM_SEG); the first is
    # the one that is used, with a weight, where they differ.
    cfg.MODEL.BANA_SEG.LABELS = ["y_crf", "y_ret"]
    # Datasets whose true labels (a label folder, or the masks of instances) training may use, beside the pseudo labels
    # of DATASETS.TRAIN; an image in both is taken from these. A name in both lists is an error.
    cfg.MODEL.BANA.STRONG_DATASETS = []
    # "NAL" (noise-aware), "ER" (entropy regularisation), "BS" (bootstrapping), "BASELINE" (only where both labels
    # agree), "CE_CRF" or "CE_RET" (cross-entropy on the first or the second label everywhere).
    cfg.MODEL.BANA_SEG.LOSS = "NAL"
    # T: cosines are multiplied with it before every softmax.
    cfg.MODEL.BANA_SEG.TEMPERATURE = 20.0
    # gamma of the confidence sigma = (D_label / max D)^gamma, D = 1 + cosine.
    cfg.MODEL.BANA_SEG.DAMPING = 7.0
    # lambda, weight of the loss where the labels differ (NAL, ER, BS).
    cfg.MODEL.BANA_SEG.LAMBDA = 0.1
    # The confidence is a constant for the gradient.
    cfg.MODEL.BANA_SEG.DETACH_SIGMA = False
    # beta of BS: share of the label in the target; the rest is the network's own prediction.
    cfg.MODEL.BANA_SEG.BOOTSTRAP = 0.95
    # The prediction in the target of BS is one class instead of probabilities.
    cfg.MODEL.BANA_SEG.BOOTSTRAP_HARD = False
    # Learning rate of the backbone's biases, of the head's weights and of the head's biases, in units of
    # SOLVER.BASE_LR. SOLVER.WEIGHT_DECAY_BIAS is the biases' weight decay.
    cfg.MODEL.BANA_SEG.LR_FACTORS = [2.0, 10.0, 20.0]
    _add_test_keys(cfg)


def _add_test_keys(cfg: CN) -> None:
    # What is evaluated: "single" (the image as it is), "multi" (mean over SCALES and their mirror images), and either
    # with a dense CRF on the image: "single_crf", "multi_crf". All are scored; the first is what the model returns as
    # sem_seg.
    cfg.MODEL.BANA_SEG.PROTOCOLS = ["single"]
    # Factors of the image's size for "multi".
    cfg.MODEL.BANA_SEG.SCALES = [1.0, 0.5, 0.75, 1.5]
    # The CRF sees only classes that are somewhere more probable than this; 0 = all.
    cfg.MODEL.BANA_SEG.CRF_MIN_PROBABILITY = 1e-3

    cfg.MODEL.BANA_SEG.CRF = CN()
    # Weight of the smoothness kernel of the CRF at test time.
    add_crf_keys(
        cfg.MODEL.BANA_SEG.CRF, spatial_xy_std=3.0, bilateral_xy_std=121.0, bilateral_rgb_std=5.0
    )


def check_seg_keys(keys: CN) -> None:
    """Checks the values of ``MODEL.BANA_SEG`` that nothing else checks.

    Args:
        keys: ``cfg.MODEL.BANA_SEG``.

    Raises:
        ConfigError: the first value out of its range.
    """
    protocols = keys.PROTOCOLS
    rules: tuple[tuple[str, bool, str], ...] = (
        ("HEAD", keys.HEAD in HEADS, f"one of {', '.join(HEADS)}"),
        ("ASPP_CHANNELS", keys.ASPP_CHANNELS >= 1, "at least 1"),
        ("ASPP_RATES", _all_above_zero(keys.ASPP_RATES), "one or more numbers above 0"),
        ("LABELS", len(keys.LABELS) == 2, "two names of labels"),
        ("LOSS", keys.LOSS in LOSSES, f"one of {', '.join(LOSSES)}"),
        ("TEMPERATURE", keys.TEMPERATURE > 0, "above 0"),
        ("DAMPING", keys.DAMPING >= 0, "at least 0"),
        ("LAMBDA", keys.LAMBDA >= 0, "at least 0"),
        ("BOOTSTRAP", 0 <= keys.BOOTSTRAP <= 1, "in [0, 1]"),
        ("LR_FACTORS", len(keys.LR_FACTORS) == 3, "three numbers: bias, new weight, new bias"),
        ("PROTOCOLS", _chosen(protocols, PROTOCOLS), f"one or more of {', '.join(PROTOCOLS)}"),
        ("SCALES", _all_above_zero(keys.SCALES), "one or more numbers above 0"),
        ("CRF_MIN_PROBABILITY", 0 <= keys.CRF_MIN_PROBABILITY < 1, "at least 0, below 1"),
    )
    for name, holds, expected in rules:
        if not holds:
            raise ConfigError(f"MODEL.BANA_SEG.{name}: found {keys[name]!r}, expected {expected}")


def _all_above_zero(values: list[float]) -> bool:
    return len(values) > 0 and all(value > 0 for value in values)


def _chosen(names: list[str], known: tuple[str, ...]) -> bool:
    return 0 < len(names) == len(set(names)) and set(names) <= set(known)


def noise_params(keys: CN) -> NoiseParams:
    """Constants of the losses, from ``cfg.MODEL.BANA_SEG``."""
    return NoiseParams(
        temperature=keys.TEMPERATURE,
        damping=keys.DAMPING,
        weight=keys.LAMBDA,
        detach_confidence=keys.DETACH_SIGMA,
        bootstrap=keys.BOOTSTRAP,
        bootstrap_hard=keys.BOOTSTRAP_HARD,
    )


def protocol_params(keys: CN) -> ProtocolParams:
    """What is evaluated, from ``cfg.MODEL.BANA_SEG``."""
    return ProtocolParams(
        protocols=tuple(keys.PROTOCOLS),
        scales=tuple(keys.SCALES),
        temperature=keys.TEMPERATURE,
        crf=DenseCRFParams.from_keys(keys.CRF),
        min_probability=keys.CRF_MIN_PROBABILITY,
    )
