import numpy as np
import pytest
from detectron2.data.transforms import ResizeShortestEdge
from wsis.methods.bbam.image_transform import network_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((375, 500), (800, 1066)),  # 1066.67 is truncated
        ((500, 375), (1066, 800)),
        ((112, 500), (299, 1334)),  # the shorter side is rounded, the longer one passes the limit
        ((800, 1333), (800, 1333)),
        ((500, 500), (800, 800)),
    ],
)
def test_known_sizes(size, expected):
    assert network_size(*size, 800, 1333) == expected


def test_differs_from_detectron2_by_rounding_alone():
    differences = []
    for height, width in np.random.default_rng(0).integers(80, 1500, (300, 2)).tolist():
        theirs = ResizeShortestEdge.get_output_shape(height, width, 800, 1333)
        found = network_size(height, width, 800, 1333)
        differences.append(np.abs(np.subtract(theirs, found)).max())
    assert 0.1 < np.mean(np.array(differences) > 0) < 0.9
    # a shorter side rounded up by half a pixel makes the longer one a few longer
    assert max(differences) <= 8
