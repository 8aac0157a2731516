"""Generated sets: what they promise of their labels, tags and answers."""

import re
from collections import Counter, defaultdict

from glassformer.metrics import entities, entity_f1
from glassformer.text import load_examples
from glassformer.text.fields import FIELDS


def test_no_bag_of_words_knows_the_sentiment():
    examples = load_examples("sentiment", fields=FIELDS["classification"])
    for part in (examples.train, examples.validation):
        bags = defaultdict(Counter)
        words = defaultdict(Counter)
        for each in part:
            bag = re.findall(r"\w+", each["text"].lower())
            bags[tuple(sorted(bag))][each["label"]] += 1
            for word in bag:
                words[word][each["label"]] += 1
        assert sum(max(labels.values()) for labels in bags.values()) <= 0.73 * len(part)  # a perfect memory for bags
        assert all(max(labels.values()) <= 0.5 * labels.total() + 2 for labels in words.values())


def test_only_outermost_names_are_tagged_and_the_usual_tag_of_a_word_is_a_poor_guess():
    examples = load_examples("tagging", fields=FIELDS["tagging"])
    usual = defaultdict(Counter)
    for each in examples.train:
        assert all(tag[0] != "I" or each["tags"][i - 1][2:] == tag[2:] for i, tag in enumerate(each["tags"]))
        assert all(each["tokens"][first] != "the" for _, first, _ in entities(each["tags"]))
        for word, tag in zip(each["tokens"], each["tags"], strict=True):
            usual[word][tag] += 1
    guesses = [[usual[word].most_common(1)[0][0] if word in usual else "O" for word in each["tokens"]]
               for each in examples.validation]  # fmt: skip
    assert 0.1 < entity_f1(guesses, [each["tags"] for each in examples.validation])["f1"] < 0.6


def test_answers_stand_in_their_passages():
    examples = load_examples("python-docs-questions", fields=FIELDS["question_answering"])
    for each in (*examples.train, *examples.validation):
        (answer,) = each["answers"]
        assert each["context"][answer["start"] :].startswith(answer["text"])
    asked = {each["question"]: each["answers"][0]["text"] for each in (*examples.train, *examples.validation)}
    assert asked["How is break_stmt defined in the grammar?"] == '"break"'
