"""A handful of the kills of ``tests/campaign.py``, and that it would see a difference."""

from __future__ import annotations

import random

import pytest
import torch

from tests.campaign import Generation, Training
from tests.noise import KINDS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", KINDS)
def test_generation(tmp_path, kind):
    campaign = Generation(tmp_path, images=12, workers=(0,), kind=kind)
    assert "4 kills" in campaign.kill(4, random.Random(3))


def test_training(tmp_path):
    campaign = Training(tmp_path, iterations=12)
    assert "learning rates equal in all of 12 iterations" in campaign.kill(3, random.Random(3))


def test_another_file_and_an_error_are_told(tmp_path):
    campaign = Generation(tmp_path, images=4, ranks=(1,), workers=(0,))
    campaign.model.scale.data.fill_(1.1)
    assert campaign.run(tmp_path / "out", (1, 0), None)
    with pytest.raises(AssertionError, match=r"differs: \[.proxy/noise.json.\]"):
        campaign.compare(tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/ids").touch()
    with pytest.raises(AssertionError, match="the teacher made masks of annotations"):
        campaign.run(tmp_path / "other", (1, 0), None)


def test_other_weights_and_rates_are_noticed(tmp_path):
    campaign = Training(tmp_path, iterations=8)
    assert campaign.run(tmp_path / "out", (), None)
    path = tmp_path / "out/model_final.pth"
    final = torch.load(path, weights_only=True)
    weight = final["model"]["head.weight"]
    weight += 0.01
    torch.save(final, path)
    with pytest.raises(AssertionError, match="not close"):
        campaign.compare(tmp_path / "out")
    with (tmp_path / "out/rates.txt").open("a") as stream:
        stream.write("7 0.5\n")
    with pytest.raises(AssertionError, match=r"iteration 7: 0\.5"):
        campaign.compare(tmp_path / "out")
