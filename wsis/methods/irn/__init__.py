"""IRNet: inter-pixel relations from class activation maps (Ahn, Cho and Kwak, CVPR 2019).

A frozen network gets two branches: edges, learned from whether the cells of a pair have the same label and not from
where edges are, and displacements to the middle of an object. Score maps then walk along affinities that an edge
between two cells breaks. What it learns from, "ConfidentSeeds" makes of the score maps of any method of image tags.
"""

from wsis.methods.irn import key_map as _key_map  # noqa: F401  # names of weights
from wsis.methods.irn.meta_arch import IRN
from wsis.methods.irn.seeds import ConfidentSeeds

__all__ = ["IRN", "ConfidentSeeds"]
