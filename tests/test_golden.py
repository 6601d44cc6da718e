from __future__ import annotations

import math
import re
import runpy
import shutil
import sys
from collections import UserDict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.golden import __main__ as command
from tests.golden.compare import Comparison, absolute, close, exact, relative, share
from tests.golden.frame import (
    Ambiguous,
    Check,
    cases,
    check,
    check_file,
    choose,
    load_checks,
    read_arrays,
    tags,
)
from tests.masks import needs_crf

DATA = Path(__file__).parent / "golden" / "data"
NEEDS_CRF = """bana/densecrf bana/stage2_one_box bbam/assembly bbam/assembly_drop bbam/crf_raw
bbam/paste bbam/topcrf_1 bbam/topcrf_2 icam/final_infer_crf icam/infer_two_classes
bas/wsss_ir_label"""
INERT = {
    # the mean of one pixel does not depend on its weight
    "bana/weighted_pool": "w5",
    # in training mode batch norms do not look at their running statistics
    "bas/amc_wsss_resnet": " ".join(
        f"w.layer4.{norm}.running_{kind}"
        for norm in (*(f"{i}.bn{k}" for i in (0, 1) for k in (1, 2, 3)), "0.downsample.1")
        for kind in ("mean", "var")
    ),
    # a network without batch norms
    "bas/net_vgg_wsol": "buffer_names buffer_norms_after",
    # nothing in it; the ten crops are used instead
    "bas/wsol_eval_single": "tencrop_scores",
    "bas/wsol_eval_multi_tencrop": "scores",
    # the CRF makes the same mask of it
    "bbam/assembly_drop": "mask_u8_1",
    # no proposal is a positive, before and after
    "bbam/mask_init": "label_4 label_5 pred_label_4 pred_label_5 props_5 decoded_cls_5",
    # an empty seed makes the loss 0 whatever else there is; isolated cells do not count
    "bbam/mask_loss": "logits_nofg labels_nofg target_nofg target_ignore_nofg logits_nobg labels_nobg target_nobg"
    " target_ignore_nobg target_isolated",
    # another first corner of the same polygon
    "bbam/mask_targets": "poly_0 poly_2",
    # an object of 11 pixels, where 0.5 % of the image is more than the whole mask
    "bbam/paste": "image_rgb_3",
    # the recorded choice is faulty, so the check makes its own
    "bbam/retina": "gt gt_labels positive_idx",
    # any ids that tell annotations apart will do; images of one size
    "boxcaseg/proxy_merge": "coco_ann_id coco_image_hw voc_ann_id",
    # the order of a list of indices; one salient image more, which fills no batch
    "boxcaseg/ratio_sampler": "num_full overlap_index",
    # no box in another one
    "bbam/semantic_0": "boxes_xywh",
    "bbam/semantic_1": "boxes_xywh",
    # without a salient sample the full head's loss is 0 whatever it says
    "boxcaseg/joint_objective": "all_weak_out_full",
    # every mask is dropped whatever its content
    "boxcaseg/mask_head_loss": "all_dropped_conf_pos all_dropped_mask_logits all_dropped_mask_targets"
    " all_dropped_matched_labels",
    # another order of the names
    "bas/net_irn": "keys",
    # another order of the features' channels
    "icam/affnet_pairs_small": "w_f9",
    # more classes that are not in the image
    "icam/random_walk_b": "num_classes",
    # the same for old and new layers
    "icam/poly_optimizer": "group_weight_decay",
    # classes 1 and 4 of 6, turned by half; another order of the sizes
    "icam/infer_two_classes": "label scales",
    # made without the terms that look at them
    "icam/stage1_loss_lw0_avgavg": "indices1 indices2",
    "icam/stage1_loss_lw1_nofsl": "img1",
}
"""Arrays whose spoiled form is as right as the recorded one."""
FILES = [
    pytest.param(path, id=name, marks=[needs_crf] if name in NEEDS_CRF.split() else [])
    for path in sorted(DATA.rglob("*.npz"))
    for name in [f"{path.parent.name}/{path.stem}"]
]


def passing(arrays: Mapping[str, np.ndarray]) -> list[Comparison]:
    return [Comparison("size", 0.5, 1.0) for _ in arrays]


def make(method: str, prefix: str, *arrays: str, run=passing) -> Check:
    return Check(method, prefix, arrays, run)


