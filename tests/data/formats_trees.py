"""The same three images and four objects, as each labelling tool would have written them."""

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.data.builders import save_turned, write_json
from tests.data.converters import save, write_xml

HEIGHT, WIDTH = 40, 60
NAMES = ["bolt", "nut"]
OBJECTS: dict[str, list[tuple[str, tuple[int, int, int, int]]]] = {
    "a.png": [("nut", (6, 4, 30, 20)), ("bolt", (30, 10, 60, 40))],
    "sub/b.jpg": [("nut", (0, 0, 15, 8)), ("nut", (12, 20, 24, 36))],
    "sub/c.png": [],
}
"""Name of the image to classes and half-open XYXY."""


def corners(box: tuple[float, ...]) -> list[list[float]]:
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def write_images(folder: Path) -> None:
    for name in OBJECTS:
        save(folder / name, np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))


def yolo(root: Path, polygons: bool = False) -> Path:
    for name, objects in OBJECTS.items():
        lines = []
        for label, box in objects:
            shares = np.array(corners(box)) / (WIDTH, HEIGHT)
            middle, side = (shares[0] + shares[2]) / 2, shares[2] - shares[0]
            values = shares.ravel() if polygons else np.concatenate([middle, side])
            lines.append(f"{NAMES.index(label)} {' '.join(f'{v:.9f}' for v in values)}\n")
        path = (root / "labels" / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
    path = root / "data.yaml"
    path.write_text("path: .\ntrain: images\nval: images/sub\nnames: {0: bolt, 1: nut}\n")
    return path


def labelme_shape(label: str, kind: str, points: Any, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def labelme_file(path: Path, name: str, *shapes: Any, **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    write_json(path, {"imagePath": name, "shapes": shapes, "imageData": None, **size, **more})


def labelme(root: Path, polygons: bool = False) -> Path:
    for name, objects in OBJECTS.items():
        shapes = [
            labelme_shape(label, "polygon", corners(box))
            if polygons
            else labelme_shape(label, "rectangle", [box[2:], box[:2]])  # drawn from below
            for label, box in objects
        ]
        path = (root / "json" / name).with_suffix(".json")
        labelme_file(path, f"..\\images\\{Path(name).name}", *shapes)
    return root / "json"


def cvat_box(label: str, box: tuple[float, ...], **more: Any) -> str:
    sides = zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True)
    words = [f'{key}="{value}"' for key, value in [*sides, *more.items()]]
    return f'<box label="{label}" {" ".join(words)}/>'


def cvat_file(path: Path, images: dict[str, str]) -> Path:
    text = "".join(
        f'<image id="{i}" name="{name}" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
        for i, (name, shapes) in enumerate(images.items())
    )
    path.write_text(f"<annotations><version>1.1</version>{text}</annotations>")
    return path


def cvat(root: Path, polygons: bool = False) -> Path:
    def shape(label: str, box: tuple[int, ...]) -> str:
        if not polygons:
            return cvat_box(label, box)
        pairs = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(box))
        return f'<polygon label="{label}" points="{pairs}"/>'

    shapes = {n: "".join(shape(*o) for o in objects) for n, objects in OBJECTS.items()}
    return cvat_file(root / "annotations.xml", shapes)


def open_images(root: Path) -> Path:
    with (root / "boxes.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        columns = ["ImageID", "Source", "LabelName", "Confidence"]
        table.writerow([*columns, "XMin", "XMax", "YMin", "YMax", "IsGroupOf"])
        for name, objects in OBJECTS.items():
            for label, (x0, y0, x1, y1) in objects:
                code = str(Path(name).with_suffix(""))
                xs, ys = (x0 / WIDTH, x1 / WIDTH), (y0 / HEIGHT, y1 / HEIGHT)
                table.writerow([code, "xclick", f"/m/{label}", 1, *xs, *ys, 0])
    (root / "codes.csv").write_text("/m/bolt,bolt\n/m/nut,nut\n")
    return root / "boxes.csv"


def via_region(label: Any, box: tuple[int, ...], polygon: bool = False) -> dict[str, Any]:
    (x0, y0), _, (x1, y1), _ = points = corners(box)
    shape: dict[str, Any] = {"name": "rect", "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
    if polygon:
        xs, ys = zip(*points, strict=True)
        shape = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
    return {"shape_attributes": shape, "region_attributes": {"kind": label}}


def via(root: Path, polygons: bool = False) -> Path:
    entries = {
        f"{name}123": {
            "filename": name,
            "size": 123,
            "regions": [via_region(*o, polygon=polygons) for o in objects],
            "file_attributes": {},
        }
        for name, objects in OBJECTS.items()
    }
    write_json(root / "via.json", {"_via_settings": {}, "_via_img_metadata": entries})
    return root / "via.json"


def via_csv(root: Path) -> Path:
    columns = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
    columns += ["region_shape_attributes", "region_attributes"]
    with (root / "via.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(columns)
        for name, objects in OBJECTS.items():
            regions = [via_region({label: True, "other": False}, box) for label, box in objects]
            for i, region in enumerate(regions):
                parts = [json.dumps(v) for v in region.values()]
                table.writerow([name, 123, "{}", len(regions), i, *parts])
            if not regions:
                table.writerow([name, 123, "{}", 0, 0, "{}", "{}"])
    return root / "via.csv"


def voc(root: Path) -> Path:
    for name, objects in OBJECTS.items():
        found = [(label, x0 + 1, y0 + 1, x1, y1) for label, (x0, y0, x1, y1) in objects]
        path = (root / "xml" / name).with_suffix(".xml")
        write_xml(path, *found, file_name=Path(name).name, size=(WIDTH, HEIGHT))
    return root / "xml"


def png(window: np.ndarray) -> str:
    """A mask as LabelMe stores it."""
    stream = io.BytesIO()
    Image.fromarray(window).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()


def turn(path: Path) -> None:
    """Makes an image one that is stored on its side, of the size that OBJECTS mean when it is upright."""
    save_turned(path, np.zeros((WIDTH, HEIGHT, 3), dtype=np.uint8), 6)


FORMS = {
    "yolo": yolo,
    "labelme": labelme,
    "cvat": cvat,
    "openimages": open_images,
    "via": via,
    "voc": voc,
}
"""The trees by the name that the converter has for their form."""
