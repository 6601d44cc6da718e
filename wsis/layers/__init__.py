"""Building blocks that know no method; each module is imported by name.

``dense_crf`` mean-field refinement; ``paste``, ``paste_crf``, ``window_crf`` small maps into the image; ``iou``
overlap of masks and boxes; ``seg_metrics`` confusion matrix and its scores; ``contour`` boundary
F-score; ``label_maps`` class maps to labels; ``merge`` overlapping masks made disjoint; ``bilinear``,
``enlarged`` sampling without the channels.
"""
