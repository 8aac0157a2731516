"""What generated pictures are painted on: muted tones, plain or with a pattern, paler or darker than every shape."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int

from glassformer.foundation.counting import draws

PATTERNS = ("plain", "shaded", "striped", "checkered", "grainy")
TONES = ("dark", "grey", "pale")
NUM_DRAWS = 11
_LIGHT = np.array([[0.05, 0.20], [0.32, 0.48], [0.62, 0.76]])  # from and to, for each tone
_TURN = np.float32(2 * np.pi)


class Backgrounds:
    """Backgrounds of one size; `paint` draws them for a batch, from `NUM_DRAWS` numbers in [0, 1) for each."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.grain = (draws(seed, range(2 * size), 2 * size) - 0.5).astype(np.float32)  # each picture sees a window
        place = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
        self.x, self.y = place[None, :], place[:, None]

    def paint(self, chance: Float64[np.ndarray, "b k"]) -> Float32[np.ndarray, "b 3 y x"]:
        """Colours from 0 to 1."""
        tone, pattern = _kinds(chance)
        low, high = _LIGHT[tone].T
        light = low + (high - low) * chance[:, 2]
        first = (light[:, None] + 0.10 * (chance[:, 3:6] - 0.5)).astype(np.float32)
        contrast = np.where(chance[:, 6] < 0.5, -1, 1) * (0.06 + 0.08 * chance[:, 7])
        contrast[pattern == 0] = 0
        canvas = np.empty((len(chance), 3, self.size, self.size), np.float32)
        shift = self._shares(pattern, chance[:, 8:]) * contrast.astype(np.float32)[:, None, None]
        np.add(first[:, :, None, None], shift[:, None], out=canvas)
        return np.clip(canvas, 0, 1, out=canvas)

    def _shares(
        self, pattern: Int[np.ndarray, "b"], chance: Float64[np.ndarray, "b 3"]
    ) -> Float32[np.ndarray, "b y x"]:
        """Between −1 and 1: how much of the contrast each pixel has."""
        angle, phase, period = chance.astype(np.float32).T[:, :, None, None]
        cos, sin = np.cos(_TURN * angle), np.sin(_TURN * angle)
        u, v = cos * self.x + sin * self.y, cos * self.y - sin * self.x
        turns = _TURN / (np.float32(0.12) + np.float32(0.2) * period)
        share = np.zeros_like(u)
        for kind in np.unique(pattern):
            k = np.flatnonzero(pattern == kind)
            if PATTERNS[kind] == "shaded":
                share[k] = u[k] * np.float32(1.4)
            elif PATTERNS[kind] == "striped":
                share[k] = np.clip(4 * np.sin(turns[k] * u[k] + _TURN * phase[k]), -1, 1)
            elif PATTERNS[kind] == "checkered":
                share[k] = np.clip(8 * np.sin(turns[k] * u[k] + _TURN * phase[k]) * np.sin(turns[k] * v[k]), -1, 1)
            elif PATTERNS[kind] == "grainy":
                at = (chance[k, :2] * self.size).astype(np.int64)
                share[k] = [self.grain[i : i + self.size, j : j + self.size] for i, j in at.tolist()]
        return share


def named(chance: Float64[np.ndarray, "b k"]) -> list[str]:
    """What a caption calls each of them: "pale striped", "dark"."""
    tone, pattern = _kinds(chance)
    pairs: Sequence[tuple[int, int]] = list(zip(tone.tolist(), pattern.tolist(), strict=True))
    return [TONES[t] if p == 0 else f"{TONES[t]} {PATTERNS[p]}" for t, p in pairs]


def _kinds(chance: Float64[np.ndarray, "b k"]) -> tuple[Int[np.ndarray, "b"], Int[np.ndarray, "b"]]:
    return tuple((chance[:, i] * len(kinds)).astype(np.int64) for i, kinds in enumerate((TONES, PATTERNS)))  # type: ignore[return-value]
