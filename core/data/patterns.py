"""What distinguishes the classes of the synthetic data set: a texture and an outline for each.

Plain functions of coordinates (N, H, W), float32 in and out, made of operations that every machine rounds alike.
Textures are 1 where the bright ink is and 0 on the dark ground, and repeat with period 1. Outlines are positive
inside, for an object of radius about 1; y points down.
"""

from collections.abc import Callable

import numpy as np

Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]

EDGE = 0.1
"""Width over which a texture goes from ground to ink, in periods."""

_TURN = 4096
_SINE = (np.round(np.sin(np.arange(_TURN) * (2 * np.pi / _TURN)) * 2**14) / 2**14).astype(np.float32)


def sine(turns: np.ndarray) -> np.ndarray:
    """Sine of an angle in turns, from a rounded table: libraries' sines differ in the last bit."""
    return _SINE[np.floor(turns * _TURN).astype(np.int64) & (_TURN - 1)]


def ramp(distance: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """0 to 1 as the distance goes from -width/2 to width/2."""
    return np.clip(distance / width + 0.5, 0, 1)


def stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ramp(0.25 - np.abs(centred(v)), EDGE)


def bars(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return stripes(v, u)


def diagonals(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return stripes(u, (u + v) * 0.7071)


def dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ramp(0.3 - radius(centred(u), centred(v)), EDGE)


def holes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ramp(radius(centred(u), centred(v)) - 0.36, EDGE)


def net(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ramp(np.maximum(np.abs(centred(u)), np.abs(centred(v))) - 0.36, EDGE)


def lattice(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    rising, falling = centred((u - v) * 0.7071), centred((u + v) * 0.7071)
    return ramp(0.2 - 1.3 * np.minimum(np.abs(rising), np.abs(falling)), EDGE)


def steps(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 1 - (v - np.floor(v))


def checks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ramp(4 * centred(u) * centred(v), 2 * EDGE)


def clouds(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 0.5 + 0.25 * (sine(u) + sine(v))


def oval(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1 - np.sqrt(0.55 * x * x + 1.8 * y * y)


def egg(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return oval(y, x)


def diamond(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1.1 - 0.85 * (np.abs(x) + np.abs(y))


def disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1 - radius(x, y)


def square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1 - 1.1 * np.maximum(np.abs(x), np.abs(y))


def ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    away = radius(x, y)
    return np.minimum(1 - away, away - 0.2)


def cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(1 - radius(x, y), 0.45 - np.minimum(np.abs(x), np.abs(y)))


def tent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(0.75 - y, 0.6 * (1.1 + y - 1.6 * np.abs(x)))


def cone(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return tent(x, -y)


def star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    arms = np.sqrt(np.abs(x)) + np.sqrt(np.abs(y))
    return 1.15 - 0.62 * arms * arms


CLASSES: dict[str, tuple[Pattern, Pattern]] = {
    "striped oval": (stripes, oval),
    "barred egg": (bars, egg),
    "diagonal diamond": (diagonals, diamond),
    "dotted disc": (dots, disc),
    "holed square": (holes, square),
    "netted ring": (net, ring),
    "latticed cross": (lattice, cross),
    "stepped tent": (steps, tent),
    "checked cone": (checks, cone),
    "cloudy star": (clouds, star),
}
"""Name: (texture, outline)."""


def centred(u: np.ndarray) -> np.ndarray:
    """The place within its period, -0.5 to 0.5."""
    return u - np.floor(u) - 0.5


def radius(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The distance from the middle."""
    return np.sqrt(x * x + y * y)
