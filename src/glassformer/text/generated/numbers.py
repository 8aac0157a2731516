"""Numbers in words to digits, in English, German, French, Spanish and Italian: "zweihundertfünf" -> "205"."""

import random
from collections.abc import Iterator

from glassformer.text.generated.number_words import LANGUAGES, spellings
from glassformer.text.generated.split import Example, in_two

DIGITS = 7  # numbers have up to so many, each count of digits as often as another


def make(seed: int, *, train: int = 20_000, validation: int = 1000) -> tuple[list[Example], list[Example]]:
    """Training and validation examples, source and target; those up to 99 are in training alone, in every spelling."""
    small = [
        {"source": text, "target": str(number)}
        for number in range(100)
        for language in LANGUAGES
        for text in spellings(number, language)
    ]
    small = list({each["source"]: each for each in small}.values())
    more = max(train - len(small), 0)
    large, held = in_two(random_numbers(seed), train=more, validation=validation, key=lambda each: each["target"])
    examples = [*small[:train], *large]
    random.Random(seed).shuffle(examples)
    return examples, held


def random_numbers(seed: int) -> Iterator[list[Example]]:
    """Numbers from 100 on, endlessly."""
    chance = random.Random(seed)
    while True:
        digits = chance.randint(3, DIGITS)
        number = chance.randrange(10 ** (digits - 1), 10**digits)
        if chance.random() < 0.3:  # round ones are rare by chance, and have rules of their own
            number = number // 10 ** (digits - 2) * 10 ** (digits - 2) + chance.choice(
                (0, 0, number % 10, number % 100)
            )
        yield [{"source": chance.choice(spellings(number, chance.choice(list(LANGUAGES)))), "target": str(number)}]
