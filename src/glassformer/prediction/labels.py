"""A class for each text, a tag for each word."""

from collections.abc import Sequence
from typing import Any

from glassformer.models.heads import SequenceClassification, TokenClassification
from glassformer.models.labels import num_classes, problem_of
from glassformer.prediction.batches import Track, outputs, room_of
from glassformer.text import Tokenizer
from glassformer.text.loader import IGNORED
from glassformer.training.tasks.tagging import tagged_row, word_encoder
from glassformer.training.tasks.task import special_ids


def label_names(config: Any) -> tuple[str, ...]:
    """The classes' names; LABEL_0 and so on where they have none, as in Hugging Face's configs."""
    return tuple(config.labels or (f"LABEL_{i}" for i in range(num_classes(config))))


def predict_classes(
    model: SequenceClassification,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    track: Track = iter,
) -> list[str]:
    """The most probable class of each text, of which the beginning counts where it is longer than the model reads.

    Raises:
        ValueError: the model predicts several classes at once, or numbers.
    """
    if (problem := problem_of(model.config, None)) != "single_label_classification":
        raise ValueError(f"the model's problem is {problem!r}; a class for each text is single_label_classification")
    room, names = room_of(model) - sum(tokenizer.template.lengths()), label_names(model.config)
    rows = [tokenizer.template.around(tokenizer.encode(text)[:room]) for text in texts]
    found = [""] * len(rows)
    for numbers, output in outputs(model, tokenizer, rows, batch_size, track):
        for number, best in zip(numbers, output.logits.argmax(-1).tolist(), strict=True):
            found[number] = names[best]
    return found


def predict_tags(
    model: TokenClassification,
    tokenizer: Tokenizer,
    token_lists: Sequence[Sequence[str]],
    *,
    batch_size: int = 32,
    track: Track = iter,
) -> list[list[str]]:
    """The most probable tag of each word, read from its first token.

    Words for which there is no room any more are read in a row of their own.

    Raises:
        ValueError: the tokenizer has no tokens to stand around a text.
    """
    room, names = room_of(model), label_names(model.config)
    ids, encode = special_ids(tokenizer, "tagging", "cls", "sep", "unk"), word_encoder(tokenizer)
    rows: list[tuple[list[int], list[int]]] = []
    places: list[tuple[int, int, list[int]]] = []  # of each row: the sentence, its first word, the words' first tokens
    for sentence, tokens in enumerate(token_lists):
        words, done = [encode(word, place)[: room - 2] for place, word in enumerate(tokens)], 0
        while done < len(words):
            row, at = tagged_row(words[done:], [0] * (len(words) - done), ids, room)
            firsts = [place for place, tag in enumerate(at) if tag != IGNORED]
            rows.append((row, [0] * len(row)))
            places.append((sentence, done, firsts))
            done += len(firsts)
    found = [[""] * len(tokens) for tokens in token_lists]
    for numbers, output in outputs(model, tokenizer, rows, batch_size, track) if rows else ():
        for number, best in zip(numbers, output.logits.argmax(-1).tolist(), strict=True):
            sentence, first, firsts = places[number]
            found[sentence][first : first + len(firsts)] = [names[best[place]] for place in firsts]
    return found
