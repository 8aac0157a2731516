"""Numbers and dates in words, as their languages have them."""

from datetime import date

import pytest

from glassformer.text.generated import dates, numbers
from glassformer.text.generated.number_words import LANGUAGES, spellings

KNOWN = {
    21: ("twenty-one", "einundzwanzig", "vingt et un", "veintiuno", "ventuno"),
    71: ("seventy-one", "einundsiebzig", "soixante et onze", "setenta y uno", "settantuno"),
    80: ("eighty", "achtzig", "quatre-vingts", "ochenta", "ottanta"),
    101: ("one hundred and one", "einhunderteins", "cent un", "ciento uno", "centouno"),
    123: ("one hundred and twenty-three", "einhundertdreiundzwanzig", "cent vingt-trois", "ciento veintitrés",
          "centoventitré"),
    580: ("five hundred and eighty", "fünfhundertachtzig", "cinq cent quatre-vingts", "quinientos ochenta",
          "cinquecentottanta"),
    2005: ("two thousand and five", "zweitausendfünf", "deux mille cinq", "dos mil cinco", "duemilacinque"),
    23_000: ("twenty-three thousand", "dreiundzwanzigtausend", "vingt-trois mille", "veintitrés mil", "ventitremila"),
    80_200: ("eighty thousand two hundred", "achtzigtausendzweihundert", "quatre-vingt mille deux cents",
             "ochenta mil doscientos", "ottantamiladuecento"),
    21_000_001: ("twenty-one million and one", "einundzwanzig Millionen eins", "vingt et un millions un",
                 "veintiún millones uno", "ventuno milioni uno"),
}  # fmt: skip


@pytest.mark.parametrize("number", KNOWN)
def test_known_numbers_are_spelt_as_usual(number):
    assert tuple(spellings(number, language)[0] for language in LANGUAGES) == KNOWN[number]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_numbers_are_spelt_alike(language):
    seen = {}
    for number in (*range(3000), *range(3000, 10**6, 997), *range(10**6, 10**9, 7_654_321)):
        for text in spellings(number, language):
            assert seen.setdefault(text, number) == number


@pytest.mark.parametrize(
    ("day", "language", "wording"),
    [
        (date(1984, 3, 3), "english", "the third of March, nineteen eighty-four"),
        (date(1907, 11, 21), "english", "November twenty-first, nineteen oh seven"),
        (date(2014, 2, 11), "english", "February the eleventh, twenty fourteen"),
        (date(1984, 3, 3), "german", "Samstag, der dritte März neunzehnhundertvierundachtzig"),
        (date(2000, 7, 31), "german", "am einunddreißigsten Juli zweitausend"),
        (date(1980, 1, 1), "french", "le premier janvier mille neuf cent quatre-vingt"),
        (date(1984, 3, 3), "spanish", "el tres de marzo de mil novecientos ochenta y cuatro"),
        (date(1900, 5, 8), "italian", "l'otto maggio millenovecento"),
    ],
)
def test_known_dates_are_worded_as_usual(day, language, wording):
    assert wording in dates.wordings(day, language)


def test_words_mean_one_thing_in_all_languages_together_and_no_value_is_in_both_parts():
    made = dates.make(0, train=3000, validation=200), numbers.make(0, train=3000, validation=200)
    meaning = {}
    for train, held in made:
        assert not {each["target"] for each in train} & {each["target"] for each in held}
        for each in (*train, *held):
            assert meaning.setdefault(each["source"], each["target"]) == each["target"]


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="1000000000 is not spelt out here"):
        spellings(10**9, "german")
