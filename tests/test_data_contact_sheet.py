"""The contact sheet: a row for each class, a panel for each size."""

import numpy as np
from PIL import Image

from core.data import contact_sheet
from core.data.synthetic import draw


def test_the_sheet_shows_the_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert contact_sheet.main(["--sizes", "64", "16", "--columns", "3", "sheet.png"]) == 0
    sheet = np.asarray(Image.open("sheet.png"))
    cell = contact_sheet.SIDE + contact_sheet.GAP
    assert sheet.shape[0] == 10 * cell
    large, small = draw("train", 0, 64), draw("train", 0, 16)
    row, column = 4, 2
    top, left = row * cell, contact_sheet.MARGIN + column * cell
    assert np.array_equal(sheet[top : top + 64, left : left + 64], large[row + 10 * column])
    left += 3 * cell + 2 * contact_sheet.GAP
    enlarged = small[row + 10 * column].repeat(4, 0).repeat(4, 1)
    assert np.array_equal(sheet[top : top + 64, left : left + 64], enlarged)


def test_a_wrong_folder_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert contact_sheet.main(["--name", "image_folder", "--root", "nowhere", "sheet.png"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: data.root=nowhere: there is no such folder; it should hold train/"
    )
