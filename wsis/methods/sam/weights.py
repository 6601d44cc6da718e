"""A promptable model and its processor, from a folder as a model hub has it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from wsis.errors import ConfigError, DataError
from wsis.structures.proxy_file import read_json

KEY = "MODEL.SAM.PATH"
PROCESSORS = {
    "sam": "SamProcessor",
    "sam_hq": "SamHQProcessor",
    "sam2": "Sam2Processor",
    "sam2_video": "Sam2Processor",
    "sam3_tracker": "Sam3TrackerProcessor",
    "sam3_video": "Sam3TrackerProcessor",
}
"""``model_type`` of a folder to the class that prepares its images and boxes; that of a video wants other inputs."""
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_NAMED = 3


class Promptable(NamedTuple):
    """What a folder holds.

    Attributes:
        model: of `transformers`, in eval mode, without gradients.
        processor: of its family.
        sha256: of each file that was read, in hex, by name.
    """

    model: Any
    processor: Any
    sha256: dict[str, str]


def load_transformers() -> ModuleType:
    """The library; call it early to fail before any work.

    Raises:
        ConfigError: it is not installed, or too old to have all families.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"SAM needs transformers ({error}): `make install`, or `pip install wsis[sam]`"
        ) from error
    if int(transformers.__version__.split(".")[0]) < 5:
        raise ConfigError(
            f"transformers: found {transformers.__version__}, expected 5 or newer: `pip install wsis[sam]`"
        )
    return transformers


def load_promptable(path: str) -> Promptable:
    """Reads a folder; nothing is fetched, and no file can run code.

    Args:
        path: ``MODEL.SAM.PATH``.

    Raises:
        ConfigError: it is no such folder, of another family, or its weights do not fill the model.
    """
    transformers = load_transformers()
    folder, family, files = _check(path)
    processor_kind = getattr(transformers, PROCESSORS[family])
    options: dict[str, Any] = {"local_files_only": True}
    with _one_line(path), _quiet(transformers):
        processor = processor_kind.from_pretrained(folder, **options)
        model, info = transformers.AutoModelForMaskGeneration.from_pretrained(
            folder,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below
            dtype="float32",
            **options,
        )
    absent = sorted({*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])})
    if absent:
        number = len(model.state_dict())
        shown = ", ".join(absent[:_NAMED]) + ("; ..." if len(absent) > _NAMED else "")
        raise ConfigError(
            f"{KEY}: {path}: of {number} arrays of a {family} model {len(absent)} are missing or of another shape "
            f"({shown}); are config.json and weights of one model?"
        )
    digests = {file.name: _sha256(file) for file in files}
    return Promptable(model.eval().requires_grad_(False), processor, digests)


def _check(path: str) -> tuple[Path, str, list[Path]]:
    """The folder, its family, and the files that will be read.

    Raises:
        ConfigError: something is missing, or of another kind.
    """
    expected = f"expected a folder with config.json, *.safetensors and {_PROCESSOR_FILES[0]}"
    folder = Path(path)
    if not path:
        raise ConfigError(f"{KEY}: found nothing, {expected}")
    if not folder.is_dir():
        what = "a file" if folder.is_file() else "no such folder"
        raise ConfigError(
            f"{KEY}: {path}: {what}, {expected}; see docs/methods/sam.md for where they are"
        )
    try:
        config = read_json(folder / "config.json")
    except DataError as error:
        raise ConfigError(f"{KEY}: {error}; {expected}") from error
    family = config.get("model_type") if isinstance(config, dict) else None
    if family not in PROCESSORS:
        known = ", ".join(PROCESSORS)
        raise ConfigError(
            f"{KEY}: {path}/config.json: key 'model_type': found {family!r}, expected one of {known}"
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pth", ".pt"))
        found = ", ".join(others) or "no weights"
        raise ConfigError(
            f"{KEY}: {path}: found {found}, expected *.safetensors: other files of weights may run code; take the "
            "model's safetensors, or convert them elsewhere"
        )
    processors = [folder / name for name in _PROCESSOR_FILES if (folder / name).is_file()]
    if not processors:
        raise ConfigError(
            f"{KEY}: {path}: found neither {' nor '.join(_PROCESSOR_FILES)}: copy the model's, which say how its "
            "images are resized and normalised"
        )
    return folder, family, [folder / "config.json", *processors, *weights]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _one_line(path: str) -> Iterator[None]:
    """Whatever a folder that does not fit makes the library raise, in one line."""
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split())
        raise ConfigError(
            f"{KEY}: {path}: cannot be read ({type(error).__name__}: {text[:200]}); are config.json and weights of one "
            "model?"
        ) from error


@contextlib.contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """No progress bar and no table of keys: what is wrong is said in one line."""
    log = transformers.utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()
