"""Prompts, as they come, made into one batch: checked, and padded where their lengths differ."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

Prompts = Tensor | Sequence[int] | Sequence[Sequence[int]]


def batch_prompts(
    prompts: Prompts,
    attention_mask: Shaped[Tensor, "*b t"] | None,
    *,
    vocab_size: int,
    padding: int,
    device: torch.device,
    continued: bool = True,
) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"] | None]:
    """The ids as one tensor, and which of them are real; None where all are.

    `prompts` is a tensor (b, t) or (t), one list of ids, or a list of such lists, of any lengths. What is continued has
    its padding on the left; what is only read, the source of a translation, gets it on the right, and may have it
    anywhere.

    Raises:
        ValueError: for an empty prompt, an id outside the vocabulary, a mask of another shape, or padding at the end of
            what is continued.
        TypeError: for ids that are not integers.
    """
    if isinstance(prompts, Tensor):
        ids, present = _from_tensor(prompts), None
    else:
        if attention_mask is not None:
            raise ValueError("attention_mask goes with a tensor of ids; lists of ids are padded here")
        ids, present = _from_lists(prompts, padding, left=continued)
    if attention_mask is not None:
        present = _from_mask(attention_mask, ids, continued)
    low, high = ids.aminmax()
    if low < 0 or high >= vocab_size:
        row, column = ((ids < 0) | (ids >= vocab_size)).nonzero()[0].tolist()
        raise ValueError(f"prompt {row} holds the id {int(ids[row, column])} at place {column}; the vocabulary has "
                         f"{vocab_size} ids, 0 to {vocab_size - 1}")  # fmt: skip
    if present is not None and bool(present.all()):
        present = None
    return ids.to(device, torch.int64), None if present is None else present.to(device)


def _from_tensor(ids: Tensor) -> Int[Tensor, "b t"]:
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"input_ids has dtype {ids.dtype}; expected torch.int64 token ids")
    if ids.ndim not in (1, 2):
        raise ValueError(f"input_ids has shape {tuple(ids.shape)}; expected (batch, tokens) or (tokens)")
    if 0 in ids.shape:
        raise ValueError(f"the prompt is empty: input_ids has shape {tuple(ids.shape)}; give at least one token")
    return ids if ids.ndim == 2 else ids[None]


def _from_lists(
    prompts: Sequence[int] | Sequence[Sequence[int]], padding: int, *, left: bool
) -> tuple[Tensor, Tensor | None]:
    if isinstance(prompts, str):
        raise TypeError("the prompt is text; encode it with the model's tokenizer, or use generate_text")
    nested = len(prompts) > 0 and not isinstance(prompts[0], int)
    nests: Any = prompts if nested else [prompts]
    rows = [[_as_id(value) for value in row] for row in nests]
    for i, row in enumerate(rows):
        if not row:
            raise ValueError(f"prompt {i} is empty; give at least one token to continue")
    longest = max(map(len, rows))
    fill = [[padding] * (longest - len(row)) for row in rows]
    ids = torch.tensor([pads + row if left else row + pads for pads, row in zip(fill, rows, strict=True)])
    lengths = torch.tensor([[len(row)] for row in rows])
    places = torch.arange(longest)
    return ids, places >= longest - lengths if left else places < lengths


def _as_id(value: Any) -> int:
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_floating_point():
        return int(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"a prompt holds {value!r}, a {type(value).__name__}; expected token ids (int)")
    return value.__index__()


def _from_mask(mask: Tensor, ids: Tensor, continued: bool) -> Bool[Tensor, "b t"]:
    mask = mask[None] if mask.ndim == 1 else mask
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask has shape {tuple(mask.shape)}; expected {tuple(ids.shape)}, as input_ids")
    present = mask.to(ids.device) != 0
    for row in (~present[:, -1]).nonzero()[:, 0].tolist():
        if not bool(present[row].any()):
            raise ValueError(f"prompt {row} is empty: its attention_mask is all 0")
        if continued:
            raise ValueError(f"attention_mask ends with padding in row {row}; pad prompts on the left to continue them")
    return present
