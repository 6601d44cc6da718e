"""What wsis raises when the user's input is at fault: one clear line, no stack of framework internals."""

from __future__ import annotations


class WsisError(Exception):
    """Base of all errors whose text is meant for the user.

    Attributes:
        exit_status (int): what a command-line tool exits with when this error ends it.
    """

    exit_status: int = 2


class DataError(WsisError):
    """An input file is wrong. The text names the file, the key or annotation id, and what was expected."""


class ConfigError(WsisError):
    """A config key, a command-line value or an installed package is wrong. The text names the key."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number and what is counted, as in "1 image" and "2 images"; ``plural`` where it is more than an "s"."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
