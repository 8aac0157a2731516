"""Numbers in words in five languages, by the rules of each, from 0 to 999,999,999.

`spellings(21, "french")` are all the spellings known here, the most usual first.
"""

from collections.abc import Callable

LARGEST = 999_999_999

ENGLISH = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
ENGLISH_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
GERMAN = (
    "null", "ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf",
    "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn",
)  # fmt: skip
GERMAN_TENS = ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]
FRENCH = (
    "zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze", "douze",
    "treize", "quatorze", "quinze", "seize", "dix-sept", "dix-huit", "dix-neuf",
)  # fmt: skip
FRENCH_TENS = ["vingt", "trente", "quarante", "cinquante", "soixante"]
SPANISH = (
    "cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez", "once", "doce",
    "trece", "catorce", "quince", "dieciséis", "diecisiete", "dieciocho", "diecinueve", "veinte", "veintiuno",
    "veintidós", "veintitrés", "veinticuatro", "veinticinco", "veintiséis", "veintisiete", "veintiocho",
    "veintinueve",
)  # fmt: skip
SPANISH_TENS = ["treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta", "noventa"]
SPANISH_HUNDREDS = (
    "ciento", "doscientos", "trescientos", "cuatrocientos", "quinientos", "seiscientos", "setecientos",
    "ochocientos", "novecientos",
)  # fmt: skip
ITALIAN = (
    "zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove", "dieci", "undici", "dodici",
    "tredici", "quattordici", "quindici", "sedici", "diciassette", "diciotto", "diciannove",
)  # fmt: skip
ITALIAN_TENS = ["venti", "trenta", "quaranta", "cinquanta", "sessanta", "settanta", "ottanta", "novanta"]


def spellings(number: int, language: str) -> list[str]:
    """All spellings of a number, the most usual first. Raises ValueError outside 0 … 999,999,999."""
    if not 0 <= number <= LARGEST:
        raise ValueError(f"{number} is not spelt out here; expected 0 to {LARGEST:,}")
    return list(dict.fromkeys(LANGUAGES[language](number)))


def english(number: int) -> list[str]:
    """With and without "and"; "a hundred" for "one hundred"."""
    found = [english_words(number, "and "), english_words(number, "")]
    return found + ["a" + text[3:] for text in found if text.startswith(("one hundred", "one thousand", "one million"))]


