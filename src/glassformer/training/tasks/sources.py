"""What an encoder-decoder's settings take from a tokenizer."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from glassformer.text import Tokenizer
from glassformer.training.tasks.task import special_ids

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

ENDS = ("<pad>", "</s>")  # what a tokenizer that is made for an encoder-decoder has beside its own


def seq2seq_settings(recipe: "Recipe", tokenizer: Tokenizer | None, task: str) -> dict[str, Any]:
    """The size of the vocabulary, and the tokens that fill and end a text; a target begins with the former.

    A model that [init] names has its own, which it was trained with.
    """
    if recipe.init.source is not None:
        return {"vocab_size": recipe.model.vocab_size}  # type: ignore[union-attr]
    assert tokenizer is not None  # the task's own has been made
    ids = special_ids(tokenizer, task, "pad", "eos")
    settings = {"vocab_size": tokenizer.vocab_size, "pad_token_id": ids["pad"], "eos_token_id": ids["eos"],
                "decoder_start_token_id": ids["pad"], "forced_bos_token_id": None, "forced_eos_token_id": None,
                "bos_token_id": tokenizer.special.get("bos")}  # fmt: skip
    known = {field.name for field in fields(recipe.model)}  # type: ignore[arg-type]
    return {name: value for name, value in settings.items() if name in known}
