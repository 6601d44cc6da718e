"""Random models of every family, small enough to be written to a folder and asked in a moment."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

SIDE = 64
"""Of the image that the networks see, in pixels; mask maps have a quarter of it."""
FAMILIES = ("sam", "sam_hq", "sam2", "sam3_tracker")
_DECODER = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2}
_DECODER |= {"iou_head_hidden_dim": 32, "iou_head_depth": 2}
_PROMPTS = {"hidden_size": 32, "mask_input_channels": 4, "image_size": SIDE}
_LEVELS = [[16, 16], [8, 8], [4, 4]]


def _of_segment_anything(family: str) -> Any:
    kind = "SamHQ" if family == "sam_hq" else "Sam"
    vision = getattr(hf, f"{kind}VisionConfig")(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=16,
        output_channels=32,
        window_size=2,
        global_attn_indexes=[1],
        num_pos_feats=16,
        mlp_dim=64,
    )
    more = {"vit_dim": 32} if family == "sam_hq" else {}
    prompts = getattr(hf, f"{kind}PromptEncoderConfig")(**_PROMPTS, patch_size=16)
    decoder = getattr(hf, f"{kind}MaskDecoderConfig")(**_DECODER, **more)
    return getattr(hf, f"{kind}Config")(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )


def _of_sam2() -> Any:
    backbone = hf.Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 2, 2, 2],
        window_positional_embedding_background_size=[2, 2],
        global_attention_blocks=[3],
    )
    vision = hf.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=_LEVELS,
        fpn_hidden_size=32,
    )
    return hf.Sam2Config(
        vision_config=vision,
        prompt_encoder_config={**_PROMPTS, "patch_size": 16},
        mask_decoder_config=_DECODER,
    )


def _of_sam3() -> Any:
    backbone = hf.Sam3ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=16,
        window_size=2,
        global_attn_indexes=[1],
        pretrain_image_size=32,
    )
    vision = hf.Sam3VisionConfig(
        backbone_config=backbone, fpn_hidden_size=32, backbone_feature_sizes=_LEVELS
    )
    return hf.Sam3TrackerConfig(
        vision_config=vision,
        prompt_encoder_config={**_PROMPTS, "patch_size": 16},
        mask_decoder_config=_DECODER,
    )


def processor(family: str) -> Any:
    """The processor of a family, for images of :data:`SIDE` pixels."""
    if family.startswith("sam2"):
        return hf.Sam2Processor(hf.Sam2ImageProcessor(size={"height": SIDE, "width": SIDE}))
    if family.startswith("sam3"):
        images = hf.Sam3ImageProcessor(size={"height": SIDE, "width": SIDE})
        return hf.Sam3TrackerProcessor(images)
    square = {"height": SIDE, "width": SIDE}
    images = hf.SamImageProcessor(size={"longest_edge": SIDE}, pad_size=square)
    return (hf.SamHQProcessor if family == "sam_hq" else hf.SamProcessor)(images)


@cache
def model(family: str) -> Any:
    """Random weights, the same in every call, far enough from 0 that a mask follows its box."""
    makers = {"sam2": _of_sam2, "sam3_tracker": _of_sam3}
    config = makers[family]() if family in makers else _of_segment_anything(family)
    torch.manual_seed(3)
    kinds = {"sam": hf.SamModel, "sam_hq": hf.SamHQModel, "sam2": hf.Sam2Model}
    made = kinds.get(family, hf.Sam3TrackerModel)(config).eval()
    for parameter in made.parameters():  # as they start, prompts would hardly matter
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made.requires_grad_(False)


def write(folder: Path, family: str) -> Path:
    """A folder as a hub has it: config, weights, processor's config."""
    base = {"sam2_video": "sam2", "sam3_video": "sam3_tracker"}.get(family, family)
    model(base).save_pretrained(folder)
    processor(base).save_pretrained(folder)
    if family != base:
        config = json.loads((folder / "config.json").read_text()) | {"model_type": family}
        if family == "sam3_video":
            tracker = config | {"model_type": "sam3_tracker_video", "image_size": SIDE}
            config = {"model_type": family, "tracker_config": tracker}
            weights = load_file(folder / "model.safetensors")
            prefix = re.compile(
                r"^tracker_model\.(?=detector_model\.|tracker_neck\.)"
            )  # shared parts have none
            save_file(
                {prefix.sub("", n): v for n, v in weights.items()},
                folder / "model.safetensors",
                {"format": "pt"},
            )
        (folder / "config.json").write_text(json.dumps(config))
    return folder
