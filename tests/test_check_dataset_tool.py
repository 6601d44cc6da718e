"""tools/check_dataset.py as a user calls it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from tests.tiny import loggers_as_before, write_config, write_dataset, write_json
from wsis.errors import ConfigError

__all__ = ["loggers_as_before"]

TOOL = Path(__file__).parents[1] / "tools" / "check_dataset.py"


@pytest.fixture
def data(tmp_path):
    """Folder with four images and ``boxes.json``."""
    return tmp_path / "data"


@pytest.fixture
def document(data):
    return write_dataset(data)


@pytest.fixture
def check(capsys):
    """``check(arguments...)``: exit status, standard output, errors."""
    main = runpy.run_path(str(TOOL))["main"]

    def run(*arguments):
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err.splitlines()

    return run


def test_a_good_dataset(data, document, check, tmp_path):
    out = tmp_path / "report.json"
    status, text, errors = check(
        "--json", data / "boxes.json", "--images", data, "--json-output", out
    )
    assert (status, errors) == (0, [])
    for words in (
        "images 4, 0 without a box",
        "masks run-length codes: 4",
        "image files 4 read; RGB 4;",
        "box width 14 14 22 30 30",
        "tall 2 2",
        "0 problems, 0 unreadable images",
    ):
        assert words in " ".join(text.split())
    report = json.loads(out.read_text())[str(data / "boxes.json")]
    assert report["facts"]["annotations"] == 4 and report["problems"] == []


def test_names_are_text_whatever_they_look_like(data, document, check, tmp_path):
    names = ["007", "1e5", "<b>Käse</b>", "nan"]
    document["categories"] += [{"id": 10**9 + i, "name": name} for i, name in enumerate(names)]
    write_json(data, document)
    status, text, errors = check("--json", data / "boxes.json", "--images", data)
    assert (status, errors) == (0, [])
    lines = [line.split() for line in text.splitlines()]
    for name in names:
        assert [name, "0", "0"] in lines


def test_what_is_wrong_is_printed_and_written(data, document, check, tmp_path):
    for annotation in document["annotations"]:
        annotation["category_id"] = 1
    document["annotations"][0]["bbox"] = [0, 0, -1, 4]
    write_json(data, document)
    (data / "3.png").unlink()
    out = tmp_path / "report.json"
    status, text, errors = check(
        "--json", data / "boxes.json", "--images", data, "--json-output", out
    )
    assert status == 2
    assert [line.split(":")[0] for line in errors] == ["error"] * 5 + ["unreadable"]
    assert "5 problems, 1 unreadable images" in text
    assert len(json.loads(out.read_text())[str(data / "boxes.json")]["problems"]) == 5


def test_unreadable_images_are_status_3_unless_they_are_left_alone(data, document, check):
    (data / "3.png").unlink()
    arguments = ("--json", data / "boxes.json", "--images", data)
    assert check(*arguments)[0] == 3
    assert check(*arguments, "--no-images")[0] == 0


def test_long_lists_are_cut_on_the_screen(data, document, check):
    document["annotations"] = [
        {**document["annotations"][0], "id": i, "image_id": 99} for i in range(60)
    ]
    write_json(data, document)
    _, text, errors = check("--json", data / "boxes.json", "--images", data)
    assert len(errors) == 51 and errors[-1] == "error: 10 more; --json-output FILE has all"
    assert "60 problems" in text


def test_options_of_boxes(data, document, check):
    document["annotations"][0]["bbox"] = [0, 0, -1, 4]
    write_json(data, document)
    arguments = ("--json", data / "boxes.json", "--images", data, "--no-images")
    assert check(*arguments)[0] == 2
    assert check(*arguments, "--bad-box", "skip")[0] == 0
    del document["annotations"][0]["bbox"]
    write_json(data, document)
    assert check(*arguments)[0] == 2
    assert check(*arguments, "--tags")[0] == 0


def test_the_datasets_of_a_config(data, document, check, tmp_path):
    write_dataset(tmp_path / "more", number=2)
    entries = [["tiny", str(data / "boxes.json"), str(data)]]
    entries.append(["more", str(tmp_path / "more/boxes.json"), str(tmp_path / "more")])
    config = write_config(tmp_path / "run", data, DATASETS__CUSTOM=entries, DATASETS__TEST=["more"])
    status, text, _ = check("--config-file", config)
    assert status == 0
    assert "tiny: 0 problems" in text and "more: 0 problems" in text
    status, _, errors = check("--config-file", config, "MODEL.ROI_HEADS.NUM_CLASSES", 5)
    assert status == 2
    assert "MODEL.ROI_HEADS.NUM_CLASSES: found 5, but dataset 'tiny' needs 2" in errors[0]
    document["annotations"][0]["bbox"] = [0, 0, -1, 4]
    write_json(data, document)
    assert check("--config-file", config, "--no-images")[0] == 2
    assert check("--config-file", config, "--no-images", "DATASETS.BAD_BOX", "skip")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected either --json or --config-file"),
        (("--config-file", ""), "an empty name: no such config file"),
        (("--json", "a", "--config-file", "b"), "expected either --json or --config-file"),
        (("--json", "a", "SEED", "1"), "'SEED': config keys need --config-file"),
    ],
)
def test_mistakes_of_the_command(check, arguments, message):
    with pytest.raises(ConfigError, match=message):
        check(*arguments)


def test_a_config_without_such_datasets(data, document, check, tmp_path):
    config = write_config(tmp_path / "run", data, DATASETS__TRAIN=[])
    with pytest.raises(ConfigError, match="DATASETS.TRAIN: found nothing"):
        check("--config-file", config)
    with pytest.raises(ConfigError, match="'nope' is no dataset that has a COCO file"):
        check("--config-file", config, "DATASETS.TRAIN", "('nope',)")
