"""The image files of a dataset, looked at before any work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wsis.data.image_names import FolderIndex
from wsis.data.images import UnreadableImageError, check_pixels, read_header
from wsis.data.source import CocoSource, Image
from wsis.errors import DataError, counted

BAD_IMAGE_CURE = "mend them, or set DATASETS.BAD_IMAGE skip to train without them"


def check_image_files(
    source: CocoSource,
    tolerate_unreadable: bool = False,
    *,
    pixels: str = "none",
    cure: str = "mend them, or take them out of the file",
) -> dict[int | str, str]:
    """Compares the size of every image file with the JSON.

    Args:
        source: whose images to check.
        tolerate_unreadable: leave missing and broken files, unless all are, to whoever reads them.
        pixels: "none" reads headers only, "end" also looks whether a file was cut short, "all" decodes every file.
        cure: what to do about images that cannot be read and are not tolerated.

    Returns:
        Why images that are tolerated cannot be read, by id.

    Raises:
        DataError: an image whose size is neither the JSON's nor, rotated by EXIF, the JSON's; one that cannot be
            opened (unless tolerated); or all that cannot.
    """

    def check(image: Image) -> DataError | None:
        place = source.path_of(image), image["height"], image["width"]
        try:
            if pixels == "none":
                read_header(*place)
            else:
                check_pixels(*place, all_files=pixels == "all")
        except DataError as error:
            return type(error)(f"{source.json_file}: image {image['id']!r}: {error}")
        return None

    unreadable: dict[int | str, UnreadableImageError] = {}
    wrong: list[DataError] = []
    with ThreadPoolExecutor(max_workers=8) as pool:
        for image, error in zip(source.images, pool.map(check, source.images), strict=True):
            if isinstance(error, UnreadableImageError):
                unreadable[image["id"]] = error
            elif error is not None:
                wrong.append(error)
    if wrong:
        raise DataError(f"{wrong[0]}{more_images(len(wrong))}")
    reasons = {key: str(error) for key, error in unreadable.items()}
    if reasons and len(reasons) == len(source.images):
        raise DataError(none_readable(source.json_file, source.image_root, list(reasons.values())))
    if reasons and not tolerate_unreadable:
        first = next(iter(unreadable.values()))
        raise type(first)(f"{first}{more_images(len(reasons))}; {cure}")
    return reasons


def none_readable(name: str, image_root: str, reasons: list[str]) -> str:
    """What to say of a dataset without one image that can be read: all reasons, of which the first is told."""
    number, there = len(reasons), FolderIndex(Path(image_root)).names if image_root else []
    what = "its only image cannot" if number == 1 else f"none of its {number} images can"
    has = f"{image_root} has {counted(len(there), 'image')}"
    has += f", such as {there[0]!r}" if there else ""
    return (
        f"{name}: {what} be read, the first: {reasons[0].removeprefix(f'{name}: ')}"
        f"{f'; {has}' if image_root else ''}; name the folder that the file names are relative to"
    )


def more_images(number: int) -> str:
    """How many there are beside the first, in brackets."""
    return f" (and {counted(number - 1, 'more image', 'more images')})" if number > 1 else ""
