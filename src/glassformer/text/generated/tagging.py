"""Sentences with the names of persons, places and organisations, tagged B- and I- for the outermost name alone.

Names stand inside names: in "the Anna Meyer Foundation of Basel" neither a person nor a place is tagged, in "Anna Meyer
left Basel" both are. What a word is, its neighbours say: London is a city and a writer, Rose, Mark and May are people
and words, "of Basel" belongs to a university where "in Basel" does not. Some family names and towns occur in the
validation part alone.
"""

import random
from collections.abc import Callable, Iterator

from glassformer.text.generated.split import Example, in_two

TAGS = ("B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O")
FIRST = (
    "Anna", "Mark", "Rose", "May", "Grace", "Will", "Jordan", "Florence", "Austin", "Sofia", "Peter", "Clara", "Hugo",
    "Martha", "Georgia", "Victor", "Irene", "Hope", "Frank", "Paris", "Oscar", "Lena", "Tom", "Joan", "Sydney",
)  # fmt: skip
FAMILY = (
    "Meyer", "London", "Lincoln", "Hamilton", "Baker", "Young", "Berger", "Rossi", "Winter", "Marsh", "Bell", "Fields",
    "Chase", "Wood", "Cologne", "Barcelona", "Hill", "Lange", "Silva", "Novak", "Moreau", "Keller", "Hart", "Price",
)  # fmt: skip
TOWNS = (
    "Basel", "London", "Lincoln", "Hamilton", "Florence", "Austin", "Paris", "Sydney", "Cologne", "Barcelona", "Geneva",
    "Lisbon", "Oslo", "Turin", "Bath", "Reading", "Nice", "Split", "Ghent", "Porto", "Leeds", "Kyoto", "Lima",
)  # fmt: skip
COUNTRIES = ("Jordan", "Georgia", "Chile", "Turkey", "Norway", "Portugal", "Peru", "Mali", "Chad", "China")
FAMILY_HELD = ("Zimmer", "Aldous", "Brunner", "Castle", "Durham", "Verona")
TOWNS_HELD = ("Durham", "Verona", "Bergen", "Mobile", "Cork", "Trier")
FIELDS_OF_STUDY = ("Natural History", "Modern Art", "Science", "Music", "Law", "Fine Arts")
TRADES = ("Bank", "Insurance", "Press", "Records", "Motors", "Bakery", "Airways", "Chemicals", "Timber")
HONOURS = ("Foundation", "Trust", "Institute", "Library", "Hospital", "Prize Committee", "Society")
TITLES = ("Dr", "Professor", "Judge", "Captain")

Words = list[tuple[str, str]]  # a word and its tag
Namer = Callable[[random.Random, bool], list[str]]

# {P}, {L} and {O} are a person, a place and an organisation
SENTENCES = (
    "{P} moved from {L} to {L} in {month} .", "{P} works for {O} in {L} .", "{O} was founded by {P} .",
    "in {month} {P} will leave {O} .", "the mayor of {L} met {P} , the head of {O} .", "{P} and {P} were born in {L} .",
    "{O} opened an office in {L} .", "{O} , which {P} runs , lost a case against {O} .", "{P} may sell {O} to {O} .",
    "they mark the day with a rose from {L} .", "a young baker from {L} wrote to {P} .", "hope is what {P} gave {L} .",
    "will {P} ever see {L} again ?", "may {O} keep its promise , said {P} .", "it is nice in {L} , {P} wrote .",
    "reading is what {P} taught at {O} .", "mark my words , {P} told {P} , {L} is lost .", "nobody saw {P} at {O} .",
    "the price of wood in {L} rose in {month} , says {O} .", "{P} split the winter between {L} and {L} .",
    "to be frank , {P} never liked {L} .", "a hill near {L} belongs to {O} .", "the chase ended in {L} .",
    "the bell of {L} rang for {P} .", "the bath was cold and the fields were wet .", "a hart ran over the marsh .",
    "grace and hope are words , but {P} is a person .", "the press of {L} praised {P} .", "the bank in {L} is closed .",
)  # fmt: skip
MONTHS = ("March", "April", "May", "June", "August")


