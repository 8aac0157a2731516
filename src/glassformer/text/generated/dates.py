"""Dates in words to ISO 8601, in five languages: "the third of March, nineteen eighty-four" -> "1984-03-03".

Years go from 1500 to 2099, in the Gregorian calendar throughout; a weekday that is named is the right one.
"""

import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta

from glassformer.text.generated.number_words import french_words, spellings
from glassformer.text.generated.split import Example, in_two

FIRST, LAST = date(1500, 1, 1), date(2099, 12, 31)
MONTHS = {
    "english": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
        "November", "December",
    ),
    "german": (
        "Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober",
        "November", "Dezember",
    ),
    "french": (
        "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre",
        "novembre", "décembre",
    ),
    "spanish": (
        "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre",
        "noviembre", "diciembre",
    ),
    "italian": (
        "gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno", "luglio", "agosto", "settembre",
        "ottobre", "novembre", "dicembre",
    ),
}  # fmt: skip
WEEKDAYS = {
    "english": (
        "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
    ),
    "german": (
        "Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag",
    ),
    "french": (
        "lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche",
    ),
    "spanish": (
        "lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo",
    ),
    "italian": (
        "lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica",
    ),
}  # fmt: skip
ENGLISH_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
)  # fmt: skip
GERMAN_ORDINALS = {1: "erst", 3: "dritt", 7: "siebt", 8: "acht"}


def make(seed: int, *, train: int = 20_000, validation: int = 1000) -> tuple[list[Example], list[Example]]:
    """Training and validation examples, source and target; no day is in both."""
    return in_two(random_dates(seed), train=train, validation=validation, key=lambda each: each["target"])


def random_dates(seed: int) -> Iterator[list[Example]]:
    """Dates, endlessly."""
    chance = random.Random(seed)
    while True:
        day = FIRST + timedelta(chance.randrange((LAST - FIRST).days + 1))
        forms = wordings(day, chance.choice(list(WORDINGS)))
        yield [{"source": chance.choice(forms), "target": day.isoformat()}]


def wordings(day: date, language: str) -> list[str]:
    """All wordings of a day that are known here, without repetition."""
    names = MONTHS[language][day.month - 1], WEEKDAYS[language][day.weekday()]
    return list(dict.fromkeys(WORDINGS[language](day, *names)))


def english(day: date, month: str, weekday: str) -> list[str]:
    """ "the third of March, nineteen eighty-four", "March third, ..."."""
    ordinal = english_ordinal(day.day)
    forms = [f"the {ordinal} of {month}", f"{month} {ordinal}", f"{month} the {ordinal}"]
    forms += [f"{weekday}, {form}" for form in forms]
    return [f"{form}{comma} {year}" for form in forms for year in english_years(day.year) for comma in (",", "")]


def english_ordinal(number: int) -> str:
    """ "first" to "thirty-first"."""
    if number < 20:
        return ENGLISH_ORDINALS[number - 1]
    tens, ones = divmod(number, 10)
    head = ("twent", "thirt")[tens - 2]
    return f"{head}y-{ENGLISH_ORDINALS[ones - 1]}" if ones else f"{head}ieth"


def english_years(year: int) -> list[str]:
    """In two halves; "oh five" or "hundred and five" for small second halves; "two thousand five" from 2000."""
    century, rest = divmod(year, 100)
    head, whole = spellings(century, "english")[0], spellings(year, "english")[:2]
    if century % 10 == 0:  # 2000 to 2099: "twenty oh five" is rare
        return whole + ([f"{head} {spellings(rest, 'english')[0]}"] if rest > 9 else [])
    if not rest:
        return [f"{head} hundred"]
    ones = spellings(rest, "english")[0]
    return [f"{head} {ones}"] if rest > 9 else [f"{head} oh {ones}", f"{head} hundred and {ones}"]


def german(day: date, month: str, weekday: str) -> list[str]:
    """ "der dritte März neunzehnhundertvierundachtzig", "am dritten März ..."."""
    stem = GERMAN_ORDINALS.get(day.day) or spellings(day.day, "german")[0] + ("t" if day.day < 20 else "st")
    forms = [f"der {stem}e {month}", f"{stem}er {month}", f"am {stem}en {month}", f"den {stem}en {month}"]
    forms += [f"{weekday}, der {stem}e {month}", f"am {weekday}, dem {stem}en {month}"]
    return [f"{form} {german_year(day.year)}" for form in forms]


def german_year(year: int) -> str:
    """In hundreds up to 1999: "neunzehnhundertvierundachtzig"; "zweitausendfünf" from 2000."""
    if year >= 2000:
        return spellings(year, "german")[0]
    century, rest = divmod(year, 100)
    return f"{spellings(century, 'german')[0]}hundert" + (spellings(rest, "german")[0] if rest else "")


def french(day: date, month: str, weekday: str) -> list[str]:
    """ "le trois mars mille neuf cent quatre-vingt-quatre", "dix-neuf cent ..."; "premier" on the first."""
    number = "premier" if day.day == 1 else spellings(day.day, "french")[0]
    years = [french_words(day.year, invariable=True)]
    if day.year < 2000:
        century, rest = divmod(day.year, 100)
        years.append(f"{french_words(century)} cent" + (f" {french_words(rest, invariable=True)}" if rest else ""))
    forms = [f"{the}{named}{number} {month}" for named in ("", f"{weekday} ") for the in ("le ", "")]
    return [f"{form} {year}" for form in forms for year in years]


def spanish(day: date, month: str, weekday: str) -> list[str]:
    """ "el tres de marzo de mil novecientos ochenta y cuatro"; "uno" or "primero" on the first."""
    year, number = spellings(day.year, "spanish")[0], spellings(day.day, "spanish")[0]
    forms = []
    for name in (number, "primero") if day.day == 1 else (number,):
        forms += [f"el {name} de {month}", f"{name} de {month}", f"{weekday}, {name} de {month}"]
        forms += [f"el {weekday} {name} de {month}"]
    return [f"{form} {of} {year}" for form in forms for of in (("de", "del") if day.year >= 2000 else ("de",))]


def italian(day: date, month: str, weekday: str) -> list[str]:
    """ "il tre marzo millenovecentottantaquattro", "l'otto marzo"; "primo" on the first."""
    number = "primo" if day.day == 1 else spellings(day.day, "italian")[0]
    article = "l'" if number[0] in "aeiou" else "il "
    forms = [f"{article}{number} {month}", f"{number} {month}", f"{weekday} {number} {month}"]
    forms += [f"{forms[0]} del" if day.year >= 2000 else f"{forms[0]} dell'anno"]
    return [f"{form} {spellings(day.year, 'italian')[0]}" for form in forms]


WORDINGS: dict[str, Callable[[date, str, str], list[str]]] = {
    "english": english,
    "german": german,
    "french": french,
    "spanish": spanish,
    "italian": italian,
}
