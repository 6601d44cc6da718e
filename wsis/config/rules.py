"""What a value of the config may be, and how the error line says it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """A test of one value.

    Attributes:
        expected: ends the line ``KEY: found ..., expected ...``.
        test: of the value; one that raises TypeError has failed.
    """

    expected: str
    test: Callable[[Any], bool]

    def holds(self, value: Any) -> bool:
        """Whether the value passes."""
        try:
            return self.test(value)
        except TypeError:
            return False


def at_least(low: float) -> Rule:
    """A number of at least ``low``."""
    return Rule(f"at least {low}", lambda value: value >= low)


def above(low: float) -> Rule:
    """A number above ``low``."""
    return Rule(f"above {low}", lambda value: value > low)


def at_least_below(low: float, high: float) -> Rule:
    """A number of at least ``low`` and below ``high``."""
    return Rule(f"at least {low}, below {high}", lambda value: low <= value < high)


def above_at_most(low: float, high: float) -> Rule:
    """A number above ``low`` and of at most ``high``."""
    return Rule(f"above {low}, at most {high}", lambda value: low < value <= high)


def within(low: float, high: float, expected: str = "") -> Rule:
    """A number from ``low`` to ``high``."""
    return Rule(expected or f"in [{low}, {high}]", lambda value: low <= value <= high)


def one_of(choices: Collection[str]) -> Rule:
    """One of several words."""
    return Rule(f"one of {', '.join(choices)}", lambda value: value in choices)


def either(*choices: str) -> Rule:
    """One of two words."""
    return Rule(" or ".join(choices), lambda value: value in choices)


def pair(expected: str, test: Callable[[float, float], bool]) -> Rule:
    """Two numbers, tested together."""
    return Rule(expected, lambda value: len(value) == 2 and test(*value))


def length(number: int, expected: str) -> Rule:
    """So many values."""
    return Rule(expected, lambda values: len(values) == number)


def each(expected: str, test: Callable[[Any], bool], number: int | None = None) -> Rule:
    """Values that all pass; so many, or one at least."""
    return Rule(
        expected,
        lambda values: len(values) == (number or max(len(values), 1)) and all(map(test, values)),
    )


def share(value: float) -> bool:
    """Whether a number is in [0, 1)."""
    return 0 <= value < 1


def positive(value: float) -> bool:
    """Whether a number is above 0."""
    return value > 0
