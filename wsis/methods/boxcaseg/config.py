"""Keys of BoxCaseg; the defaults are the published values for VOC."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node, part
from wsis.config.rules import (
    above_at_most,
    at_least,
    at_least_below,
    each,
    either,
    length,
    pair,
    within,
)
from wsis.errors import ConfigError
from wsis.layers.feature_similarity import SimilarityParams


@dataclass(frozen=True)
class NetworkParams:
    """The trunk and its heads.

    Attributes:
        trunk: What the heads stand on: "hrnet" as published, or "backbone", which MODEL.BACKBONE.NAME and the pixel
            statistics MODEL.PIXEL_MEAN and PIXEL_STD in the order of INPUT.FORMAT describe. The maps of a backbone are
            joined at the finest one, for example stride 2 with MODEL.TIMM.OUT_INDICES [0, 1, 2, 3, 4].
        decoder_channels: Channels of the map that a backbone's maps are joined to.
        lr_factors: Learning rate of a backbone's biases, of the other weights and of the other biases, in units of
            SOLVER.BASE_LR. HRNet has one rate for all.
        width: Channels of HRNet's finest branch; each coarser one has twice as many. 18, 30, 32, 40, 44, 48 and 64
            exist with ImageNet weights: MODEL.WEIGHTS "timm://hrnet_w48".
        stage1_width: Channels in the bottlenecks of the first stage, a quarter of its output.
        blocks: Residual blocks of the first stage, and of every branch of every module.
        modules: Modules in the second, third and fourth stage.
        norm_momentum: Momentum of the batch norms.
        fcn_ratio: Share alpha of the full head's own branch; the rest is the branch whose weights are predicted from
            the weak head's.
    """

    trunk: str = key("hrnet", either("hrnet", "backbone"))
    decoder_channels: int = key(64, at_least(1))
    lr_factors: tuple[float, float, float] = key(
        (1.0, 1.0, 1.0), length(3, "three numbers: bias, new weight, new bias")
    )
    width: int = key(48, at_least(1))
    stage1_width: int = key(64, at_least(1))
    blocks: int = key(4, at_least(1), "NUM_BLOCKS")
    modules: tuple[int, int, int] = key(
        (1, 4, 3),
        each("three numbers, each at least 1", lambda number: number >= 1, number=3),
        "NUM_MODULES",
    )
    norm_momentum: float = key(0.01, above_at_most(0, 1))
    fcn_ratio: float = key(0.7, within(0, 1, "0 to 1"))


@dataclass(frozen=True)
class SampleParams:
    """What bears on a sample in training; ``high_bit_depth`` is ``INPUT.HIGH_BIT_DEPTH``.

    Attributes:
        crop_size: Side of the samples in training, in pixels.
        salient_size: Side to which whole salient images are resized, in pixels; a window of CROP_SIZE is cut out of
            them.
        jitter_shift: Largest shift of a box crop's centre in training, in half sides.
        jitter_scale: Smallest and largest factor of a box crop's half sides in training.
        normalisation: With "legacy" the means and scales are those of the original release, which differ between boxes
            and salient images; its checkpoints need them. With "unified" they are ImageNet's mean and deviation for
            both, for training from scratch.
        salient_crop: What is cut out of a salient image. "image": a window of the whole image, as published; "box": a
            crop around its masks, jittered like that of a box (the original release has that too, unused); "object": a
            sample for each mask, a crop around it in which all else is background, for images of several objects.
        turn: What is turned half of the time. "rows": salient images upside down, as published; "columns": salient
            images and box crops left to right.

    Raises:
        ConfigError: salient images smaller than the window that is cut out of them.
    """

    crop_size: int = key(288, at_least(32))
    salient_size: int = key(320)
    jitter_shift: float = key(0.25, at_least_below(0, 1))
    jitter_scale: tuple[float, float] = key(
        (0.5, 1.5), pair("two rising numbers above 0", lambda low, high: 0 < low <= high)
    )
    normalisation: str = key("legacy", either("legacy", "unified"))
    high_bit_depth: str = "minmax"
    salient_crop: str = key("image", either("image", "box", "object"))
    turn: str = key("rows", either("rows", "columns"))

    def __post_init__(self) -> None:
        if self.salient_size < self.crop_size:
            raise ConfigError(
                f"MODEL.BOXCASEG.SALIENT_SIZE: found {self.salient_size}, expected at least CROP_SIZE {self.crop_size}"
            )


@dataclass(frozen=True)
class TermParams:
    """Terms of the objective that are not BoxCaseg's own; without a weight none is there.

    Attributes:
        outside_weight: Weight of the cross-entropy with background of the pixels outside of the box.
        affinity_weight: Weight of BoxInst's loss, by which neighbours of one colour belong together; needs
            NORMALISATION "unified".
        dice_weight: Weight of the full head's Dice loss on salient masks.
        full_samples: What the full head learns from: the masks of "salient" images, as published, or "all" samples: on
            boxes by what the weak head learns there.
    """

    outside_weight: float = key(0.0, at_least(0))
    affinity_weight: float = key(0.0, at_least(0))
    dice_weight: float = key(0.0, at_least(0))
    full_samples: str = key("salient", either("salient", "all"))
    similarity: SimilarityParams = part(
        SimilarityParams(weight=0.0),
        "SIMILARITY",
        'The map is that of the logits of a crop, in its box; needs NORMALISATION "unified".',
    )


@node("MODEL.BOXCASEG")
@dataclass(frozen=True)
class BoxCasegParams:
    """The teacher and its training.

    Raises:
        ConfigError: samples normalised as no backbone wants them.

    Attributes:
        sync_norm: Batch statistics are those of all processes, where these have GPUs.
        pairwise_weight: Weight of the smoothness loss.
        salient_datasets: Datasets with masks of single objects, by name: what the full head learns from. None may be in
            DATASETS.TRAIN.
        weak_share: Share of box crops in a batch over all processes, rounded down to whole samples; an epoch is one
            pass over the salient images. 0 = no fixed share: boxes and salient images are shuffled together.
        overlap_iou: IoU that a box must exceed with another one of its image to be left out of an epoch with
            probability OVERLAP_DROP.
        overlap_drop: Probability that a box which overlaps another one by more than OVERLAP_IOU is left out of an
            epoch.
        test_size: Side to which each box is resized when masks are made, in pixels.
        confidence: How a mask's confidence compares its tight box with the given one. With "legacy" the given box
            counts as one pixel wider and higher than it is, as the published threshold of 0.95 expects; with "exact" a
            mask that fills its box has 1.
        test_head: Which head makes the masks: "full", or "weak" for a training without salient images.
        test_flip: Masks are made of the mean of each crop's probabilities and those of its mirror image.
        boxes_per_batch: Boxes of an image that pass through the network together when masks are made.
    """

    network: NetworkParams = part(NetworkParams())
    sync_norm: bool = key(True)
    pairwise_weight: float = key(0.05, at_least(0))
    terms: TermParams = part(TermParams())
    samples: SampleParams = part(SampleParams())
    salient_datasets: tuple[str, ...] = key(())
    weak_share: float = key(0.0, at_least_below(0, 1))
    overlap_iou: float = key(0.5, within(0, 1, "0 to 1"))
    overlap_drop: float = key(0.0, within(0, 1, "0 to 1"))
    test_size: int = key(320, at_least(32))
    confidence: str = key("legacy", either("legacy", "exact"))
    test_head: str = key("full", either("full", "weak"))
    test_flip: bool = key(False)
    boxes_per_batch: int = key(64, at_least(1))

    def __post_init__(self) -> None:
        asking = {
            "TRUNK backbone": self.network.trunk == "backbone",
            "AFFINITY_WEIGHT": self.terms.affinity_weight > 0,
            "SIMILARITY.WEIGHT": self.terms.similarity.weight > 0,
        }
        normalisation = self.samples.normalisation
        for name in (name for name, asks in asking.items() if asks and normalisation != "unified"):
            raise ConfigError(
                f"MODEL.BOXCASEG.NORMALISATION: found {normalisation!r}, expected unified for {name}"
            )
