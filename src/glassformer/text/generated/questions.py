"""Questions on the reference of the Python language, whose answers are spans of it.

What a statement or an operator does, what a term is, which exception is raised when, what a method returns or is called
for, how a rule of the grammar reads, what a version brought. Each is asked in several wordings, about a passage of some
paragraphs around the answer; the topics of the validation questions are in no training question.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from glassformer.text.generated.python_docs import SIGNATURE, Section, by_topic, is_prose, sections, sentences
from glassformer.text.generated.split import Example

LONGEST_ANSWER = 120  # characters
LONGEST_PASSAGE = 900

NO_SUBJECT = (  # words that begin something else, or refer back
    "If|When|It|You|This|These|That|They|In|For|As|While|Since|Once|Unless|Although|Note|However|Otherwise|Thus|Because|"
    "To|On|At|By|With|There|Both|Some|Such|But|And|Where|Whether|After|Before|Until|Like|Calling|Here|One|Two|What|Each|"
    "Even|First|Then|So|Or|Not|Also|See|New|Changed|Many|Their|Its|Other|Common|Except|Unlike|Usually|Called|Print|Return|Presence"
)
NOT_INSIDE = (
    "is|are|if|that|which|who|you|it|they|also|then|only|otherwise|where|following|same|optionally|not|do|now|first|"
    "must|can|may|should|will"
)
START = r"(?:^|(?<=[.:] ))"
END = r"(?<!\be)(?<!\bi)(?=[.;:](?: |$))"  # not within "e.g." or "i.e."
WORD = rf'(?!(?:{NOT_INSIDE}) )[\w",./*()%@+\-^&|~<>=’\[\]]*[\w")*\]]'
SUBJECT = rf"(?P<subject>(?!(?:{NO_SUBJECT})\b)(?:The|An?|[A-Z]\w+)(?: {WORD}){{1,6}}?)"
ANSWER = r"(?P<answer>(?!(?:is|are|of) )[^.;:]+?)"
VERBS = (
    "yields?|causes?|allows?|specif(?:y|ies)|returns?|raises?|creates?|represents?|provides?|evaluates?|executes?|"
    "defines?|terminates?|removes?|imports?|binds?|invokes?|performs?|indicates?|denotes?|contains?|means?|produces?|"
    "guarantees?|supports?|accepts?|introduces?|describes?|makes?|holds?|gives?|determines?|implements?|requires?|"
    "ignores?|has|have|takes?|matches|match|calls?|allocates?|sets?|adds?|applies|apply|behaves?|consists?|refers?"
)
MODALS = "must|can|may|cannot|should|will"
DOES = re.compile(rf"{START}{SUBJECT} (?P<verb>{VERBS}) {ANSWER}{END}")
MUST = re.compile(rf"{START}{SUBJECT} (?P<modal>{MODALS}) (?P<verb>be|[a-z]+) {ANSWER}{END}")
IS = re.compile(rf"{START}{SUBJECT} (?P<verb>is|are) (?P<answer>(?:an?|the|any|one|not) [^.;:]+?){END}")
USED = re.compile(
    rf"{START}{SUBJECT} (?P<verb>is|are) (?:\w+ly |often |also )?used (?P<answer>(?:to|for|as) [^.;:]+?){END}"
)
CALLED = re.compile(
    rf'{START}(?:The )?(?P<subject>"\w[\w.]*\(\)")(?: method)? is (?:only |then )?called '
    rf"(?P<answer>(?:when|if|to|for|with|by|on) [^.;:]+?){END}"
)
WHEN = re.compile(rf"{START}(?P<when>If|When) (?P<condition>[^.;:,]{{8,120}}), (?:then )?{ANSWER}{END}")
DEFAULT = re.compile(rf"(?P<subject>\*\w+\*) defaults to {ANSWER}{END}")
RAISED = re.compile(
    r'(?:an? |the )?"(?P<answer>\w+(?:Error|Iteration|Exit))"(?: exception)? is raised '
    rf"(?P<condition>(?:if|when) [^.;:]{{8,120}}?){END}", re.IGNORECASE
)  # fmt: skip
RULE = re.compile(r"^(?P<name>\w+)\s+::= (?P<answer>.+(?:\n(?!\w+\s+::=).+)*)", re.MULTILINE)
VERSION = re.compile(
    r"^(?P<change>New|Added|Changed) in version (?P<version>[\d.]*\d)(?:: (?P<answer>[^.]+?)(?<!\be)\.|\.)"
)


@dataclass(frozen=True)
class Fact:
    """An answer in a paragraph, and the wordings of what is asked; `first` is the earliest paragraph it depends on."""

    section: Section
    paragraph: int
    start: int
    answer: str
    wordings: tuple[str, ...]
    first: int


def make(seed: int, *, passages: int = 3) -> tuple[list[Example], list[Example]]:
    """Training and validation examples, context, question and answers.

    In training each fact is asked in all its wordings, and each of these of so many passages, cut out by chance.
    """
    chance = random.Random(seed)
    facts = [(section.topic, fact) for section in sections() for fact in facts_of(section)]
    train, held = by_topic(facts, seed)
    examples = [asked(fact, wording, chance) for fact in train for wording in fact.wordings for _ in range(passages)]
    chance.shuffle(examples)
    return examples, [asked(fact, wording, chance) for fact in held for wording in fact.wordings]


def asked(fact: Fact, wording: str, chance: random.Random) -> Example:
    """A question with a passage around its answer."""
    paragraphs = fact.section.paragraphs
    first, last = fact.first, fact.paragraph
    room = LONGEST_PASSAGE - sum(len(text) + 1 for text in paragraphs[first : last + 1])
    for before in chance.choices((True, False), k=chance.randint(1, 5)):
        there = first - 1 if before else last + 1
        if 0 <= there < len(paragraphs) and len(paragraphs[there]) < room:
            room -= len(paragraphs[there]) + 1
            first, last = min(first, there), max(last, there)
    context = "\n".join((fact.section.title, *paragraphs[first : last + 1]))
    start = len(fact.section.title) + 1 + sum(len(text) + 1 for text in paragraphs[first : fact.paragraph]) + fact.start
    return {"context": context, "question": wording, "answers": [{"text": fact.answer, "start": start}]}


def facts_of(section: Section) -> Iterator[Fact]:
    """All facts of a section, each question once."""
    known: set[str] = set()
    method: tuple[int, str] | None = None
    for number, text in enumerate(section.paragraphs):
        signature = SIGNATURE.match(text)
        if signature and "\n" not in text:
            method = number, signature[1]
            continue
        facts = [*rules(text), *changed(text, section.title if method is None else f"{method[1]}()")]
        facts += said(text) if is_prose(text) else []
        made = [Fact(section, number, *each, number) for each in facts]
        if method is not None:
            place, name = method
            found = [*added(text, f"{name}()"), *(described(text, f"{name}()") if number == place + 1 else ())]
            made += [Fact(section, number, *each, place) for each in found]
            if number == place + 1 and is_prose(text):
                made += [Fact(section, place, *each, place) for each in named(text, section.paragraphs[place], name)]
        for fact in made:
            passage = sum(map(len, section.paragraphs[fact.first : fact.paragraph + 1]))
            if fact.wordings[0] not in known and 2 < len(fact.answer) <= LONGEST_ANSWER and passage <= LONGEST_PASSAGE:
                known.add(fact.wordings[0])
                yield fact


Found = Iterator[tuple[int, str, tuple[str, ...]]]  # where an answer starts, the answer, wordings of the question


def described(text: str, name: str) -> Found:
    """What a method does, by the first sentence after its signature."""
    first = sentences(text)[0].rstrip(".:")
    verb, _, rest = first.partition(" ")
    if not is_prose(text) or not rest:
        return
    if verb in ("Return", "Returns"):
        yield len(verb) + 1, rest, (f"What does {name} return?", f"What is the result of {name}?")
    elif verb == "Called":
        yield len(verb) + 1, rest, (f"When is {name} called?", f"What is {name} called for?")
    else:
        yield 0, first, (f"What does {name} do?", f"What is said of {name}?")


def named(text: str, signature: str, name: str) -> Found:
    """Which method does what the first sentence says."""
    first = sentences(text)[0].rstrip(".:")
    verb, _, rest = first.partition(" ")
    if verb in ("Return", "Returns", "Called") and len(rest) <= LONGEST_ANSWER:
        verb = "is called" if verb == "Called" else "returns"
        yield signature.index(name), name, (f"Which method {verb} {rest}?",)


def rules(text: str) -> Found:
    """How rules of the grammar read."""
    for match in RULE.finditer(text):
        name = match["name"]
        asks = f"What is the grammar rule for {name}?", f"How is {name} defined in the grammar?"
        yield match.start("answer"), match["answer"].rstrip(), asks


def added(text: str, name: str) -> Found:
    """Which version brought a method."""
    match = VERSION.match(text)
    if match is not None and match["change"] != "Changed":
        asks = f"In which version was {name} added?", f"Since which version is there {name}?"
        yield match.start("version"), match["version"], asks


def changed(text: str, name: str) -> Found:
    """What a version changed."""
    match = VERSION.match(text)
    if match is not None and match["answer"]:
        version = match["version"]
        asks = f"What changed in {name} in version {version}?", f"How did version {version} change {name}?"
        yield match.start("answer"), match["answer"], asks


def said(text: str) -> Found:
    """What something does, must, is, is used or called for; what happens when; and what it is that does so."""
    for pattern, ask in SAID.items():
        for match in pattern.finditer(text):
            yield match.start("answer"), match["answer"], ask(match)
            parts = match.groupdict()
            if pattern in (DOES, IS, MUST) and len(match["answer"]) > 20:
                predicate = " ".join(parts[name] for name in ("modal", "verb", "answer") if name in parts)
                yield match.start("subject"), match["subject"], (f"What {predicate}?",)


def of_subject(match: re.Match[str]) -> str:
    """The subject as it stands within a question."""
    subject = match["subject"]
    return subject[0].lower() + subject[1:] if subject.split()[0] in ("The", "A", "An") else subject


def does(match: re.Match[str]) -> tuple[str, ...]:
    """What something does, its verb as a question has it."""
    verb = match["verb"]
    if verb in ("has", "have"):
        plural, verb = verb == "have", "have"
    elif verb.endswith("ies"):
        plural, verb = False, f"{verb[:-3]}y"
    else:
        plural = not verb.endswith("s")
        verb = verb if plural else verb.removesuffix("es") if verb.endswith("ches") else verb[:-1]
    return (f"What {'do' if plural else 'does'} {of_subject(match)} {verb}?",)


SAID: dict[re.Pattern[str], Callable[[re.Match[str]], tuple[str, ...]]] = {
    RAISED: lambda m: (f"Which exception is raised {m['condition']}?",),
    WHEN: lambda m: (f"What happens {m['when'].lower()} {m['condition']}?",),
    USED: lambda m: (f"What {m['verb']} {of_subject(m)} used for?",),
    CALLED: lambda m: (f"When is {m['subject']} called?",),
    DEFAULT: lambda m: (f"What does {m['subject']} default to?", f"What is the default of {m['subject']}?"),
    IS: lambda m: (f"What {m['verb']} {of_subject(m)}?",),
    MUST: lambda m: (f"What {m['modal']} {of_subject(m)} {m['verb']}?",),
    DOES: does,
}
"""What is looked for in prose, and how it is asked for."""
