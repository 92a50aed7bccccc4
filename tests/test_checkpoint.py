from pathlib import Path

import pytest
import torch

from core import checkpoint


def test_the_newest_checkpoint_is_loaded_and_one_before_it_kept(tmp_path: Path):
    path = tmp_path / "checkpoint.pt"
    for step in (1, 2, 3):
        checkpoint.save(path, {"step": step, "weights": torch.full((4,), float(step))})
    assert checkpoint.load(path)["step"] == 3
    path.unlink()
    assert checkpoint.load(path)["step"] == 2


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_checkpoint_is_skipped(tmp_path: Path, damage: str, capsys):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"step": 1, "weights": torch.randn(1000)})
    checkpoint.save(path, {"step": 2, "weights": torch.randn(1000)})
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        content = content[: len(content) // 2]
    elif damage == "empty":
        content = bytearray()
    else:
        content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert checkpoint.load(path)["step"] == 1
    assert "damaged checkpoint" in capsys.readouterr().err
    assert path.with_name("checkpoint.damaged.pt").read_bytes() == content
    checkpoint.save(path, {"step": 3})
    path.write_bytes(b"killed before it was whole")
    assert checkpoint.load(path)["step"] == 1, "the good one was kept"


def test_without_any_good_checkpoint_there_is_none(tmp_path: Path):
    path = tmp_path / "checkpoint.pt"
    assert checkpoint.load(path) is None
    path.write_bytes(b"rubbish")
    assert checkpoint.load(path) is None


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "pwned",))

    torch.save({"step": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        checkpoint.load(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "pwned").exists()
