"""Keys of BANA's segmentation network (stage 3); the defaults are the published values for VOC with VGG-16."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node, part
from wsis.config.rules import at_least, each, length, one_of, positive
from wsis.methods.bana.nal import LOSSES, NoiseParams
from wsis.modeling.semantic_inference import ProtocolParams


@node("MODEL.BANA_SEG")
@dataclass(frozen=True)
class SegmentorParams:
    """The network, its losses and what it is asked for.

    Attributes:
        head: With "largefov" the classifier stands on the backbone's last map (DeepLab-V1), with "aspp" on the sum of
            dilated branches (DeepLab-V2).
        aspp_channels: Channels of the branches of "aspp".
        aspp_rates: Dilations of the branches of "aspp".
        labels: The two labels of the datasets in DATASETS.TRAIN, which are semantic ones (DATASETS.CUSTOM_SEM_SEG); the
            first is the one that is used, with a weight, where they differ.
        loss: The loss is "NAL" (noise-aware), "ER" (entropy regularisation), "BS" (bootstrapping), "BASELINE" (only
            where both labels agree), "CE_CRF" or "CE_RET" (cross-entropy on the first or the second label everywhere).
        lr_factors: Learning rate of the backbone's biases, of the head's weights and of the head's biases, in units of
            SOLVER.BASE_LR. SOLVER.WEIGHT_DECAY_BIAS is the biases' weight decay.
    """

    head: str = key("largefov", one_of(("largefov", "aspp")))
    aspp_channels: int = key(256, at_least(1))
    aspp_rates: tuple[int, ...] = key(
        (6, 12, 18, 24), each("one or more numbers above 0", positive)
    )
    labels: tuple[str, str] = key(("y_crf", "y_ret"), length(2, "two names of labels"))
    loss: str = key("NAL", one_of(LOSSES))
    noise: NoiseParams = part(NoiseParams())
    lr_factors: tuple[float, float, float] = key(
        (2.0, 10.0, 20.0), length(3, "three numbers: bias, new weight, new bias")
    )
    protocols: ProtocolParams = part(ProtocolParams())
