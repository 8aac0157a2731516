"""What an encoder-decoder writes for each source."""

from collections.abc import Sequence
from typing import Any

from glassformer.generation.text import prompt_ids
from glassformer.models.sequence_to_sequence import SequenceToSequenceModel
from glassformer.prediction.batches import Track, by_length, predicting
from glassformer.text import Tokenizer
from glassformer.training.tasks.translation import written


def predict_targets(
    model: SequenceToSequenceModel,
    tokenizer: Tokenizer,
    sources: Sequence[str],
    *,
    batch_size: int = 32,
    track: Track = iter,
    prefix: str = "",
    **options: Any,
) -> list[str]:
    """The target of each source; `options` are those of `generate`, such as `num_beams` and `max_new_tokens`.

    A source that is longer than the model's positions is cut at its end.

    Args:
        prefix: stands before each source, as T5's "translate English to German: ".

    Raises:
        ValueError: an empty source, several targets for each, and what `generate` raises.
    """
    if options.get("num_return_sequences", 1) != 1:
        raise ValueError(f"num_return_sequences={options['num_return_sequences']}: each source gets one target here")
    if "max_new_tokens" not in options and "max_length" not in options:
        options["max_new_tokens"] = 128
    rows = [prompt_ids(model, tokenizer, prefix + source) for source in sources]
    if model.has_position_table:
        rows = [shortened(row, model.config.max_positions) for row in rows]
    found = [""] * len(rows)
    with predicting(model):
        for numbers in track(by_length(rows, batch_size)):
            targets = model.generate([rows[i] for i in numbers], **options)
            for number, ids in zip(numbers, targets.tolist(), strict=True):
                found[number] = written(tokenizer, ids)
    return found


def shortened(row: list[int], room: int) -> list[int]:
    """A row that fits, its last token, which ends a source, kept."""
    return row if len(row) <= room else [*row[: room - 1], row[-1]]