def english_words(number: int, joint: str) -> str:
    """ "two thousand and five": `joint` stands before what is less than a hundred, and after nothing."""
    if number < 20:
        return ENGLISH[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return ENGLISH_TENS[tens - 2] + (f"-{ENGLISH[ones]}" if ones else "")
    for size, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= size:
            count, rest = divmod(number, size)
            tail = f" {joint if rest < 100 else ''}{english_words(rest, joint)}" if rest else ""
            return f"{english_words(count, joint)} {name}{tail}"
    raise AssertionError("every number from 100 has a hundred in it")


def german(number: int) -> list[str]:
    """ "eins" only at the end; "hundert" and "tausend" may go without their "ein"."""
    millions, rest = divmod(number, 10**6)
    ends = german_thousands(rest) if rest or not millions else [""]
    ends = [text + "s" if text.endswith("ein") else text for text in ends]
    if not millions:
        return ends
    head = "eine Million" if millions == 1 else f"{german_thousands(millions)[0]} Millionen"
    return [f"{head} {end}".rstrip() for end in ends]


def german_thousands(number: int) -> list[str]:
    """Below a million, in one word, one as "ein"."""
    thousands, rest = divmod(number, 1000)
    if not thousands:
        return german_hundreds(rest)
    end = german_hundreds(rest)[0] if rest else ""
    return [f"{german_hundreds(thousands)[0]}tausend{end}", *([f"tausend{end}"] if thousands == 1 else [])]


def german_hundreds(number: int) -> list[str]:
    """Below a thousand, one as "ein"."""
    hundreds, rest = divmod(number, 100)
    tens, ones = divmod(rest, 10)
    if rest < 20:
        end = GERMAN[rest] if rest or not hundreds else ""
    else:
        end = (f"{GERMAN[ones]}und" if ones else "") + GERMAN_TENS[tens - 2]
    if not hundreds:
        return [end]
    return [f"{GERMAN[hundreds]}hundert{end}", *([f"hundert{end}"] if hundreds == 1 else [])]


def french(number: int) -> list[str]:
    """The usual spelling, and that of 1990 with hyphens throughout."""
    text = french_words(number)
    return [text, text.replace(" ", "-")]


def french_words(number: int, invariable: bool = False) -> str:
    """`invariable`: "vingts" and "cents" have no s, as before "mille" (not before the noun "million") and in years."""
    plural = "" if invariable else "s"
    if number < 100:
        return french_tens(number, plural)
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        head = "cent" if hundreds == 1 else f"{FRENCH[hundreds]} cent"
        return f"{head} {french_tens(rest, plural)}" if rest else head + (plural if hundreds > 1 else "")
    if number < 10**6:
        thousands, rest = divmod(number, 1000)
        head = "mille" if thousands == 1 else f"{french_words(thousands, True)} mille"
    else:
        millions, rest = divmod(number, 10**6)
        head = f"{french_words(millions)} million" + ("s" if millions > 1 else "")
    return f"{head} {french_words(rest, invariable)}" if rest else head


def french_tens(number: int, plural: str) -> str:
    """Below a hundred: by twenties from sixty on, "et" before un and onze but not in the eighties."""
    if number < 20:
        return FRENCH[number]
    if number == 80:
        return f"quatre-vingt{plural}"
    if number > 80:
        return f"quatre-vingt-{FRENCH[number - 80]}"
    base = min(number // 10, 6)
    rest, head = number - 10 * base, FRENCH_TENS[base - 2]
    if not rest:
        return head
    return f"{head} et {FRENCH[rest]}" if rest in (1, 11) else f"{head}-{FRENCH[rest]}"


def spanish(number: int) -> list[str]:
    """One spelling."""
    return [spanish_words(number)]


def spanish_words(number: int, counts: bool = False) -> str:
    """`counts`: a masculine noun follows (mil, millones), before which "uno" is "un" and "veintiuno" "veintiún"."""
    if number < 30:
        return {1: "un", 21: "veintiún"}[number] if counts and number in (1, 21) else SPANISH[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return SPANISH_TENS[tens - 3] + (f" y {spanish_words(ones, counts)}" if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        if number == 100:
            return "cien"
        return SPANISH_HUNDREDS[hundreds - 1] + (f" {spanish_words(rest, counts)}" if rest else "")
    if number < 10**6:
        thousands, rest = divmod(number, 1000)
        head = "mil" if thousands == 1 else f"{spanish_words(thousands, True)} mil"
    else:
        millions, rest = divmod(number, 10**6)
        head = "un millón" if millions == 1 else f"{spanish_words(millions, True)} millones"
    return f"{head} {spanish_words(rest, counts)}" if rest else head


def italian(number: int) -> list[str]:
    """ "cento" loses its o before "otto" and "ottanta", or keeps it."""
    return [italian_words(number, elided) for elided in (True, False)]


def italian_words(number: int, elided: bool) -> str:
    """In one word below a million; a "tre" that ends a longer word has an accent."""
    millions, rest = divmod(number, 10**6)
    word = italian_word(rest, elided) if rest or not millions else ""
    if word.endswith("tre") and word != "tre":
        word = f"{word[:-1]}é"
    if not millions:
        return word
    head = "un milione" if millions == 1 else f"{italian_words(millions, elided)} milioni"
    return f"{head} {word}".rstrip()


def italian_word(number: int, elided: bool) -> str:
    """Below a million, without the accent."""
    if number < 20:
        return ITALIAN[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        head = ITALIAN_TENS[tens - 2]
        if not ones:
            return head
        return (head[:-1] if ones in (1, 8) else head) + ITALIAN[ones]
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        head = ("" if hundreds == 1 else ITALIAN[hundreds]) + "cento"
        if not rest:
            return head
        return (head[:-1] if elided and (rest == 8 or rest // 10 == 8) else head) + italian_word(rest, elided)
    thousands, rest = divmod(number, 1000)
    head = "mille" if thousands == 1 else f"{italian_word(thousands, elided)}mila"
    return head + (italian_word(rest, elided) if rest else "")


LANGUAGES: dict[str, Callable[[int], list[str]]] = {
    "english": english,
    "german": german,
    "french": french,
    "spanish": spanish,
    "italian": italian,
}
