"""A folder that is no model of ours, or not a whole one, is one line before any work."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.methods.sam import tiny
from wsis.errors import ConfigError
from wsis.methods.sam.weights import load_promptable, load_transformers


@pytest.fixture
def folder(tmp_path):
    return tiny.write(tmp_path / "model", "sam2")


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def without_processor(folder: Path) -> None:
    (folder / "processor_config.json").unlink()


def exemplars(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "sam3"}))


def pickled(folder: Path) -> None:
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "sam2.pth")
    weights.unlink()


def of_another_family(folder: Path) -> None:
    other = tiny.write(folder.parent / "sam", "sam") / "model.safetensors"
    other.replace(folder / "model.safetensors")


def of_another_size(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["no_memory_embedding"] = torch.zeros(1, 1, 7)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def without_an_array(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["mask_decoder.iou_token.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def torn(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_config, r"config.json: no such file; expected a folder with config.json"),
        (without_processor, r"found neither preprocessor_config.json nor processor_config.json: "),
        (exemplars, r"'model_type': found 'sam3', expected one of sam, sam_hq, sam2,"),
        (pickled, r"found sam2.pth, expected \*.safetensors: other files of weights may run code"),
        (of_another_family, r"of \d+ arrays of a sam2 model \d+ are .*\(.*; \.\.\.\); are"),
        (without_an_array, r" 1 are missing or .* \(mask_decoder.iou_token.weight\)"),
        (of_another_size, r" 1 are missing or of another shape \(no_memory_embedding\)"),
        (torn, r"cannot be read \(\w+Error: "),
    ],
)
def test_a_mistake_is_one_line(folder, spoil, message, capfd):
    spoil(folder)
    capfd.readouterr()
    with pytest.raises(
        ConfigError, match=f"^MODEL.SAM.PATH: {re.escape(str(folder))}.*{message}"
    ) as caught:
        load_promptable(str(folder))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert capfd.readouterr() == ("", "")


def test_a_path_that_is_no_folder(tmp_path):
    weights = tmp_path / "sam_vit_b.pth"
    weights.touch()
    for path, found in (("", "found nothing"), (weights, "a file"), (tmp_path / "no", "no such")):
        with pytest.raises(ConfigError, match=f"MODEL.SAM.PATH: .*{found}.*expected a folder with"):
            load_promptable(str(path))


def test_what_it_needs_is_named(monkeypatch):
    monkeypatch.setattr(load_transformers(), "__version__", "4.57.1")
    with pytest.raises(ConfigError, match=r"transformers: found 4.57.1, expected 5 or newer"):
        load_transformers()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"SAM needs transformers .* `pip install wsis\[sam\]`"):
        load_transformers()
