"""Textures and outlines of the stand-ins for transfer sets; none of them is in the synthetic training set.

The conventions are those of core/data/patterns.py: textures are 1 on the ink and repeat with period 1, outlines are
positive inside an object of radius about 1; y points down.
"""

import numpy as np

from core.data.patterns import EDGE, Pattern, centred, radius, ramp, sine


def waves(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ramp(0.25 - np.abs(centred(v + 0.25 * sine(u))), EDGE)


def zigzag(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ramp(0.25 - np.abs(centred(v + np.abs(centred(u)))), EDGE)


def bricks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    shifted = u + 0.5 * (np.floor(2 * v) % 2)
    return ramp(np.minimum(0.42 - np.abs(centred(shifted)), 0.4 - np.abs(centred(2 * v))), EDGE)


def triangles(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ramp(0.5 + centred(v) - 2 * np.abs(centred(u)), EDGE)


def plusses(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    across, down = np.abs(centred(u)), np.abs(centred(v))
    return ramp(np.minimum(0.12 - np.minimum(across, down), 0.36 - np.maximum(across, down)), EDGE)


def circles(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ramp(0.09 - np.abs(radius(centred(u), centred(v)) - 0.3), EDGE)


def scales(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    shifted = u + 0.5 * (np.floor(v) % 2)
    return ramp(0.12 - np.abs(radius(centred(shifted), v - np.floor(v)) - 0.55), EDGE)


def weave(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    over = (np.floor(2 * u) + np.floor(2 * v)) % 2
    return np.where(over > 0, 1 - 2 * np.abs(centred(2 * u)), 1 - 2 * np.abs(centred(2 * v)))


def fall(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(centred(u)) * 2


def rays(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ramp(centred(u) * centred(u) - centred(v) * centred(v), EDGE)


def triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(0.55 - x, 0.6 * (0.8 + x) - np.abs(y)) + 0.1


def hexagon(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.9 - np.maximum(np.abs(y), 0.5 * np.abs(y) + 0.866 * np.abs(x))


def heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.8 - radius(x, y + 0.2 + 0.6 * np.sqrt(np.abs(x)) - 0.4)


def crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(1 - radius(x, y), radius(x - 0.45, y) - 0.65)


def arrow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    point = np.minimum(0.9 - np.abs(y) - x, x + 0.1)
    return np.maximum(point, np.minimum(0.22 - np.abs(y), 0.5 - np.abs(x + 0.45)))


def pill(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.4 - radius(np.maximum(np.abs(x) - 0.55, 0), y)


def frame(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    far = np.maximum(np.abs(x), np.abs(y))
    return np.minimum(0.85 - far, far - 0.4)


def corner(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(0.8 - np.maximum(np.abs(x), np.abs(y)), np.maximum(y - 0.1, -x - 0.1))


def butterfly(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(0.85 - np.abs(x), 0.2 + 0.7 * np.abs(x) - np.abs(y))


def flower(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    away = np.maximum(radius(x, y), 1e-3)
    # cos(4 angle), of which the squares are the double angles.
    return 0.75 + 0.2 * (8 * (x * y / (away * away)) ** 2 - 1) - away


TEXTURES: dict[str, Pattern] = {
    pattern.__name__: pattern
    for pattern in (waves, zigzag, bricks, triangles, plusses, circles, scales, weave, fall, rays)
}
OUTLINES: dict[str, Pattern] = {
    pattern.__name__: pattern
    for pattern in (triangle, hexagon, heart, crescent, arrow, pill, frame, corner, butterfly, flower)
}
