"""Parts of a batch side by side in threads, each with everything that happens to its pictures.

torch would divide each operation among threads of its own, which then wait for the next one by spinning. Between them
and compiled code's threads, which wait asleep, the cores would go to those that wait.
"""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def for_each(function: Callable[[int, int], None], parts: Iterable[tuple[int, int]], threads: int) -> None:
    """`function(start, stop)` for every part. In one thread it is the caller's, in several they are others."""
    if threads == 1:
        for part in parts:
            function(*part)
        return
    for _ in _pool(os.getpid(), threads).map(lambda part: function(*part), parts):
        pass


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads that are kept, as starting them takes longer than they work; torch divides nothing in them.

    process: whose they are; a fork takes none of them along.
    """
    pool = ThreadPoolExecutor(threads, "augment")
    number = torch.get_num_threads()
    all_there = threading.Barrier(threads)

    def begin(_number: int) -> None:
        torch.get_num_threads()  # a thread's first question, or operation, sets its number to the process's
        torch.set_num_threads(1)
        all_there.wait()

    list(pool.map(begin, range(threads)))
    torch.set_num_threads(number)  # for threads that are started from now on, each takes the number set last
    return pool
