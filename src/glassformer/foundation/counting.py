"""Random numbers by counting: what is drawn for example k depends on the seed and k alone, whatever else is drawn.

Each number is a hash of (seed, k, j): the mixer of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom
number generators", figure 16) on a counter, as generators by counting are made (Salmon et al. 2011).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, UInt64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def draws(seed: int, numbers: Sequence[int], count: int) -> Float64[np.ndarray, "b count"]:
    """`count` numbers in [0, 1) for each of the examples `numbers`, evenly distributed and unlike each other's.

    ValueError for a seed or a number that is negative, or has more than 63 bits.
    """
    counters = _counters(numbers)
    (start,) = _mix(_counters([seed]) + _GOLDEN)
    with np.errstate(over="ignore"):
        streams = _mix(start + _GOLDEN * (counters + np.uint64(1)))
        bits = _mix(streams[:, None] + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _counters(numbers: Sequence[int]) -> UInt64[np.ndarray, "b"]:
    if len(numbers) and not (min(numbers) >= 0 and max(numbers) < 2**63):
        wrong = next(number for number in numbers if not 0 <= number < 2**63)
        raise ValueError(f"seeds and numbers of examples are 0 or more, below 2⁶³; this one is {wrong}")
    return np.asarray(numbers, dtype=np.int64).astype(np.uint64)


def _mix(bits: UInt64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    with np.errstate(over="ignore"):
        bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
        bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))