def save(path: Path, **arrays: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


class Recorded(UserDict):
    """Arrays of a file that remember which of them were looked at."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__(arrays)
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray:
        self.seen.add(name)
        return super().__getitem__(name)


def spoil(values: np.ndarray) -> np.ndarray:
    """The same kind of array with other content."""
    if values.dtype == bool or (
        values.dtype.kind in "iu" and values.size > 1 and values.max() == 1
    ):
        return values ^ 1
    if values.size <= 1 or (values == values.flat[0]).all():
        return values + 1
    return np.roll(values, values.size // 2)


# the recorded files


@pytest.mark.parametrize("path", FILES)
def test_recorded_file_passes_and_every_array_counts(path: Path) -> None:
    checks = load_checks()
    arrays = Recorded(read_arrays(path))
    chosen = choose(checks, path.name, path.parent.name, arrays)
    assert chosen is not None
    assert [str(item) for item in chosen.run(arrays) if not item.passed] == []
    assert set(arrays) - arrays.seen == set()


def passes(chosen: Check, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether nothing is off; ends with the first that is."""
    try:
        return all(item.passed for item in chosen.run(arrays))
    except Exception:  # noqa: BLE001  a check that raises has failed
        return False


@pytest.mark.parametrize("path", FILES)
def test_spoiled_file_does_not_pass(path: Path) -> None:
    arrays = read_arrays(path)
    chosen = choose(load_checks(), path.name, path.parent.name, arrays)
    passed = [name for name in arrays if passes(chosen, arrays | {name: spoil(arrays[name])})]
    assert sorted(passed) == sorted(INERT.get(f"{path.parent.name}/{path.stem}", "").split())


@pytest.mark.parametrize("path", FILES)
def test_file_without_one_array_has_no_check_or_fails(path: Path) -> None:
    arrays = read_arrays(path)
    for missing in (name for name in arrays if not any(c.isdigit() for c in name)):
        rest = {name: values for name, values in arrays.items() if name != missing}
        chosen = choose(load_checks(), path.name, path.parent.name, rest)
        assert chosen is None or not passes(chosen, rest), missing


# choosing a check


def test_longest_prefix_wins_over_the_folder_which_decides_between_equal_ones() -> None:
    checks = [make("bana", "metric"), make("icam", "metrics_"), make("bana", "m")]
    assert choose(checks, "metrics_voc.npz", "bana", []) is checks[1]
    assert choose(checks, "metric.npz", "icam", []) is checks[0]
    checks = [make("bbam", "paste"), make("boxcaseg", "paste"), make("bas", "past")]
    assert choose(checks, "paste.npz", "bbam", []) is checks[0]
    assert choose(checks, "paste_7.npz", "boxcaseg", []) is checks[1]
    with pytest.raises(Ambiguous, match=r"bbam passing, boxcaseg passing"):
        choose(checks, "paste.npz", "elsewhere", [])
    with pytest.raises(Ambiguous):
        choose([checks[0], checks[0]], "paste.npz", "bbam", [])


def test_only_checks_with_all_arrays_are_candidates() -> None:
    checks = [make("bbam", "paste", "box_#", "image"), make("boxcaseg", "pas", "prob")]
    assert choose(checks, "paste.npz", "bbam", ["prob", "image"]) is checks[1]
    assert choose(checks, "paste.npz", "bbam", ["box_12", "image"]) is checks[0]
    for name in ("box_x", "box_", "abox_1", "box_1x"):
        assert choose(checks, "paste.npz", "bbam", [name, "image"]) is None
    assert choose(checks, "my_paste.npz", "bbam", ["prob"]) is None


def test_cases_are_sorted_numbers() -> None:
    assert cases(dict.fromkeys(["Q10", "Q2", "Q", "Qa", "xQ3", "P4"]), "Q#") == [2, 10]
    assert cases(dict.fromkeys(["y_0_t2", "y_1_t2", "y_2_t0"]), "y_#_t2") == [0, 1]


def test_tags_are_what_stands_before_the_longest_ending() -> None:
    names = ["b_2_x", "a_out_x", "a_x", "size", "ab_y"]
    assert tags(dict.fromkeys(names), ["x", "out_x", "y"]) == ["a", "ab", "b_2"]


@pytest.mark.parametrize(
    ("name", "case"),
    [("train_transform", "weak_down"), ("test_transform", "a"), ("proxy_merge", "coco")],
)
def test_cases_of_a_file_may_have_any_name(tmp_path: Path, name: str, case: str) -> None:
    recorded = read_arrays(DATA / "boxcaseg" / f"{name}.npz")
    renamed = {re.sub(f"^{case}_", "other_", n): values for n, values in recorded.items()}
    assert set(renamed) != set(recorded)
    path = save(tmp_path / "boxcaseg" / f"{name}_2.npz", **renamed)
    assert check_file(path, load_checks()).status == "PASS"
    for n in [n for n in renamed if n.startswith("other_out")]:
        save(path, **renamed | {n: spoil(renamed[n])})
        assert check_file(path, load_checks()).status == "FAIL", n


def test_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="bbma"):
        check("bbma", "paste")


# one file


def outcome_of(path: Path, run=passing) -> tuple[str, str]:
    outcome = check_file(path, [make("bana", "x", run=run)])
    assert "\n" not in outcome.detail
    return outcome.status, outcome.detail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(tmp_path / "x.npz", a=np.ones(3))


