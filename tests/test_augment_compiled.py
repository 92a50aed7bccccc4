"""What is compiled for CPUs beside the tensor operations, and how it is compiled."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numba
import pytest
import torch
from numba.core.caching import Cache

from core import augment
from core.augment import Augmenter, compiled
from core.augment.geometry import Crop
from core.augment.threads import for_each
from core.config import AugmentConfig
from core.randomness import generator

ROOT = Path(__file__).resolve().parent.parent


def pictures(count: int, size: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    x_NCHW = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator(0, "pictures"))
    x_NCHW[0] = x_NCHW[0, :1]  # grey
    x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
    return x_NCHW if dtype == torch.uint8 else x_NCHW / 255


def by_tensors(monkeypatch: pytest.MonkeyPatch, run: Callable[[], torch.Tensor]) -> torch.Tensor:
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "handles", lambda x_NCHW: False)
        return run()


@pytest.mark.parametrize(
    ("transforms", "stored", "size"),
    [
        (("crop", "color", "blur"), 32, 32),
        (("crop", "color", "blur"), 20, 32),
        (("crop", "sobel"), 40, 33),
        (("sobel", "blur"), 32, 32),
        (("crop", "color", "blur"), 40, 33),
        (("crop", "color", "blur"), 224, 224),
        (("color", "blur", "crop"), 45, 45),
        (("blur", "color"), 40, 33),
    ],
)
def test_both_ways_differ_by_rounding(
    transforms: tuple[str, ...], stored: int, size: int, monkeypatch: pytest.MonkeyPatch
):
    count = 4 if size == 224 else 48
    augmenter = Augmenter(AugmentConfig(transforms=transforms), size)
    draws = augmenter.draw(count, 0, 0)
    views_NCHW = augmenter.two_views(pictures(count, stored), draws)
    other_NCHW = by_tensors(monkeypatch, lambda: augmenter.two_views(pictures(count, stored), draws))
    difference_NCHW = (views_NCHW - other_NCHW).abs()
    assert difference_NCHW.mean() < 1e-5
    assert difference_NCHW.max() < 1e-3  # where chroma is next to nothing, hue is not much more than rounding
    assert views_NCHW.std() > 0.1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("contiguous", [True, False])
def test_crops_down_to_a_pixel(dtype: torch.dtype, contiguous: bool, monkeypatch: pytest.MonkeyPatch):
    crop = Crop(AugmentConfig(crop_area=(0.001, 0.03)), 17)
    parameters = crop.draw(64, generator(0, "crop"))
    boxes = crop.boxes(parameters, 17, 17)
    assert boxes[:, 2:].min() == 1
    x_NCHW = pictures(64, 17, dtype)
    x_NCHW = x_NCHW.contiguous() if contiguous else x_NCHW
    other_NCHW = by_tensors(monkeypatch, lambda: crop.apply(x_NCHW, parameters))
    assert (crop.apply(x_NCHW, parameters) - other_NCHW).abs().max() < 1e-5


def test_the_number_of_threads_changes_nothing(monkeypatch):
    monkeypatch.setattr(augment, "LEAST_VALUES", 1)
    augmenter = Augmenter(AugmentConfig(transforms=tuple(augment.TRANSFORMS)), 48)
    draws = augmenter.draw(67, 0, 0)
    threads = torch.get_num_threads()
    views = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            views.append(augmenter.two_views(pictures(67, 48), draws))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(views[0], views[1])
    assert torch.equal(views[0], views[2])


def test_parts_are_worked_on_side_by_side_and_errors_come_back():
    both = threading.Barrier(2)
    names = set()

    def meet(start: int, stop: int) -> None:
        both.wait(10)
        assert torch.get_num_threads() == 1
        names.add(threading.current_thread().name)

    for_each(meet, [(0, 1), (1, 2)], 2)
    assert len(names) == 2
    with pytest.raises(ZeroDivisionError):
        for_each(lambda start, stop: 1 // start, [(0, 1), (1, 2)], 2)


def test_no_pictures():
    empty = torch.empty(0, 3, 16, 16)
    augmenter = Augmenter(AugmentConfig(), 16)
    assert augmenter.two_views(empty.byte(), augmenter.draw(0, 0, 0)).shape == empty.shape
    for name, parameters in augmenter.draw(0, 0, 0).parameters.items():
        transform = augmenter._stages[name.partition("/")[0]][name]
        assert transform.apply(empty.clone(), parameters).shape == empty.shape


@pytest.mark.parametrize("box", [(0, 0, 17, 4), (0, 0, 0, 4), (5, 0, 4, 4), (-1, 0, 4, 4), (0, 0, 8, 7)])
def test_what_does_not_fit_is_refused(box: tuple[int, ...]):
    x_NCHW = torch.rand(1, 3, 8, 16)
    with pytest.raises(ValueError, match="do not fit"):
        compiled.enlarge(x_NCHW, torch.tensor([box]), torch.tensor([False]), 6)
    with pytest.raises(ValueError, match="cannot be reflected"):
        compiled.blur(x_NCHW, torch.tensor([0]), torch.ones(1, 17))
    with pytest.raises(ValueError, match="colours need 3"):
        compiled.color(torch.rand(1, 1, 8, 8), *torch.zeros(4, 1, 4))
    with pytest.raises(ValueError, match="pictures"):
        compiled.to_channels_last(x_NCHW, torch.empty(1, 3, 8, 8))


@pytest.mark.parametrize("method", ["load_overload", "save_overload"])
def test_a_cache_that_fails_is_done_without(method: str, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments):
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(Cache, method, fail)
    monkeypatch.setattr(Cache, "load_overload", fail if method == "load_overload" else lambda *arguments: None)
    double = compiled.Kernel(_double)
    x_N = torch.ones(3)
    double(3, x_N)
    assert x_N.tolist() == [2, 2, 2]


def test_without_compiling(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    x_N = torch.ones(3)
    compiled.Kernel(_double)(3, x_N)
    assert x_N.tolist() == [2, 2, 2]


def _double(start, stop, x_N):
    for n in range(start, stop):
        x_N[n] *= 2


def test_processes_that_start_together_compile_once(tmp_path: Path):
    """They find each other's code in the cache, whatever they need first."""
    call = (
        "import torch, sys; from core.augment import compiled\n"
        "x = torch.rand(2, 3, 8, 8); y = x.clone(); compiled.blur(x, torch.arange(2), torch.ones(2, 3) / 3)\n"
        "assert 0.3 < x.mean() < 0.7 and not torch.equal(x, y)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    processes = [subprocess.Popen([sys.executable, "-c", call], env=environment) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.rglob("*.nbc"))) == 1
