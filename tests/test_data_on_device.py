"""Batches for the device that trains; what needs a GPU is not run here."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.data import on_device
from core.data.on_device import batches_on, one_ahead, resident
from core.data.pictures import CachedPictures


def pictures(count: int = 20) -> CachedPictures:
    pixels_NHWC = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return CachedPictures(pixels_NHWC, np.zeros(count, np.int64), ["one"])


@given(st.lists(st.integers(), max_size=8))
def test_each_item_is_taken_before_the_one_before_it_is_handed_out(items: list[int]):
    taken = []

    def source() -> Iterator[int]:
        for item in items:
            taken.append(item)
            yield item

    for number, item in enumerate(one_ahead(source())):
        assert item == items[number]
        assert len(taken) == min(number + 2, len(items))
    assert taken == items


def test_a_resident_set_gives_the_same_batches():
    own = pictures()
    order = torch.randperm(len(own), generator=torch.Generator().manual_seed(0)).split(8)
    expected = list(batches_on("cpu", own, order))
    found = list(resident("cpu", own, order))
    assert [len(batch) for batch in found] == [8, 8, 4]
    for batch, same in zip(found, expected, strict=True):
        assert torch.equal(batch, same)
        assert batch.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("spare", "expected"), [(0, "kept"), (-5, "sent")])
def test_a_set_is_kept_on_the_gpu_where_it_takes_a_fifth_of_the_free_memory(monkeypatch, spare: int, expected: str):
    own = pictures()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (5 * own.nbytes + spare, 10**12))
    monkeypatch.setattr(on_device, "resident", lambda _device, _pictures, order: ("kept" for _ in order))
    monkeypatch.setattr(on_device, "_sender", lambda _device: lambda _batch: "sent")
    monkeypatch.setattr(on_device, "_arrived", lambda sent: sent)
    assert list(batches_on("cuda", own, torch.arange(20).split(8))) == [expected] * 3
