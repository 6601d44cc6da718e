"""Training, evaluation and generation as runs: processes, checkpoints, command lines."""

from wsis.engine.checkpoint import WsisCheckpointer
from wsis.engine.cli import (
    argument_parser,
    check_weights,
    checked_model,
    only_training,
    run_tool,
    setup,
    start,
)
from wsis.engine.freeze import freeze_modules
from wsis.engine.launch import launch
from wsis.engine.processes import launch_processes
from wsis.engine.short_words import (
    add_short_words,
    apply_short_words,
    named_folders,
    output_path,
)
from wsis.engine.trainer import WsisTrainer

__all__ = [
    "WsisCheckpointer",
    "WsisTrainer",
    "add_short_words",
    "apply_short_words",
    "argument_parser",
    "check_weights",
    "freeze_modules",
    "launch",
    "launch_processes",
    "named_folders",
    "checked_model",
    "only_training",
    "output_path",
    "run_tool",
    "setup",
    "start",
]
