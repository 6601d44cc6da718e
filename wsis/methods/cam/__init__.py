"""Class activation maps (Zhou et al., CVPR 2016): where a classifier of image tags finds each class.

It trains on image tags, with any backbone: features, a 1x1 convolution, the mean over the image. Its maps, summed over
scales and mirror images, are score maps of the classes that an image has, and on demand label maps by a threshold: the
baseline of every method of tags, and the first step of BAS' semantic seeds.
"""

from wsis.methods.cam.meta_arch import CAM

__all__ = ["CAM"]
