"""Beam search: at each step keep the few continuations that are most probable as a whole."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassformer.generation.choose import check_finite
from glassformer.generation.options import GenerationOptions
from glassformer.generation.step import one_step

FAR = -1e9
"""Added to the score of what is no hypothesis yet, or no more. It is finite: where a forced token leaves fewer
hypotheses than beams, copies fill up, and nothing forbidden, whose score is −∞. So it is with `transformers`."""


@torch.inference_mode()
def beam_search(
    model: Any,
    prompts: Int[Tensor, "b t"],
    present: Bool[Tensor, "b s"] | None,
    options: GenerationOptions,
    new: int,
) -> Int[Tensor, "rows n"]:
    """The `num_return_sequences` best continuations of each prompt, best first: (b · num_return_sequences, s).

    A hypothesis has ended when it has said an end token or is `new` tokens long. It is worth log p divided by its
    length, in new tokens, to the power of `length_penalty`. A prompt's search is over when as many hypotheses have
    ended as there are beams and, unless `early_stopping`, no open one is worth more, by its present length, than the
    worst of them; "never" takes the length at which it would be worth most. The rule is that of `transformers`.
    """
    (b, t), n, total = prompts.shape, options.num_beams, prompts.shape[1] + new
    processors, eos = options.logits_processors(t), torch.tensor(options.eos_tokens, device=prompts.device)
    open_ids = prompts.new_full((b, n, total), options.padding)
    open_ids[:, :, :t] = prompts[:, None]
    open_scores = torch.full((b, n), FAR, device=prompts.device)
    open_scores[:, 0] = 0.0  # all beams begin equal: only one of them may be continued
    ended_ids, ended_scores = open_ids.clone(), torch.full_like(open_scores, FAR)
    ended = torch.zeros((b, n), dtype=torch.bool, device=prompts.device)
    ended_lengths = torch.full((b, n), t, device=prompts.device)
    searching = torch.ones(b, 1, dtype=torch.bool, device=prompts.device)
    present = None if present is None else present.repeat_interleave(n, 0)
    identity = torch.arange(b * n, device=prompts.device)
    advance, fed = one_step(model, cache := model.new_cache(b * n, total), capture=options.capture), 0
    for length in range(t, total):
        ids = open_ids.flatten(0, 1)[:, :length]
        mask = None if present is None else present[:, :length]
        logits = model.head(advance(ids[:, fed:], mask)).float()
        check_finite(logits)
        fed, log_p = length, logits.log_softmax(-1)
        for processor in processors:
            log_p = processor(ids, log_p)
        # (1 + number of end tokens) · n candidates: if all ends are among them, n are left to go on.
        scores, beams, tokens = _best(log_p.unflatten(0, (b, n)) + open_scores[..., None], max(2, 1 + len(eos)) * n)
        candidates = _rows(open_ids, beams)
        candidates[:, :, length] = tokens
        power = float(length + 1 - t) ** options.length_penalty
        ends = torch.isin(tokens, eos) if length + 1 < total else torch.ones_like(tokens, dtype=torch.bool)
        counts = ends & searching
        counts[:, n:] = False  # an end that is not among the n best candidates is dropped
        worth = scores / power + FAR * ~counts
        ended_scores, best = torch.cat([ended_scores, worth], 1).topk(n)
        ended = torch.cat([ended, counts], 1).gather(1, best)
        ended_ids = _rows(torch.cat([ended_ids, candidates], 1), best)
        ended_lengths = torch.cat([ended_lengths, torch.full_like(tokens, length + 1)], 1).gather(1, best)
        open_scores, best = (scores + FAR * ends).topk(n)
        open_ids = _rows(candidates, best)
        best_power = max(power, float(new) ** options.length_penalty) if options.early_stopping == "never" else power
        better = open_scores[:, :1] / best_power > ended_scores[:, -1:]
        searching &= better & ~ended.all(-1, keepdim=True) if options.early_stopping is True else better
        if not bool(searching.any()):
            break
        rows = (beams.gather(1, best) + identity[::n, None]).flatten()
        if not torch.equal(rows, identity):
            cache.reorder(rows)
    kept = options.num_return_sequences
    return ended_ids[:, :kept].flatten(0, 1)[:, : int(ended_lengths[:, :kept].max())]


def _best(scores: Float[Tensor, "b n v"], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` largest of all beams together: their scores, beams and tokens, (b, count) each."""
    values, places = scores.flatten(1).topk(min(count, scores[0].numel()))
    return values, places // scores.shape[-1], places % scores.shape[-1]


def _rows(ids: Int[Tensor, "b n s"], beams: Int[Tensor, "b m"]) -> Int[Tensor, "b m s"]:
    return ids.take_along_dim(beams[..., None], 1)