def test_worst_comparison_is_shown(path: Path) -> None:
    some_off = [Comparison("p", 9.0, 10.0), Comparison("q", 0.5, 0.1), Comparison("r", 0.2, 0.1)]
    assert outcome_of(path) == ("PASS", "size: 0.5 <= 1")
    assert outcome_of(path, lambda _: some_off) == ("FAIL", "q: 0.5 > 0.1 (2 of 3 off)")
    for error in (math.nan, math.inf):
        found = [Comparison("fine", 1.0, 1.0), Comparison("odd", error, 1.0)]
        status, detail = outcome_of(path, lambda _, found=found: found)
        assert status == "FAIL" and detail.startswith("odd")


def test_check_that_raises_or_compares_nothing_fails(path: Path, tmp_path: Path) -> None:
    def raising(_: object) -> list[Comparison]:
        raise KeyError("line one\nline two")

    assert outcome_of(path, raising) == ("FAIL", r"KeyError: 'line one\nline two'")
    assert outcome_of(path, lambda _: []) == ("FAIL", "the check compared nothing")
    assert outcome_of(save(tmp_path / "y.npz", a=1)) == ("NO CHECK", "")


def broken_files(folder: Path) -> Iterator[Path]:
    whole = save(folder / "x.npz", a=np.arange(1000.0)).read_bytes()
    contents = {
        "empty": b"",
        "text": b"not an archive",
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:400] + bytes(b ^ 255 for b in whole[400:420]) + whole[420:],
    }
    for name, content in contents.items():
        path = folder / f"x_{name}.npz"
        path.write_bytes(content)
        yield path
    np.save(folder / "x_array.npy", np.ones(3))
    yield (folder / "x_array.npy").rename(folder / "x_array.npz")
    yield save(folder / "x_pickle.npz", a=np.array([{"code": 1}], dtype=object))
    directory = folder / "x_folder.npz"
    directory.mkdir()
    yield directory


def test_unreadable_file_fails_in_one_line(tmp_path: Path) -> None:
    for path in broken_files(tmp_path):
        status, detail = outcome_of(path)
        assert status == "FAIL" and detail.startswith("unreadable: "), path.name


# comparisons


def test_absolute_and_nan() -> None:
    assert absolute("a", [1.0, math.nan, math.inf], [1.5, math.nan, math.inf], 1).error == 0.5
    assert not absolute("a", [math.nan, 1.0], [0.0, 1.0], 1e9).passed
    assert not absolute("a", [0.0, 1.0], [math.nan, 1.0], 1e9).passed
    assert absolute("a", np.zeros((0, 3)), np.zeros((0, 3)), 0).passed
    assert absolute("a", np.uint8(3), np.uint8(5), 2).error == 2


def test_relative_and_close() -> None:
    assert relative("a", [10.1, 0.0], [10.0, 0.1], 1).error == pytest.approx(0.01)
    assert close("a", [10.001], [10.0], rtol=1e-4, atol=0).error == pytest.approx(1.0)
    assert close("a", [10.0005, math.nan], [10.0, math.nan]).passed
    assert not close("a", [10.002], [10.0]).passed
    assert not close("a", [math.nan], [10.0]).passed


def test_share_and_exact() -> None:
    assert share("a", [1, 2, 3, 4], [1, 2, 3, 5], 0.25).passed
    assert not share("a", [1, 2, 3, 4], [1, 2, 4, 5], 0.25).passed
    assert exact("a", np.array([True, False]), np.array([1, 0], np.uint8)).passed
    assert exact("a", ["x", "y"], ["x", "z"]).error == 1


@pytest.mark.parametrize(
    "function", [exact, close, lambda *a: absolute(*a, 9), lambda *a: share(*a, 1)]
)
def test_other_shape_fails(function) -> None:
    comparison = function("a", np.zeros((1, 3)), np.zeros(3))
    assert not comparison.passed and "(1, 3), expected (3,)" in comparison.name


# the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("bana/semseg_eval", "boxcaseg/overlap_iou"):
        path = tmp_path / "set" / f"{name}.npz"
        path.parent.mkdir(parents=True)
        shutil.copy(DATA / f"{name}.npz", path)
    return tmp_path / "set"


def test_exit_status_says_whether_all_passed(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert command.main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("PASS      bana/semseg_eval.npz  ")
    assert lines[-1] == "2 passed, 0 failed, 0 without a check"
    assert command.main([str(folder / "bana")]) == 0
    save(folder / "bana" / "unheard_of.npz", a=1)
    assert command.main([str(folder)]) == 1
    assert "NO CHECK  bana/unheard_of.npz\n" in capsys.readouterr().out
    (folder / "bana" / "unheard_of.npz").write_bytes(b"")
    assert command.main([str(folder)]) == 1
    assert "2 passed, 1 failed, 0 without a check" in capsys.readouterr().out


def test_nothing_to_check_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert command.main([str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "x.txt").write_text("")
    assert command.main([str(tmp_path)]) == 2
    assert "no .npz file" in capsys.readouterr().err


def test_runs_as_a_module(folder: Path, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "argv", ["tests.golden", str(folder)])
    monkeypatch.delitem(sys.modules, "tests.golden.__main__")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("tests.golden", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.count("PASS") == 2
