r"""Cutting text into words before byte pairs are merged: GPT-2's pattern, with the standard library alone.

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

A word keeps the space before it (" the"), so the pieces joined are the text again, character for character.
Python's `re` knows neither \p{L} nor \p{N}, so both are spelled out here from the Unicode database that Python
carries. Letters younger than that database count as symbols: the cut then differs, the round trip does not.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2 and its code.
"""

import re
from functools import cache
from itertools import groupby
from unicodedata import category

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# Unicode's White_Space. Python's own \s has four more, the separators U+001C to U+001F.
_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

# Planes 4 and above hold no letter and no number: tags, variation selectors and private use only.
_END_OF_LETTERS = 0x40000


def split(text: str) -> list[str]:
    """The words of `text` by GPT-2's pattern; joined they are `text`."""
    return _compiled().findall(text)


@cache
def _compiled() -> re.Pattern[str]:
    letter, number = _members("L"), _members("N")
    return re.compile(
        "'(?:[sdmt]|ll|ve|re)"
        f"| ?[{letter}]+"
        f"| ?[{number}]+"
        f"| ?[^{_SPACE}{letter}{number}]+"
        f"|[{_SPACE}]+(?![^{_SPACE}])"  # spaces, but the last is left to the word that follows
        f"|[{_SPACE}]+"
    )


def _members(major: str) -> str:
    """All characters of the Unicode category `major` ("L", "N"), as ranges for a character class."""
    ranges = []
    for inside, group in groupby(range(_END_OF_LETTERS), key=lambda code: category(chr(code))[0] == major):
        if inside:
            codes = list(group)
            ranges.append(f"{chr(codes[0])}-{chr(codes[-1])}")
    return "".join(ranges)