def make(seed: int, *, train: int = 6000, validation: int = 800) -> tuple[list[Example], list[Example]]:
    """Training and validation examples, tokens and tags."""
    chance = random.Random(seed)
    made = (sentence(chance, held) for held in _held_first(validation))
    return in_two(([each] for each in made), train=train, validation=validation, key=lambda each: tuple(each["tokens"]))


def _held_first(count: int) -> Iterator[bool]:
    """Whether the names that are kept for validation may occur: while it is being made, which comes first."""
    yield from (True for _ in range(count))
    while True:
        yield False


def sentence(chance: random.Random, held: bool) -> Example:
    """One sentence; `held` allows names that occur in no other part."""
    words: Words = []
    for place in chance.choice(SENTENCES).split():
        if place in KINDS:
            name = chance.choice(KINDS[place])(chance, held)
            kind = {"{P}": "PER", "{L}": "LOC", "{O}": "ORG"}[place]
            if name[0] == "the":
                words.append((name.pop(0), "O"))
            words += [(word, f"{'I' if i else 'B'}-{kind}") for i, word in enumerate(name)]
        else:
            words.append((chance.choice(MONTHS) if place == "{month}" else place, "O"))
    first = words[0][0]
    words[0] = (first[0].upper() + first[1:], words[0][1])
    return {"tokens": [word for word, _ in words], "tags": [tag for _, tag in words]}


def family(chance: random.Random, held: bool) -> str:
    """A family name."""
    return chance.choice(FAMILY_HELD if held and chance.random() < 0.3 else FAMILY)


def town(chance: random.Random, held: bool) -> list[str]:
    """A town."""
    return [chance.choice(TOWNS_HELD if held and chance.random() < 0.3 else TOWNS)]


def full_name(chance: random.Random, held: bool) -> list[str]:
    """A first name and a family name."""
    return [chance.choice(FIRST), family(chance, held)]


def person_of_few_words(chance: random.Random, held: bool) -> list[str]:
    """A first name, a family name, or one with a title."""
    return chance.choice(([chance.choice(FIRST)], [family(chance, held)],
                          [chance.choice(TITLES), family(chance, held)]))  # fmt: skip


def country(chance: random.Random, _: bool) -> list[str]:
    """A country."""
    return [chance.choice(COUNTRIES)]


def named_place(chance: random.Random, held: bool) -> list[str]:
    """A place that bears another name: a street, a square, a lake, a bridge."""
    name = chance.choice((full_name(chance, held), town(chance, held)))
    kind = chance.choice(("Street", "Square", "Bridge", "Park", "Lake", "Mount"))
    return [kind, *town(chance, held)] if kind in ("Lake", "Mount") else [*name, kind]


def honouring(chance: random.Random, held: bool) -> list[str]:
    """An organisation that bears a person's name, of a place at times."""
    tail = ["of", *town(chance, held)] if chance.random() < 0.5 else []
    return ["the", *full_name(chance, held), *chance.choice(HONOURS).split(), *tail]


def local(chance: random.Random, held: bool) -> list[str]:
    """An organisation that bears a place's name."""
    where, study = chance.choice((town, country))(chance, held), chance.choice(FIELDS_OF_STUDY).split()
    return chance.choice((
        ["the", "University", "of", *where], [*where, "University"], ["the", *where, "Museum", "of", *study],
        ["the", *where, "School", "of", *study], [*where, "United"], ["Bank", "of", *where],
        ["the", *where, "Symphony", "Orchestra"],
    ))  # fmt: skip


def firm(chance: random.Random, held: bool) -> list[str]:
    """A company that bears its owner's or its town's name."""
    owner, trade = family(chance, held), chance.choice(TRADES)
    return chance.choice((
        [owner, "&", "Sons"], [owner, "&", family(chance, held)], [owner, trade], [*town(chance, held), trade],
        [*full_name(chance, held), trade, "of", *town(chance, held)],
    ))  # fmt: skip


KINDS: dict[str, tuple[Namer, ...]] = {
    "{P}": (full_name, full_name, person_of_few_words),
    "{L}": (town, town, country, named_place),
    "{O}": (honouring, local, firm),
}
