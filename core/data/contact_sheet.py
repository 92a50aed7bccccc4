"""Many pictures as one: `python -m core.data.contact_sheet [--name NAME] [--root DIR] [--sizes 64 16] OUT`.

Shows what an encoder is given, class by class, at each stored size. docs/images/synthetic.png is made by

    python -m core.data.contact_sheet --sizes 64 16 --columns 8 docs/images/synthetic.png
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, get_args

from PIL import Image, ImageDraw

from core import data
from core.config import DataConfig, DatasetName, as_dict, parse
from core.errors import UserError

SIDE = 64
"""Pixels of a picture on the sheet."""

GAP = 4
MARGIN = 120
"""Pixels for the class names."""


def contact_sheet(config: DataConfig, sizes: Sequence[int], columns: int) -> Image.Image:
    """The first `columns` training pictures of each class in a row, once for each of `sizes`.

    Raises: UserError as `core.data.prepare`.
    """
    classes = data.inspect(config).classes
    cell, panel = SIDE + GAP, columns * (SIDE + GAP) + 2 * GAP
    sheet = Image.new("RGB", (MARGIN + panel * len(sizes), cell * len(classes)), "white")
    text = ImageDraw.Draw(sheet)
    for row, name in enumerate(classes):
        text.text((GAP, row * cell + SIDE // 2), data.shown(name), fill="black", anchor="lm")
    for number, size in enumerate(sizes):
        pictures = data.load(_changed(config, stored_size=size), "train")
        for row in range(len(classes)):
            indices_N = (pictures.labels_N == row).nonzero().flatten()[:columns]
            for column, picture_HWC in enumerate(pictures.batch(indices_N).permute(0, 2, 3, 1).numpy()):
                picture = Image.fromarray(picture_HWC).resize((SIDE, SIDE), Image.Resampling.NEAREST)
                sheet.paste(picture, (MARGIN + panel * number + cell * column, cell * row))
    return sheet


def _changed(config: DataConfig, **settings: Any) -> DataConfig:
    return parse(DataConfig, {**as_dict(config), **settings}, "data.")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m core.data.contact_sheet", description="Many pictures as one.")
    parser.add_argument("out", help="picture file to write")
    parser.add_argument("--name", default="synthetic", choices=get_args(DatasetName), help="data set")
    parser.add_argument("--root", default="", help="folder that holds the pictures")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64], help="sides of the stored pictures")
    parser.add_argument("--columns", type=int, default=12, help="pictures of each class")
    options = parser.parse_args(arguments)
    # A balanced subset gives every class its row without decoding the whole set.
    config = parse(DataConfig, {"name": options.name, "root": options.root}, "data.")
    try:
        info = data.inspect(config)
        wanted = min(options.columns * len(info.classes), info.train_count)
        config = _changed(config, train_size=wanted, test_size=min(len(info.classes), info.test_count))
        contact_sheet(config, options.sizes, options.columns).save(options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
