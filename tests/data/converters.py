"""Public datasets in miniature, exactly of their official form, and their converters."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from wsis.data.builtin_paths import BUILTIN
from wsis.data.voc import VOC_CLASSES, image_id_of
from wsis.structures.pseudo_labels import write_label

HEIGHT, WIDTH = 40, 60
VOC, SBD = "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"
BOX = "<bndbox><xmax>{2}</xmax><xmin>{0}</xmin><ymax>{3}</ymax><ymin>{1}</ymin></bndbox>"
EASY, HARD = (f"<pose>Left</pose><difficult>{i}</difficult>" for i in (0, 1))
PART = f"<part><name>head</name>{BOX.format(1, 1, 3, 3)}</part>"
# name -> (class, xmin, ymin, xmax, ymax, what else stands in the object) as the XML states them
OBJECTS: dict[str, list[tuple[Any, ...]]] = {
    "2007_000032": [("person", 1, 1, 20, 30, PART + EASY), ("dog", 31, 11, 60, 40, HARD)],
    # two of one class, and one without a mask
    "2007_000039": [("car", 1, 5, 30, 24), ("car", 33, 5, 48, 24, EASY), ("bird", 50, 1, 56, 7)],
    "2007_000033": [("aeroplane", 6, 6, 25, 25)],  # val; a second instance has no object
    "2008_000002": [  # SBD only; decimal numbers, instances in another order
        ("tvmonitor", "10.70", "5.2", "30.70", "25.2"),
        *(("sofa", 31, 1, 50, 20), ("sofa", 1, 31, 4, 34, HARD)),
    ],
    "2008_000003": [("cat", 1, 1, 60, 40)],  # SBD only
}
VOC_TRAIN = ["2007_000032", "2007_000039"]
# name -> (value of the instance, of the class, half-open XYXY)
VOC_MASKS = {
    "2007_000032": [(1, 15, (0, 0, 20, 30)), (2, 12, (30, 10, 60, 40))],
    "2007_000039": [(1, 7, (0, 4, 30, 24)), (2, 7, (32, 4, 48, 24))],
    "2007_000033": [(1, 1, (5, 5, 25, 25)), (2, 15, (40, 10, 50, 20))],
}
SBD_MASKS = {
    "2007_000032": [("cow", (0, 0, 9, 9))],  # VOC's own masks must win
    "2007_000033": [("cow", (0, 0, 9, 9))],
    "2008_000002": [
        ("sofa", (30, 0, 50, 20)),
        ("tvmonitor", (10, 5, 30, 25)),
        ("sofa", (30, 25, 60, 40)),
    ],
    "2008_000003": [("cat", (0, 0, 60, 40))],
}
LISTS = {
    f"{VOC}/ImageSets/Segmentation/train.txt": VOC_TRAIN,
    f"{VOC}/ImageSets/Segmentation/val.txt": ["2007_000033"],
    f"{SBD}/train.txt": ["2007_000032", "2008_000002"],
    f"{SBD}/val.txt": ["2007_000033", "2008_000003"],
}
NUCLEI = [letter * 64 for letter in "abcde"]  # ids are 64 hexadecimal digits
BLOBS = {
    "one": [(slice(4, 12), slice(5, 15))],
    "one_and_a_speck": [(slice(4, 14), slice(5, 15)), (slice(18, 19), slice(1, 3))],
    "two": [(slice(4, 12), slice(5, 15)), (slice(4, 12), slice(18, 25))],
    "touching_at_a_corner": [(slice(2, 6), slice(2, 6)), (slice(6, 9), slice(6, 9))],
    "none": [],
}
COCO: dict[str, Any] = {
    "info": {"year": 2017},
    "licenses": [{"id": 1}],
    "images": [{"id": 9, "file_name": "000000000009.jpg", "height": 480, "width": 640}],
    "annotations": [
        {"id": 7, "image_id": 9, "category_id": 18, "bbox": [10.5, 20.25, 30.0, 40.0]}
        | {"area": 321.5, "iscrowd": 0, "keypoints": [1, 2, 2], "num_keypoints": 1}
        | {"segmentation": [[10.5, 20.25, 40.5, 20.25, 40.5, 60.25]]},
        {"id": 900100000009, "image_id": 9, "category_id": 18, "bbox": [0, 0, 4, 5], "area": 3}
        | {"iscrowd": 1, "segmentation": {"size": [480, 640], "counts": [0, 3, 307197]}},
        {"id": 8, "image_id": 9, "category_id": 18, "bbox": [3, 4, 5, 0], "area": 0, "iscrowd": 0},
    ],
    "categories": [{"id": 18, "name": "dog", "supercategory": "animal"}],
}


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_xml(
    path: Path, *objects: Any, file_name: str | None = None, size: Any = (WIDTH, HEIGHT)
) -> None:
    """An annotation in VOC's form; ``objects`` are as in :data:`OBJECTS`."""
    text = ""
    for name, x0, y0, x1, y1, *more in objects:
        box = BOX.format(x0, y0, x1, y1)
        text += f"<object>{''.join(more)}<name>{name}</name>{box}</object>\n"
    if size:
        text += f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    if file_name is not None:
        text += f"<filename>{file_name}</filename>"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{text}</annotation>", encoding="utf-8")


