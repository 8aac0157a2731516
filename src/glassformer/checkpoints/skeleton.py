"""A model without its weights: names, shapes and wiring."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.utils._device import DeviceContext

Model = TypeVar("Model")

# On the meta device there is nothing to draw, but the first `normal_` there imports 800 modules: 1.3 s and 75 MB.
DRAWS = {Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_}
DRAWS |= {draw for name, draw in vars(nn.init).items() if name.endswith("_") and not name.startswith("_")}


class _Undrawn(DeviceContext):
    """`with torch.device("meta")` that draws nothing; as one mode, since each costs microseconds at every call."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in DRAWS:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:  # one that was asked for on another device is filled as ever
                return tensor
        return super().__torch_function__(function, types, args, kwargs)


def skeleton(build: Callable[[], Model]) -> Model:
    """What `build()` makes, on the meta device: `skeleton(lambda: GPT2(config))` costs milliseconds at any size."""
    with _Undrawn("meta"):
        return build()
