"""Generation by teachers that know the tags of an image and no box."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.generating import edited, outputs
from tests.noise import SIZE, NoiseTagTeacher, make_cfg
from wsis.engine.generation import check_generation
from wsis.errors import ConfigError, DataError, WsisError
from wsis.structures.score_maps import ScoreMapHeader, provenance_digest, read_score_maps


@pytest.fixture
def kind() -> str:
    return "NoiseTagTeacher"


@pytest.fixture
def maps(tmp_path):
    return tmp_path / "out/score_maps/noise"


def test_labels_score_maps_and_their_manifests_are_all_that_is_made(data, tmp_path, run, maps):
    result = run()
    assert result.files == (maps / "manifest.json",) and result.exit_status == 0
    names = {f"pseudo_labels/noise/y/{i}.png" for i in range(1, 13)}
    names |= {f"score_maps/noise/m/{i}.npz" for i in range(1, 13)}
    names |= {f"{folder}/noise/manifest.json" for folder in ("pseudo_labels", "score_maps")}
    assert set(outputs(tmp_path / "out")) == names
    manifest = json.loads(result.files[0].read_text())
    assert manifest["score_maps"] == ["m"]
    assert manifest["classes"] == ["background", "a", "b"]
    assert manifest["wsis"]["method"] == "NoiseTagTeacher"
    assert set(manifest) == {"wsis", "score_maps", "classes"}
    digest = provenance_digest(manifest["wsis"])
    for number in range(1, 13):
        found = read_score_maps(
            maps / f"m/{number}.npz", ScoreMapHeader(f"{number}.png", SIZE, digest)
        )
        classes = {a["category_id"] for a in annotations_of(data, number)}
        assert found.classes.tolist() == [1 + [3, 8].index(c) for c in sorted(classes)]
        assert found.enlarged().shape == (len(classes), *SIZE)
        assert bool(found.scores.any()) == bool(classes)


def annotations_of(data, image_id):
    document = json.loads((data / "boxes.json").read_text())
    return [a for a in document["annotations"] if a["image_id"] == image_id]


def test_an_image_without_tags_is_background_and_told(tmp_path, run, seen, caplog):
    run()
    assert sorted(seen) == list(range(1, 12))
    assert "boxes.json: 1 image without tags: background in labels" in caplog.text
    with Image.open(tmp_path / "out/pseudo_labels/noise/y/12.png") as label:
        assert label.size == SIZE[::-1] and not np.asarray(label).any()
    caplog.clear()
    run()
    assert "without tags" not in caplog.text, "nothing was done"


@pytest.mark.parametrize("supervision", ["image", "box"])
def test_no_box_reaches_it(data, tmp_path, run, seen, supervision):
    if supervision == "image":
        with edited(data) as document:
            for annotation in document["annotations"]:
                for key in ("bbox", "segmentation"):
                    annotation.pop(key, None)
    run(WSIS__SUPERVISION=supervision)
    assert sorted(seen) == list(range(1, 12))
    for inputs in seen.values():
        keys = {"image", "tags", "image_labels", "image_id", "file_name", "height", "width"}
        assert set(inputs) == keys


def test_the_images_own_tags_come_first(data, run, seen):
    with edited(data) as document:
        document["images"][11]["image_labels"] = [8]
        document["images"][0]["image_labels"] = []
    run()
    assert seen[12]["tags"] == [1] and 1 not in seen


def test_no_tag_at_all_is_found_before_anything_is_written(data, tmp_path, run, monkeypatch):
    with edited(data) as document:
        document["annotations"] = []
    cfg = make_cfg(data, tmp_path / "out", MODEL__META_ARCHITECTURE="NoiseTagTeacher")
    for work in (run, lambda: check_generation(cfg)):
        with pytest.raises(DataError, match="boxes.json: none of 12 images has a tag"):
            work()
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_finds_the_tags_itself_sees_every_image(data, run, seen, monkeypatch):
    monkeypatch.setattr(NoiseTagTeacher, "needs_tags", classmethod(lambda cls, cfg: False))
    original = NoiseTagTeacher.propose

    def propose(self, batched_inputs):
        for inputs in batched_inputs:
            inputs["tags"] = [1]
        return original(self, batched_inputs)

    monkeypatch.setattr(NoiseTagTeacher, "propose", propose)
    with edited(data) as document:
        document["annotations"] = []
    assert run().exit_status == 0
    assert sorted(seen) == list(range(1, 13))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("map_name", r"made score maps \['other'\], expected \['m'\]"),
        ("size", r"made a map of \(23, 32\), the image has \(24, 32\)"),
    ],
)
def test_what_is_of_another_name_or_size_is_refused(run, trap, name, message):
    trap(name)
    with pytest.raises(WsisError, match=message):
        run()


@pytest.mark.parametrize(
    ("names", "keys", "message"),
    [
        (((), ()), {}, "NoiseTagTeacher makes neither labels nor score maps"),
        (((), ("m",)), {"PROXY__SEM_SEG": True}, "PROXY.SEM_SEG: NoiseTagTeacher makes no"),
        ((("y",), ()), {"PROXY__KEEP_TRUE_MASKS": True}, "KEEP_TRUE_MASKS: found True, but Noise"),
    ],
)
def test_what_it_cannot_make_is_told_before_anything_is_written(
    tmp_path, run, monkeypatch, names, keys, message
):
    for attribute, value in zip(("label_names", "map_names"), names, strict=True):
        monkeypatch.setattr(NoiseTagTeacher, attribute, value)
    with pytest.raises(ConfigError, match=message):
        run(**keys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "kept"), [(((), ("m",)), "score_maps"), ((("y",), ()), "pseudo_labels")]
)
def test_labels_or_score_maps_alone(tmp_path, run, monkeypatch, names, kept):
    import tests.noise as noise

    original = noise.NoiseMapRefiner.__call__

    def refine(self, seed, image):
        made = original(self, seed, image)
        made.sem_seg = {name: made.sem_seg[name] for name in names[0]}
        made.score_maps = {name: made.score_maps[name] for name in names[1]}
        return made

    monkeypatch.setattr(noise.NoiseMapRefiner, "__call__", refine)
    for attribute, value in zip(("label_names", "map_names"), names, strict=True):
        monkeypatch.setattr(NoiseTagTeacher, attribute, value)
    result = run()
    assert result.files == (tmp_path / "out" / kept / "noise/manifest.json",)
    assert {name.split("/")[0] for name in outputs(tmp_path / "out")} == {kept}
    assert run() == result


class TestMapsOfAnEarlierStage:
    @pytest.fixture
    def again(self, tmp_path, run, monkeypatch):
        """``again(**keys)``: a later stage in ``later``, which reads the maps of a first one as ``cam``."""
        run("first")
        monkeypatch.setattr(NoiseTagTeacher, "maps_needed", classmethod(lambda cls, cfg: ["cam"]))
        keys = {"DATASETS__CUSTOM_SCORE_MAPS": self.entries(tmp_path / "first")}
        return lambda **more: run("later", **keys | more)

    def test_come_with_the_inputs_and_are_part_of_what_the_result_was_made_with(
        self, tmp_path, run, again, seen
    ):
        seen.clear()
        result = again()
        assert len(seen) == 11
        for inputs in seen.values():
            (found,) = inputs["score_maps"].values()
            assert found.classes.tolist() == [1 + tag for tag in inputs["tags"]]
        first = json.loads((tmp_path / "first/score_maps/noise/manifest.json").read_text())
        later = json.loads(result.files[0].read_text())
        assert later["wsis"]["score_maps"] == {"cam": provenance_digest(first["wsis"])}
        run("other", SEED=2, DATASETS__CUSTOM_SCORE_MAPS=self.entries(tmp_path / "first"))
        other = self.entries(tmp_path / "other")
        with pytest.raises(WsisError, match='score_maps.cam: "[0-9a-f]{16}" -> "[0-9a-f]{16}"'):
            again(resume=True, DATASETS__CUSTOM_SCORE_MAPS=other)

    @staticmethod
    def entries(output):
        return [["noise", "cam", str(output / "score_maps/noise/m")]]

    def test_that_do_not_belong_are_found_before_anything_is_written(self, tmp_path, again):
        with pytest.raises(ConfigError, match="'noise' has no score maps 'cam', found none"):
            again(DATASETS__CUSTOM_SCORE_MAPS=[])
        (tmp_path / "first/score_maps/noise/m/7.npz").unlink()
        with pytest.raises(DataError, match=r"7\.npz: no such file of score maps"):
            again()
        assert not (tmp_path / "later").exists()
