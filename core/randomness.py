"""Stateless randomness: whatever is random in a step is a function of (run seed, stream, step).

No generator lives from one step to the next, so a resumed run draws what an undisturbed run draws,
and every process of a distributed run draws the same values for the global batch and takes its slice.
"""

import hashlib

import torch


def generator(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """A CPU generator for one purpose (`stream`, such as "shuffle") at one step of one run."""
    key = hashlib.blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)
