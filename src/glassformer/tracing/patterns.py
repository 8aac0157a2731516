"""Names of activations: what a pattern such as `blocks.*.attention.weights` means in a model."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from torch import nn

from glassformer.tracing.modules import modules_of

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)

CANONICAL: dict[str, str] = {
    "embed": "the token's vectors (b, t, d)",
    "blocks.*.input": "the residual stream before a block (b, t, d)",
    "blocks.*": "the residual stream after it (b, t, d)",
    "blocks.*.attention_norm": "normalised for attention, or after it where norms come last (b, t, d)",
    "blocks.*.attention.query": "queries of all heads, one behind another (b, t, h·k)",
    "blocks.*.attention.key": "keys (b, s, g·k)",
    "blocks.*.attention.value": "values (b, s, g·k)",
    "blocks.*.attention.weights": "the attention weights of each head (b, h, t, s), before dropout",
    "blocks.*.attention.output.input": "what the heads give, one behind another (b, t, h·k)",
    "blocks.*.attention": "what attention gives, before dropout (b, t, d)",
    "blocks.*.cross_attention": "the same, of the decoder's look at the source; its parts as above",
    "blocks.*.feed_forward_norm": "normalised for the feed-forward layer, or after it (b, t, d)",
    "blocks.*.feed_forward.up": "the hidden layer before its activation (b, t, m)",
    "blocks.*.feed_forward.gate": "its gate before the activation, where it is gated (b, t, m)",
    "blocks.*.feed_forward.down.input": "the hidden layer (b, t, m)",
    "blocks.*.feed_forward": "what the feed-forward layer gives (b, t, d)",
    "norm": "after the last norm, where there is one (b, t, d)",
    "head": "the logits (b, t, v)",
}
"""The words that our text models share, and what they mean; queries and keys before any rotation or norm of theirs."""


def activation_names(model: nn.Module) -> list[str]:
    """Every name that `record`, `patch` and `xray(keep=...)` take for this model, in the order of its modules.

    `PATH` is what the module at that path gives, `PATH.input` what it is given first. Whether a module is called by its
    model, and gives a tensor, only a run can tell: a name that recorded nothing is an error there.
    """
    paths = [name for name, module in modules_of(model).items() if name and not isinstance(module, CONTAINERS)]
    return [name for path in paths for name in (path, f"{path}.input")]


def resolve(patterns: str | Iterable[str], names: Sequence[str]) -> list[str]:
    """The names that the patterns mean, in the order of `names`; `*` stands for one part, `**` for any number of them.

    Raises ValueError for a pattern that means none, with the nearest names.
    """
    wanted: set[str] = set()
    for pattern in listed(patterns):
        found = matching(pattern, names)
        if not found:
            raise ValueError(f"no activation is called {pattern!r}{_nearest(pattern, names)}")
        wanted.update(found)
    return [name for name in names if name in wanted]


def listed(patterns: str | Iterable[str]) -> list[str]:
    """Several patterns, or one."""
    return [patterns] if isinstance(patterns, str) else list(patterns)


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a pattern means."""
    rule = re.escape(pattern).replace(r"\*\*", ".+").replace(r"\*", "[^.]+")
    return [name for name in names if re.fullmatch(rule, name)]


def require_seen(patterns: str | Iterable[str], seen: Iterable[str]) -> None:
    """Raise ValueError for a pattern none of whose names came up in a run."""
    seen = list(seen)
    for pattern in listed(patterns):
        if not matching(pattern, seen):
            raise ValueError(f"{pattern!r} recorded nothing: this run did not call that module, or it gave no tensor")


def _nearest(pattern: str, names: Sequence[str]) -> str:
    numbered = any(part.isdigit() for part in pattern.split("."))
    options = names if numbered else list(dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names))
    near = get_close_matches(pattern, options, n=3, cutoff=0.5)
    return f" (the nearest are {', '.join(near)})" if near else f" (there are {', '.join(options[:8])}, ...)"
