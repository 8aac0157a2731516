"""A step of decoding, captured and replayed: the same calls of PyTorch, without the Python between them.

With one token to compute, much of a step is not arithmetic but modules, shapes and choices that come out the same at
every token. So the step is watched while it runs as it is, at lengths n and n + 1; what it called is written down as a
program, a line for each call, and from then on the program is run. A CUDA graph does the same for a GPU.

    t9, t10, t11, = split(t8, [512, 512, 512], dim=-1)
    t15 = view(t10, 1, 1, -1, 64)
    __setitem__(key, (slice(None), slice(None), slice(n, n + 1)), t15)
    …

The second time the cache's length, and what of shapes has grown, are `Length`s: they carry how they grow through sums
and products, and write down each comparison that Python makes of them. A number that was the same twice is a constant,
a `Length` is a·n + b; anything else ends the attempt. Where a comparison would come out differently, at the edge of a
window say, the program ends, and another is captured beyond it. Where Python looks at a value, the program looks too,
and where it finds another one the step is done as it is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from glassformer.generation.capture import WORTH, Capture, StepProgram, Unsteady, program
from glassformer.generation.length import Length
from glassformer.parts.linear import listened

KNOWN = ("glassformer.", "torch.nn.")


class CapturedStep:
    """`step(*inputs)`, which writes to `cache` and gives a tensor; from some call on as a captured program.

    The inputs are tensors or None, those of one new token for each row. A step writes to the cache behind its length
    and nowhere else, so that it can be begun again. What cannot be captured is called as it is, such as the choice of
    experts, which depends on values.
    """

    def __init__(self, step: Callable[..., Tensor], cache: Any) -> None:
        self.step, self.cache = step, cache
        self.program: StepProgram | None = None
        self._first: Capture | None = None  # of two
        self._pause, self._next_pause = 1, 4  # steps to the next attempt: the first step packs weights

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        n = self.cache.length
        if n == 0 or inputs[0] is None or inputs[0].shape[1] != 1:
            return self.step(*inputs)
        if self.program is not None and self.program.start <= n < self.program.end:
            out = self.program.run(n, *inputs)
            if out is not None:
                self.cache.advance(1)
                return out
            self._wait()
        self.program = None
        if self._pause > 0 or self.cache.capacity - n <= WORTH + 1:  # the second of two is one further
            self._pause = max(0, self._pause - 1)
            return self.step(*inputs)
        return self._captured(n, inputs)

    def _captured(self, n: int, inputs: Sequence[Tensor | None]) -> Tensor:
        """The step as it is, watched."""
        first = self._first if self._first is not None and self._first.n == n - 1 else None  # not if truncated since
        capture = Capture(n, first, inputs)
        try:
            if first is not None:
                self.cache.length = Length(n, 1, capture.watch)
            with capture:
                out = self.step(*inputs)
        finally:
            self.cache.length = int(self.cache.length)
        self._first = capture if first is None else None
        if first is not None:
            try:
                self.program = program((first, capture), out, self.cache.capacity)
            except Unsteady as error:
                self._wait(error.steps)
        return out

    def _wait(self, steps: int | None = None) -> None:
        """So many steps to the next attempt; where it is not known, longer each time."""
        self._pause = steps or self._next_pause
        self._next_pause *= 1 if steps else 4


def one_step(model: Any, cache: Any, *, capture: bool = True) -> Callable[[Tensor, Tensor | None], Tensor]:
    """The function (ids (b, t), mask) → the last hidden state (b, d), ready for the head, which writes to `cache`."""

    def step(ids: Tensor, mask: Tensor | None) -> Tensor:
        return model.hidden(ids, mask, cache=cache)[:, -1]

    return CapturedStep(step, cache) if capture and _steady(model) else step


def _steady(model: Any) -> bool:
    """Whether the calls of a model are all that there is to it: nobody listens, nothing is compiled or cast.

    And whether its modules are those of this library, which ask of a length what a `Length` can write down. It cannot
    know of `range(n)` or `names[n]`, so modules from elsewhere are called as they are.
    """
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        return False
    if torch.overrides._get_current_function_mode_stack() or is_in_torch_dispatch_mode():
        return False
    return all(
        type(each).__module__.startswith(KNOWN) and not listened(each) and each._compiled_call_impl is None
        for each in model.modules()
    )
