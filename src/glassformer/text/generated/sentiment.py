"""Opinions with negation, concession and contrast, of which a bag of words says next to nothing.

Two opposite opinions are joined, and the wording says which of them counts: what follows "but", what "although" leaves
standing, what "I" hold against what others said. Or two agree, one of them by denying the opposite. The examples come
in groups with balanced labels: in a pair, two sentences of the same words with opposite labels ("the food was awful,
but the view was lovely" and "the view was lovely, but the food was awful"); in a four, every combination of denied or
not and praising or not. So each word, and all counts of words of a pair, are as frequent in negative sentences as in
positive ones.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from glassformer.text.generated.split import Example, in_two

LABELS = ("negative", "positive")
PRAISE = (
    "good", "lovely", "wonderful", "delightful", "excellent", "pleasant", "charming", "superb", "great", "fine",
    "brilliant", "enjoyable", "impressive", "perfect", "marvellous",
)  # fmt: skip
BLAME = (
    "bad", "awful", "terrible", "dreadful", "poor", "horrible", "dull", "disappointing", "miserable", "mediocre",
    "unpleasant", "tedious", "shoddy", "hopeless", "abysmal",
)  # fmt: skip
ASPECTS = (
    "food", "evening", "view", "service", "music", "room", "plot", "acting", "ending", "coffee", "soup", "breakfast",
    "garden", "concert", "lecture", "journey", "weather", "dialogue", "lighting", "wine", "dessert", "host", "guide",
    "first act", "second half", "sound", "price", "location", "company", "idea",
)  # fmt: skip
VERBS = ("was", "was", "was", "seemed", "proved")
DENIALS = ("not", "not", "not at all", "by no means", "anything but", "far from", "hardly")
HEDGES = ("", "", "", "rather", "quite", "really", "somewhat", "truly", "frankly", "fairly")
OPENINGS = ("", "", "", "in the end,", "last night,", "as so often,", "this time,", "on the whole,", "in short,")

# {a} and {b} are opposite opinions, of which {b} counts
CONTRASTS = (
    "{a}, but {b}", "{a}; however, {b}", "{a}, yet {b}", "although {a}, {b}", "even though {a}, {b}",
    "{b}, although {a}", "{b}, even though {a}", "granted, {a}, but {b}", "{a}; all the same, {b}",
    "my friends said that {a}, and I found that {b}", "I found that {b}, and my friends said that {a}",
    "the critics wrote that {a}, but for me {b}", "for me {b}, whatever the critics wrote about how {a}",
)  # fmt: skip
AGREEMENTS = ("{a} and {b}", "{a}, and besides {b}", "{a}; what is more, {b}", "{a}, just as {b}", "{a}; and {b}")


@dataclass(frozen=True)
class Opinion:
    """What is said of one aspect."""

    aspect: str
    verb: str
    denial: str  # empty where nothing is denied
    hedge: str
    praising: bool
    word: int  # the place in PRAISE or BLAME

    @property
    def positive(self) -> bool:
        """Whether it is favourable: praise that is not denied, or blame that is."""
        return self.praising != bool(self.denial)

    def __str__(self) -> str:
        adjective = (PRAISE if self.praising else BLAME)[self.word]
        words = ("the", self.aspect, self.verb, self.denial or self.hedge, adjective)
        return " ".join(word for word in words if word)


def make(seed: int, *, train: int = 8000, validation: int = 1000) -> tuple[list[Example], list[Example]]:
    """Training and validation examples, text and label."""
    return in_two(groups(random.Random(seed)), train=train, validation=validation, key=lambda example: example["text"])


def groups(chance: random.Random) -> Iterator[list[Example]]:
    """Groups of two or four examples, endlessly, half of each group positive."""
    while True:
        opening = chance.choice(OPENINGS)
        made = chance.choice((contrasts, contrasts, agreements, fours))(chance)
        yield [{"text": written(opening, text), "label": LABELS[positive]} for text, positive in made]


def contrasts(chance: random.Random) -> list[tuple[str, bool]]:
    """Two opposite opinions, and the same two with their places changed."""
    frame = chance.choice(CONTRASTS)
    first, second = opinion(chance), opinion(chance)
    while second.aspect == first.aspect:
        second = opinion(chance)
    if first.positive == second.positive:
        second = replace(second, praising=not second.praising)
    return [(frame.format(a=a, b=b), b.positive) for a, b in ((first, second), (second, first))]


def agreements(chance: random.Random) -> list[tuple[str, bool]]:
    """Two opinions that agree, one by a denial; the same with the adjectives exchanged says the opposite."""
    frame = chance.choice(AGREEMENTS)
    plain = replace(opinion(chance), denial="")
    denying = replace(opinion(chance), denial=chance.choice(DENIALS), praising=not plain.praising)
    while denying.aspect == plain.aspect:
        denying = replace(denying, aspect=chance.choice(ASPECTS))
    exchanged = (
        replace(plain, praising=denying.praising, word=denying.word),
        replace(denying, praising=plain.praising, word=plain.word),
    )
    turned = chance.random() < 0.5
    return [
        (frame.format(a=b if turned else a, b=a if turned else b), a.positive)
        for a, b in ((plain, denying), exchanged)
    ]  # fmt: skip


def fours(chance: random.Random) -> list[tuple[str, bool]]:
    """One opinion, or two that agree, in all four combinations of denial and praise."""
    first, second, frame = opinion(chance), opinion(chance), chance.choice(("{a}", "{a}", *AGREEMENTS))
    while second.aspect == first.aspect:
        second = replace(second, aspect=chance.choice(ASPECTS))
    denials = chance.choice(DENIALS), chance.choice(DENIALS)
    made = []
    for denied in (False, True):
        for praising in (False, True):
            a, b = (
                replace(one, denial=denial if denied else "", praising=praising)
                for one, denial in zip((first, second), denials, strict=True)
            )
            made.append((frame.format(a=a, b=b), a.positive))
    return made


def opinion(chance: random.Random) -> Opinion:
    """Any opinion, denied or not."""
    denial = chance.choice(DENIALS) if chance.random() < 0.5 else ""
    return Opinion(
        aspect=chance.choice(ASPECTS), verb=chance.choice(VERBS), denial=denial, hedge=chance.choice(HEDGES),
        praising=chance.random() < 0.5, word=chance.randrange(len(PRAISE)),
    )  # fmt: skip


def written(opening: str, text: str) -> str:
    """A sentence: a capital at its beginning, a full stop at its end."""
    text = f"{opening} {text}".strip()
    return f"{text[0].upper()}{text[1:]}."
