"""Options that are out of range, contradict each other or do not exist are refused before any work, by name."""

from dataclasses import replace

import pytest
import torch

from glassformer.generation import (
    GenerationOptions,
    MinLength,
    MinP,
    NoRepeatNGram,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)
from glassformer.generation.options import make_options

SAMPLE = {"max_new_tokens": 5, "do_sample": True}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0; expected 1 or more"),
        ({"max_new_tokens": -3}, "max_new_tokens is -3"),
        ({}, "give one of the two"),
        ({"max_new_tokens": 5, "max_length": 9}, "max_new_tokens is 5 and max_length is 9; give one of the two"),
        (SAMPLE | {"temperature": -0.1}, "temperature is -0.1; expected a finite number, 0"),
        (SAMPLE | {"temperature": float("nan")}, "temperature is nan"),
        (SAMPLE | {"temperature": float("inf")}, "temperature is inf"),
        (SAMPLE | {"top_k": 0}, "top_k is 0; expected 1 or more; leave it out to keep every token"),
        (SAMPLE | {"top_p": 1.1}, "top_p is 1.1; expected a probability"),
        (SAMPLE | {"top_p": -0.1}, "top_p is -0.1; expected a probability"),
        (SAMPLE | {"min_p": 2.0}, "min_p is 2.0; expected a probability"),
        (SAMPLE | {"min_p": float("nan")}, "min_p is nan"),
        (SAMPLE | {"repetition_penalty": 0.0}, "repetition_penalty is 0.0; expected a finite number above 0"),
        ({"max_new_tokens": 5, "temperature": 0.8}, "temperature=0.8 without do_sample=True"),
        ({"max_new_tokens": 5, "top_k": 4, "top_p": 0.5}, "top_k=4, top_p=0.5 without do_sample=True"),
        ({"max_new_tokens": 5, "seed": 1}, "seed=1 without do_sample=True"),
        ({"max_new_tokens": 5, "num_return_sequences": 2}, "gives the same continuation each time"),
        (SAMPLE | {"temperature": 0.0, "num_return_sequences": 2}, "gives the same continuation each time"),
        (SAMPLE | {"num_beams": 3}, "beam search does not sample"),
        ({"max_new_tokens": 5, "num_beams": 2, "num_return_sequences": 3}, "more than there are beams, num_beams=2"),
        ({"max_new_tokens": 5, "num_beams": 2, "slide_context": True}, "slide_context"),
        ({"max_new_tokens": 5, "length_penalty": 2.0}, "belong to beam search"),
        ({"max_new_tokens": 5, "early_stopping": True}, "belong to beam search"),
        ({"max_new_tokens": 5, "no_repeat_ngram_size": 0}, "no_repeat_ngram_size is 0; expected 1 or more"),
        (
            {"max_new_tokens": 5, "min_length": 2, "min_new_tokens": 1},
            "min_new_tokens is 1 and min_length is 2; give one",
        ),
    ],
    ids=str,
)
def test_impossible_values_raise_a_sentence_that_names_them(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        GenerationOptions(**changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_new_tokens": "5"}, "max_new_tokens is '5', a str; expected a whole number"),
        ({"max_new_tokens": 5.0}, "max_new_tokens is 5.0, a float"),
        ({"max_new_tokens": True}, "max_new_tokens is True, a bool"),
        (SAMPLE | {"temperature": "hot"}, "temperature is 'hot', a str; expected a number"),
        (SAMPLE | {"do_sample": 1}, "do_sample is 1, a int; expected True or False"),
        (SAMPLE | {"eos_token_id": [1, "a"]}, "eos_token_id holds 'a'"),
        (SAMPLE | {"processors": (3,)}, "processors holds 3"),
        ({"max_new_tokens": 5, "num_beams": 2, "early_stopping": "soon"}, "early_stopping is 'soon'; expected True, "),
    ],
    ids=str,
)
@pytest.mark.usefixtures("no_shape_checks")
def test_wrong_types_raise_a_sentence_that_names_them(changes: dict, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        GenerationOptions(**changes)
    assert message in str(caught.value)


def test_a_misspelt_option_raises_and_the_right_one_is_suggested() -> None:
    with pytest.raises(
        TypeError, match=r"unknown generation option 'max_new_token' \(did you mean 'max_new_tokens'\?\)"
    ):
        make_options(None, {"max_new_token": 5})


def test_changes_are_made_to_given_options_and_leave_them_as_they_are() -> None:
    options = GenerationOptions(max_new_tokens=5)
    changed = make_options(options, {"do_sample": True, "top_k": 3})
    assert (changed.max_new_tokens, changed.top_k, options.top_k) == (5, 3, None)


def test_processors_stand_in_the_order_of_transformers() -> None:
    def own(ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return logits

    options = GenerationOptions(**SAMPLE, temperature=0.5, top_k=4, top_p=0.9, min_p=0.1, repetition_penalty=1.2,
                                processors=(own,))  # fmt: skip
    options = replace(options, no_repeat_ngram_size=2, min_length=4, eos_token_id=1)
    expected = (
        RepetitionPenalty(1.2),
        NoRepeatNGram(2),
        MinLength(4, (1,)),
        own,
        Temperature(0.5),
        TopK(4),
        TopP(0.9),
        MinP(0.1),
    )
    assert options.logits_processors(3) == expected


def test_what_changes_nothing_is_not_run() -> None:
    assert GenerationOptions(max_new_tokens=5).logits_processors(3) == ()
    assert GenerationOptions(**SAMPLE, temperature=1.0, top_p=1.0, min_p=0.0).logits_processors(3) == ()


def test_temperature_zero_is_greedy() -> None:
    assert not GenerationOptions(**SAMPLE, temperature=0.0, top_k=5).samples
