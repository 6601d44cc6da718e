"""ImageNet weights by timm's names, wherever Detectron2 takes a path: ``MODEL.WEIGHTS timm://hrnet_w48``."""

from __future__ import annotations

from typing import Any

from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

PREFIX = "timm://"
FILE_NAME = "model.safetensors"


class TimmWeights(PathHandler):
    """The file behind ``timm://<model>`` or ``timm://<model>.<tag>``, fetched once and kept by the hub's own client."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        from huggingface_hub import hf_hub_download
        from timm.models import get_pretrained_cfg

        name = path.removeprefix(PREFIX)
        found = get_pretrained_cfg(name)
        if found is None or not found.hf_hub_id:
            raise FileNotFoundError(f"timm has no weights of the name {name}")
        return hf_hub_download(found.hf_hub_id, FILE_NAME, force_download=force)


PathManager.register_handler(TimmWeights())
