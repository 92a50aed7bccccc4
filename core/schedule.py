"""The learning rate as a function of pictures seen by all processes: linear warm-up, then cosine decay.

Counted in pictures, not steps, so that neither the batch size nor the number of processes shifts it.
"""

import math


def learning_rate(samples_seen: int, total_samples: int, warmup_samples: int, peak: float) -> float:
    """The learning rate after `samples_seen` of `total_samples` pictures (Sec. 2.2).

    Rises linearly from 0 to `peak` over the first `warmup_samples`, then falls along half a cosine, without
    restarts, to 0 at `total_samples`, where it stays.
    """
    if samples_seen < warmup_samples:
        return peak * samples_seen / warmup_samples
    if samples_seen >= total_samples:
        return 0.0
    decayed = (samples_seen - warmup_samples) / (total_samples - warmup_samples)
    return peak * 0.5 * (1 + math.cos(math.pi * decayed))
