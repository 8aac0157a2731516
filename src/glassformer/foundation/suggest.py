"""The nearest right name for a wrong one."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`" (did you mean 'num_layers'?)"` where an option is near, else all options: the end of an error message."""
    options = list(options)
    near = get_close_matches(name, options, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else f" (choose from {', '.join(sorted(options))})"
