"""Promptable models as a teacher: SAM, SAM-HQ, SAM 2 and SAM 3's tracker, asked by box.

Kirillov et al., *Segment Anything*, ICCV 2023; Ke et al., *Segment Anything in High Quality*, NeurIPS 2023; Ravi et
al., *SAM 2: Segment Anything in Images and Videos*, ICLR 2025. It trains on nothing: ``MODEL.SAM.PATH`` is a folder of
weights, which `transformers` reads. Each image is encoded once and its boxes are asked in chunks; of three masks per
box the one with the highest predicted IoU is taken, which is the score.
"""

from wsis.methods.sam.meta_arch import SAM

__all__ = ["SAM"]
