"""What must hold before a loader starts worker processes."""

from __future__ import annotations

import cv2


def before_workers() -> None:
    """Lets OpenCV work with one thread from now on.

    A loader's workers are forks of this process, and OpenCV's pool of threads does not survive a fork: the first
    parallel call in a worker, or a change of the number of threads there, would wait for ever.
    """
    cv2.setNumThreads(1)
