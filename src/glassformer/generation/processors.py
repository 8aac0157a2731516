"""What is done to logits before a token is chosen: small objects, `logits = processor(ids, logits)`.

Each equals the one of the same meaning in `transformers`, and theirs may be used in place of ours.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

REMOVED = float("-inf")


class LogitsProcessor(Protocol):
    """Takes the ids so far and the next token's logits; returns the changed logits, the given ones left as they are."""

    def __call__(self, ids: Int[Tensor, "b t"], logits: Float[Tensor, "b v"], /) -> Float[Tensor, "b v"]: ...


@dataclass(frozen=True)
class RepetitionPenalty:
    """z / penalty where z > 0, z · penalty where z < 0, for each token that has been said (Keskar et al. 2019, 4.1)."""

    penalty: float

    def __call__(self, ids: Int[Tensor, "b t"], logits: Float[Tensor, "b v"], /) -> Float[Tensor, "b v"]:
        said = logits.gather(1, ids)
        return logits.scatter(1, ids, torch.where(said < 0, said * self.penalty, said / self.penalty))


@dataclass(frozen=True)
class NoRepeatNGram:
    """No run of `size` tokens twice: what would complete one that was said is removed (Paulus et al. 2017, 2.5)."""

    size: int

    def __call__(self, ids: Int[Tensor, "b t"], logits: Float[Tensor, "b v"], /) -> Float[Tensor, "b v"]:
        if ids.shape[1] < self.size:
            return logits
        runs, begun = ids.unfold(1, self.size, 1), ids[:, ids.shape[1] - self.size + 1 :]
        rows, places = (runs[..., :-1] == begun[:, None]).all(-1).nonzero(as_tuple=True)
        logits = logits.clone()
        logits[rows, runs[rows, places, -1]] = REMOVED
        return logits


@dataclass(frozen=True)
class MinLength:
    """None of the tokens `ends` before there are `length` ids."""

    length: int
    ends: tuple[int, ...]

    def __call__(self, ids: Int[Tensor, "b t"], logits: Float[Tensor, "b v"], /) -> Float[Tensor, "b v"]:
        if ids.shape[1] >= self.length:
            return logits
        return logits.index_fill(1, torch.tensor(self.ends, device=logits.device), REMOVED)


@dataclass(frozen=True)
class ForcedToken:
    """Behind `length` ids only `token` stays, and is certain: what a text has to begin or to end with."""

    length: int
    token: int

    def __call__(self, ids: Int[Tensor, "b t"], logits: Float[Tensor, "b v"], /) -> Float[Tensor, "b v"]:
        if ids.shape[1] != self.length:
            return logits
        forced = torch.full_like(logits, REMOVED)
        forced[:, self.token] = 0.0
        return forced


@dataclass(frozen=True)
class Temperature:
    """z / temperature: below 1 sharper, above 1 flatter (Ackley et al. 1985)."""

    temperature: float

    def __call__(self, ids: Int[Tensor, "b t"], logits: Float[Tensor, "b v"], /) -> Float[Tensor, "b v"]:
        if self.temperature < 1e-3:  # the same distribution, and nothing overflows
            return (logits - logits.amax(-1, keepdim=True)) / max(self.temperature, 1e-30)
        return logits / self.temperature


@dataclass(frozen=True)
class TopK:
    """Only the `k` most probable tokens stay, with all that tie with the last of them (Fan et al. 2018, 5.4)."""

    k: int

    def __call__(self, ids: Int[Tensor, "b t"], logits: Float[Tensor, "b v"], /) -> Float[Tensor, "b v"]:
        smallest = logits.topk(min(self.k, logits.shape[-1])).values[:, -1:]
        return logits.masked_fill(logits < smallest, REMOVED)


@dataclass(frozen=True)
class TopP:
    """Only the smallest set of most probable tokens with mass ≥ `p` stays, one at least (Holtzman et al. 2020, 3.1).

    Of tokens that tie at the edge of the set, those with the smaller ids stay: p = 0 is greedy search.
    """

    p: float

    def __call__(self, ids: Int[Tensor, "b t"], logits: Float[Tensor, "b v"], /) -> Float[Tensor, "b v"]:
        total = logits.double().logsumexp(-1, keepdim=True)
        # The set is small as a rule, and sorting a whole vocabulary takes longer than many a model's forward pass.
        for width in (min(256, logits.shape[-1]), min(4096, logits.shape[-1]), logits.shape[-1]):
            largest = logits.topk(width).values
            probabilities = (largest.double() - total).exp()
            mass = probabilities.cumsum(-1)
            if bool((mass[:, -1] >= self.p).all()):
                break
        # A token stays while the mass before it is less than p.
        size = ((mass - probabilities) < self.p).sum(-1, keepdim=True).clamp(min=1)
        edge = largest.gather(1, size - 1)
        stays = logits >= edge
        if bool((stays.sum(-1, keepdim=True) > size).any()):
            ties = logits == edge
            wanted = size - (logits > edge).sum(-1, keepdim=True)
            stays &= ~ties | (ties.cumsum(-1) <= wanted)
        return logits.masked_fill(~stays, REMOVED)


@dataclass(frozen=True)
class MinP:
    """Only tokens at least `p` times as probable as the most probable one stay (Nguyen et al. 2024, section 3)."""

    p: float

    def __call__(self, ids: Int[Tensor, "b t"], logits: Float[Tensor, "b v"], /) -> Float[Tensor, "b v"]:
        probabilities = logits.softmax(-1)
        return logits.masked_fill(probabilities < self.p * probabilities.amax(-1, keepdim=True), REMOVED)
