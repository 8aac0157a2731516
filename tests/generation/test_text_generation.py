"""Text comes in whole characters, and nothing of a stop string is ever given."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from glassformer.generation import GenerationOptions, Prompt, Prompts, generate_text, stream_text
from glassformer.generation.text import StopStrings
from glassformer.text import BPETokenizer, ByteTokenizer, CharacterTokenizer


class Config:
    def __init__(self, vocab_size: int) -> None:
        self.vocab_size, self.max_positions = vocab_size, 10_000


class Counter:
    length = 0

    def truncate(self, length: int) -> None:
        self.length = length

    def reorder(self, rows: Tensor) -> None: ...


class Says(nn.Module):
    """A model that says given ids, whatever the prompt."""

    has_position_table = False

    def __init__(self, ids: Sequence[int], vocab_size: int) -> None:
        super().__init__()
        self.ids, self.asked, self.config = list(ids), 0, Config(vocab_size)
        self.weight = nn.Parameter(torch.zeros(1))

    def prompt(self, input_ids: Prompts, attention_mask: Tensor | None, options: GenerationOptions) -> Prompt:
        return Prompt(self, input_ids, attention_mask, options)

    def framed(self, ids: list[int]) -> list[int]:
        return ids

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None, *, cache: Counter) -> Tensor:
        return torch.zeros(*input_ids.shape, 1)

    def head(self, hidden: Tensor) -> Tensor:
        logits = torch.zeros(*hidden.shape[:-1], self.config.vocab_size)
        logits[..., self.ids[self.asked]] = 1.0
        self.asked += 1
        return logits

    def new_cache(self, batch_size: int, capacity: int | None = None) -> Counter:
        return Counter()


BYTES = ByteTokenizer()
SENTENCE = "Grüße, 世界! 👩‍🚀 ok"


def says(text: str, tokenizer: ByteTokenizer | CharacterTokenizer | BPETokenizer = BYTES) -> Says:
    return Says(tokenizer.encode(text), tokenizer.vocab_size)


def test_a_character_of_several_tokens_comes_once_and_whole() -> None:
    pieces = list(stream_text(says(SENTENCE), BYTES, "x", max_new_tokens=len(SENTENCE.encode())))
    assert pieces == list(SENTENCE)


def test_a_character_that_is_never_completed_is_left_out() -> None:
    assert generate_text(says("ab👩"), BYTES, "x", max_new_tokens=4) == "ab"


def test_a_replacement_character_that_the_text_itself_has_is_given() -> None:
    text = "a\N{REPLACEMENT CHARACTER}b"
    assert generate_text(says(text), BYTES, "x", max_new_tokens=5) == text


@pytest.mark.parametrize("stop", ["END", ["END", "never"], ["D.", "END"]])
def test_a_stop_string_that_spans_tokens_ends_the_text_and_is_not_given(stop: str | list[str]) -> None:
    model = says("one EN two END. three")
    assert "".join(stream_text(model, BYTES, "x", max_new_tokens=21, stop_strings=stop)) == "one EN two "
    assert model.asked < 16, "the model went on after the stop string"


def test_of_stop_strings_that_end_together_the_longest_counts() -> None:
    assert generate_text(says("one END."), BYTES, "x", max_new_tokens=8, stop_strings=["ND", "END"]) == "one "


def test_no_piece_ever_ends_with_the_beginning_of_the_stop_string_that_follows() -> None:
    pieces = list(stream_text(says("aabaab aabaac"), BYTES, "x", max_new_tokens=13, stop_strings="aabaac"))
    assert "".join(pieces) == "aabaab "


def test_what_was_held_back_for_a_stop_string_comes_when_the_text_ends() -> None:
    assert generate_text(says("wait EN"), BYTES, "x", max_new_tokens=7, stop_strings="END") == "wait EN"


def test_a_stop_string_within_one_token_keeps_what_stands_before_it() -> None:
    tokenizer = BPETokenizer.train("stop here now " * 50, 300, special_tokens=["<|endoftext|>"])
    model = says("stop here now stop", tokenizer)
    assert generate_text(model, tokenizer, "now", max_new_tokens=len(model.ids), stop_strings="re n") == "stop he"


def test_the_end_of_text_token_ends_the_text_and_is_not_given() -> None:
    tokenizer = ByteTokenizer(special_tokens=["<|endoftext|>"])
    model = Says([*tokenizer.encode("ab"), tokenizer.end_of_text, *tokenizer.encode("cd")], tokenizer.vocab_size)
    assert generate_text(model, tokenizer, "x", max_new_tokens=5) == "ab"
    assert model.asked == 3


def test_ids_that_the_tokenizer_does_not_know_are_never_chosen() -> None:
    tokenizer = CharacterTokenizer("abc")
    assert generate_text(Says([1, 7, 2], 8), tokenizer, "a", max_new_tokens=3) == "bac"


@pytest.mark.parametrize("strings", [[], ["b"], ["ab", "bc"], ["abc", "b"], ["aab"], ["ca", "abca"], ["aaab", "aaac"]])
def test_stop_strings_give_the_same_however_the_text_is_cut(strings: list[str]) -> None:
    text = "aabcabcaaabca"
    ends = ((end - len(string)) for end in range(len(text) + 1) for string in sorted(strings, key=len, reverse=True)
            if text[:end].endswith(string))  # fmt: skip
    expected = text[: next(ends, len(text))]
    for width in range(1, len(text) + 1):
        stops = StopStrings(strings)
        pieces = [stops.push(text[start : start + width]) for start in range(0, len(text), width)]
        assert "".join(pieces) + stops.finish() == expected, width


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("", {}, "the prompt is empty"),
        ("x", {"stop_strings": ["a", ""]}, "a stop string is empty"),
        ("x", {"do_sample": True, "num_return_sequences": 2}, "one sequence at a time"),
        ("x", {"num_beams": 2}, "cannot be streamed"),
    ],
)
def test_bad_requests_raise_at_the_call(prompt: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stream_text(says("abc"), BYTES, prompt, max_new_tokens=3, **options)


def test_a_tokenizer_larger_than_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match="256 ids and the model 10; they do not belong together"):
        stream_text(Says([0], 10), BYTES, "x", max_new_tokens=1)
