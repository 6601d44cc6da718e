"""Configs: strict keys, safe YAML, every key documented."""

import pytest

from wsis.config import flatten, get_cfg, load_cfg
from wsis.errors import ConfigError


def test_file_and_command_line(tmp_path):
    (tmp_path / "base.yaml").write_text("MODEL:\n  MASK_ON: True\nSEED: 1\n")
    (tmp_path / "leaf.yaml").write_text('_BASE_: "base.yaml"\nSEED: 2\n')
    opts = ["DATASETS.CUSTOM", "[['a', 'b.json', '']]", "SOLVER.MAX_ITER", "7"]
    cfg = load_cfg(tmp_path / "leaf.yaml", opts)
    assert (cfg.MODEL.MASK_ON, cfg.SEED, cfg.SOLVER.MAX_ITER) == (True, 2, 7)
    assert cfg.DATASETS.CUSTOM == [["a", "b.json", ""]]


def test_a_whole_number_is_a_number(tmp_path):
    (tmp_path / "a.yaml").write_text("SOLVER: {BASE_LR: 1}\nMODEL: {BOXCASEG: {DICE_WEIGHT: 2}}")
    keys = ("SOLVER.BASE_LR", "MODEL.BOXCASEG.DICE_WEIGHT", "SOLVER.GAMMA")
    opts = ["SOLVER.GAMMA", "3", "MODEL.BOXCASEG.DICE_WEIGHT", "4"]
    flat = flatten(load_cfg(tmp_path / "a.yaml", opts))
    found = [flat[key] for key in keys]
    assert found == [1, 4, 3] and set(map(type, found)) == {float}
    for value in ("True", "1" + "0" * 400):
        with pytest.raises(ConfigError, match=r"SOLVER.GAMMA: found .*, expected a number"):
            load_cfg(None, ["SOLVER.GAMMA", value])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL:\n  MASK_OON: True\n", "no such key MODEL.MASK_OON; did you mean MODEL.MASK_ON?"),
        ("SOLVER:\n  MAX_ITER: many\n", "SOLVER.MAX_ITER"),
        ("MODEL: [1\n", "not plain YAML"),
        ("SEED: !!python/object/apply:os.getcwd []\n", "not plain YAML"),
        ("- 1\n", r"\w"),
        ('_BASE_: "a.yaml"\n', "its _BASE_ leads back to itself"),
        ("SEED: " + "[" * 5000, "nested too deep"),
        ("_BASE_: 3\n", r"\w"),
        ("_BASE_: absent.yaml", r"absent\.yaml"),
        ("SEED: !!python/object/apply:pathlib.Path.touch ['x']\n", "not plain YAML"),
        (None, r"a\.yaml: no such config file"),
    ],
)
def test_a_bad_file_is_one_line_with_its_name(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.yaml"
    if text:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_cfg(path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    assert str(path) in str(error.value) or "absent" in message
    assert not (tmp_path / "x").exists(), "YAML never runs code"


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["SOLVER.MAX_ITERS", "3"], "no such key SOLVER.MAX_ITERS; did you mean SOLVER.MAX_ITER?"),
        (["SOLVER.MAX_ITER", "many"], "command line: SOLVER.MAX_ITER"),
        (["SOLVER.MAX_ITER"], "'SOLVER.MAX_ITER' has no value"),
        (["NOTHING.AT.ALL", "3"], "no such key NOTHING.AT.ALL"),
        (["DATASETS.TRAIN", "mine"], r"found mine \(str\), expected a tuple, such as \"\('one',"),
        (["MODEL.MASK_ON", "3"], r"MODEL.MASK_ON: found 3 \(int\), expected True or False"),
        (["MODEL", "3"], r"MODEL: found 3 \(int\), expected keys below it$"),
        (["SEED", "3", "--resume"], "option --resume must come before the first KEY VALUE"),
    ],
)
def test_a_bad_command_line(opts, message):
    with pytest.raises(ConfigError, match=message):
        load_cfg(None, opts)


def test_flatten_names_every_key():
    flat = flatten(get_cfg())
    assert flat["WSIS.SUPERVISION"] == "box"
    assert flat["MODEL.GRABCUT.ITERATIONS"] == 2