def ringed(shapes: list[tuple[int, tuple[int, int, int, int]]]) -> np.ndarray:
    """A map where each (value, half-open XYXY) is a rectangle within a void ring of 2 pixels."""
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for value, (x0, y0, x1, y1) in shapes:
        labels[y0:y1, x0:x1] = 255
        labels[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] = value
    return labels


def voc2012(root: Path) -> None:
    for name, objects in OBJECTS.items():
        save(root / VOC / "JPEGImages" / f"{name}.jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        write_xml(root / VOC / f"Annotations/{name}.xml", *objects, file_name=f"{name}.jpg")
    for name, masks in VOC_MASKS.items():
        for kind, key in (("SegmentationObject", 0), ("SegmentationClass", 1)):
            write_label(root / VOC / kind / f"{name}.png", ringed([(m[key], m[2]) for m in masks]))
    for kind in ("inst", "cls"):
        (root / SBD / kind).mkdir(parents=True)
    for name, instances in SBD_MASKS.items():
        labels, classes = np.zeros((2, HEIGHT, WIDTH), dtype=np.uint8)
        edges = np.empty((len(instances), 1), dtype=object)
        values = np.array([[VOC_CLASSES.index(cls) + 1] for cls, _ in instances], dtype=np.uint8)
        for k, (_, (x0, y0, x1, y1)) in enumerate(instances):
            labels[y0:y1, x0:x1], classes[y0:y1, x0:x1] = k + 1, values[k, 0]
            edges[k, 0] = csc_matrix(labels == k + 1)
        inst = {"Segmentation": labels, "Categories": values, "Boundaries": edges}
        savemat(root / SBD / "inst" / f"{name}.mat", {"GTinst": inst})
        present = np.unique(values)[:, None]
        cls = {"Segmentation": classes, "CategoriesPresent": present, "Boundaries": edges}
        savemat(root / SBD / "cls" / f"{name}.mat", {"GTcls": cls})
    for path, names in LISTS.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("".join(f"{name}\n" for name in names))


def nuclei(root: Path) -> None:
    """Five images of 16 x 24 pixels, the last one larger than the others and without nuclei."""
    for k, name in enumerate(NUCLEI):
        folder = root / "nuclei" / "stage1_train" / name
        pixels = np.full((16, 24, 4), (10, 20, 30 + k, 255), dtype=np.uint8)
        save(folder / "images" / f"{name}.png", pixels if k < 4 else pixels.repeat(3, axis=0))
        (folder / "masks").mkdir()
        spans = ((2, 6, 3, 9), (4, 8, 8, 12), (0, 0, 0, 0))  # the first two share 2 pixels
        for number, (y0, y1, x0, x1) in enumerate(spans if k < 4 else (), start=1):
            mask = np.zeros((16, 24), dtype=np.uint8)
            mask[y0:y1, x0:x1] = 255
            save(folder / "masks" / f"{number}.png", mask)


def duts(root: Path) -> None:
    rng = np.random.default_rng(0)
    for k, (name, blobs) in enumerate(BLOBS.items()):
        mask = np.zeros((20, 30), dtype=np.uint8)
        for blob in blobs:
            mask[blob] = 255
        mask[0, 0] = 90  # a soft border
        stored = mask if k % 2 else np.repeat(mask[..., None], 3, axis=2)
        save(root / "DUTS-TR" / "DUTS-TR-Mask" / f"{name}.png", stored)
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        save(root / "DUTS-TR" / "DUTS-TR-Image" / f"{name}.jpg", pixels)


def coco(root: Path) -> None:
    path = root / "coco" / "annotations" / "instances_train2017.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(COCO))


def photo(path: Path) -> None:
    save(path, np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def cub(root: Path) -> None:
    """Two classes of four images to train on and one to judge by."""
    folder = root / "CUB_200_2011"
    for name in ("001.Auk", "002.Gull"):
        for number in range(4):
            photo(folder / "train" / name / f"{number}.jpg")
        photo(folder / "test" / name / "9.jpg")
    text(folder / "test_list.txt", "002.Gull/9.jpg;1", "001.Auk/9.jpg;0")
    text(folder / "test_bounding_box.txt", "10.0 5.0 30.0 25.0 40 60", "1.5 2.0 21.5 32.0 40 60")


def ilsvrc_loc(root: Path) -> None:
    folder = root / "ILSVRC"
    for name in ("n01", "n02"):
        for number in range(4):
            photo(folder / "train" / name / f"{name}_{number}.JPEG")
        photo(folder / "val" / name / f"{name}_val.JPEG")
    lines = "n02\\n02_val 60 40 ; 3 4 13 24", "n01\\n01_val.JPEG 60 40 ; 1 2 11 12 20 20 30 40"
    text(folder / "val_gt.txt", *lines)


def openimages30k(root: Path) -> None:
    """Two objects in the second image of each split that is judged, with pixels to ignore around them."""
    folder = root / "OpenImages30k"
    text(folder / "classes.txt", "Bird", "Polar bear")
    for split in ("train", "val", "test"):
        names = [f"{split}/{k}.jpg" for k in range(2)]
        text(folder / f"{split}_images.txt", *(f"{n},{k}" for k, n in enumerate(names)))
        for name in names:
            photo(folder / name)
        if split != "train":
            objects = [(0, (2, 2, 10, 10)), (1, (2, 2, 10, 10)), (1, (20, 20, 30, 30))]
            lines = []
            for k, (image, (x0, y0, x1, y1)) in enumerate(objects):
                mask = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)  # masks may be smaller
                mask[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = 255
                save(folder / f"masks/{split}_{k}.png", mask)
                lines.append(f"{names[image]},masks/{split}_{k}.png,")
            ignored = np.zeros((HEIGHT, WIDTH), np.uint8)
            ignored[:, 25:40] = 255
            save(folder / f"masks/{split}_ignored.png", ignored)
            lines[1] += f"masks/{split}_ignored.png"
            text(folder / f"{split}_mask.txt", *lines)


TREES = {"voc2012": voc2012, "nuclei": nuclei, "duts": duts, "coco": coco}
TREES |= {"cub": cub, "ilsvrc_loc": ilsvrc_loc, "openimages30k": openimages30k}
SCRIPTS = Path(__file__).parents[2] / "datasets"


def main_of(script: str) -> Any:
    return runpy.run_path(str(SCRIPTS / f"{script}.py"))["main"]


def prepare(name: str, root: Path, *arguments: str) -> None:
    """Runs a converter on a root; an empty one gets its tree before."""
    if not any(root.iterdir()):
        TREES[name](root)
    workers = () if name == "coco" else ("--workers", "1")
    main_of(f"prepare_{name}")(["--root", str(root), *workers, *arguments])


def read(root: Path, name: str) -> dict[str, Any]:
    """What was written as a builtin dataset."""
    return json.loads((root / BUILTIN[name][0]).read_text())


def check_boxes_file(masked: dict[str, Any], boxes: dict[str, Any], *more: str) -> None:
    """The same images and annotations in both, and nothing of a mask in the second."""
    assert boxes["images"] == [
        {k: v for k, v in i.items() if k != "void"} for i in masked["images"]
    ]
    same = ("id", "image_id", "category_id", "bbox", "iscrowd", *more)
    for with_mask, without in zip(masked["annotations"], boxes["annotations"], strict=True):
        assert all(with_mask[key] == without[key] for key in same)
        assert without["area"] == without["bbox"][2] * without["bbox"][3]
    text = json.dumps(boxes)
    assert "segmentation" not in text and "void" not in text and "counts" not in text


def of_image(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [a for a in document["annotations"] if a["image_id"] == image_id_of(name)]
