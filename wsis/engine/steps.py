"""Commands that are run one after another, each once: a finished one leaves a mark."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from wsis.errors import ConfigError, WsisError
from wsis.structures.proxy_file import write_json_atomic

logger = logging.getLogger(__name__)

CONFIG = "--config-file"


class StepError(WsisError):
    """A command of the plan failed; its output stands above."""


class Steps:
    """Runs commands.

    Args:
        checkout: folder that they are run in.
        output: folder of their marks and logs.

    Attributes:
        environment: variables that they see, where the caller's has no such.
    """

    def __init__(self, checkout: Path, output: Path) -> None:
        self.checkout, self.output = checkout, output
        self.environment: dict[str, str] = {}

    def mark(self, name: str) -> Path:
        """The JSON file that a finished command leaves."""
        return self.output / "steps" / f"{name}.json"

    def has(self, name: str) -> bool:
        """Whether a command is finished."""
        return self.mark(name).exists()

    def done(self) -> list[dict[str, Any]]:
        """What the marks say, sorted by name: ``name``, ``command``, ``config``, ``seconds``."""
        return [
            json.loads(path.read_text()) for path in sorted(self.mark("").parent.glob("*.json"))
        ]

    def run(self, name: str, command: Sequence[str]) -> None:
        """Runs one command in its own process, unless its mark says that it is done.

        Raises:
            ConfigError: the mark is of another command, or of another content of its config.
            StepError: the command failed.
        """
        mark = self.mark(name)
        command = [os.fspath(part) for part in command]
        config = self._config(command)
        if mark.exists():
            done = json.loads(mark.read_text())
            if done["command"] != command:
                raise ConfigError(
                    f"{self.output}: step {name} was made by another plan; remove the folder or "
                    "choose another one with --output"
                )
            if done.get("config", config) != config:
                file = command[command.index(CONFIG) + 1]
                raise ConfigError(
                    f"{self.output}: {file} has changed since step {name} was made; remove the folder or choose "
                    "another one with --output"
                )
            logger.info("%s: done before", name)
            return
        logger.info("%s: python %s", name, subprocess.list2cmdline(command))
        start = time.monotonic()
        log = self.output / "logs" / f"{name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as stream:
            status = subprocess.run(
                [sys.executable, *command],
                cwd=self.checkout,
                env={**self.environment, **os.environ},
                stdout=stream,
                stderr=subprocess.STDOUT,
            ).returncode
        if status:
            tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise StepError(f"step {name} failed with status {status}: {''.join(tail)} (see {log})")
        seconds = round(time.monotonic() - start, 1)
        values = {"name": name, "command": command, "config": config, "seconds": seconds}
        write_json_atomic(mark, values)

    def _config(self, command: Sequence[str]) -> str:
        """SHA-256 of what a command's config says; "" = it has none."""
        if CONFIG not in command:
            return ""
        path = self.checkout / command[command.index(CONFIG) + 1]
        values = CfgNode.load_yaml_with_base(os.fspath(path))
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
