"""How far a long loop is: a bar on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from datetime import timedelta

from tqdm import tqdm

logger = logging.getLogger(__name__)

LOG_SECONDS = 10.0
"""Between two log lines."""


class Progress:
    """Counts finished items; use it as a context manager.

    Args:
        label: what is being done.
        total: number of items.
        unit: what an item is.
        shown: False for a rank that leaves the talking to another one.
    """

    def __init__(self, label: str, total: int, unit: str, shown: bool = True) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._count = 0
        self._start = self._last = time.monotonic()
        terminal = shown and sys.stderr.isatty()
        self._bar = _bar(label, total, unit) if terminal else None
        self._logs = shown and not terminal

    def advance(self, number: int = 1) -> None:
        """So many more items are finished."""
        self._count += number
        if self._bar is not None:
            self._bar.update(number)
        now = time.monotonic()
        if self._logs and (now - self._last >= LOG_SECONDS or self._count == self._total):
            self._last = now
            rate = self._count / max(now - self._start, 1e-9)
            left = timedelta(seconds=round((self._total - self._count) / rate))
            logger.info(
                f"{self._label}: {self._count}/{self._total} {self._unit}, "
                f"{rate:.3g} per second, ETA {left}"
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *unused: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _bar(label: str, total: int, unit: str) -> tqdm:
    """A bar, also where the terminal says that it has no columns."""
    columns, rows = shutil.get_terminal_size()
    return tqdm(total=total, desc=label, unit=f" {unit}", ncols=columns, nrows=rows)
