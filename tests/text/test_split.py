"""Words are cut exactly where GPT-2's pattern cuts them."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.text.split import GPT2_PATTERN, split

# Letters younger than this Python's Unicode database are symbols to us, by documented choice.
known = st.characters(exclude_categories=("Cs", "Cn"))
tricky = st.sampled_from(list("  ''asdtrevmlAZ09²Ⅷ٣.-_\n\r\t\v\x1c\x1f\x85\xa0\u2003\u2028\u200b\u3000é漢🙂\u0301"))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(tricky, known)).map("".join))
def test_split_equals_gpt2s_pattern_run_by_the_regex_module(text):
    regex = pytest.importorskip("regex")
    assert split(text) == regex.findall(GPT2_PATTERN, text)


def test_split_equals_gpt2s_pattern_around_every_character_of_the_first_two_planes():
    regex = pytest.importorskip("regex")
    characters = [chr(code) for code in range(0x20000) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    text = "".join(f"a{character}1 {character}{character}\n{character} b" for character in characters)
    assert split(text) == regex.findall(GPT2_PATTERN, text)


@settings(deadline=None)
@given(st.text())
def test_words_joined_are_the_text(text):
    assert "".join(split(text)) == text


def test_every_contraction_is_a_word_of_its_own():
    assert split("I'm you're he's she'd it'll we've can't o'x") == [
        "I", "'m", " you", "'re", " he", "'s", " she", "'d", " it", "'ll", " we", "'ve", " can", "'t", " o", "'", "x",
    ]  # fmt: skip


def test_contractions_numbers_and_spaces_are_cut_as_in_gpt2():
    assert split("It's  12 o'clock,\n\n we'LL go.") == [
        "It", "'s", " ", " 12", " o", "'", "clock", ",", "\n\n", " we", "'", "LL", " go", ".",
    ]  # fmt: skip
