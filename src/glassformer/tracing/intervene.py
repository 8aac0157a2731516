"""Read a model's activations by name, put others in their place, and ask what each layer would say already."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.models.language_model import LanguageModel
from glassformer.ops.attend import reference
from glassformer.parts.kernels import ATTENTIONS
from glassformer.tracing.modules import module_at
from glassformer.tracing.patterns import activation_names, matching, require_seen, resolve
from glassformer.tracing.values import shape_text, tensors_in

Change = Tensor | Callable[[Tensor], Tensor]


def record(model: nn.Module, names: str | Sequence[str], *inputs: Any, **kwargs: Any) -> dict[str, Tensor]:
    """Run `model(*inputs, **kwargs)` once and return copies of the named activations, without gradients.

    Names and patterns are those of `activation_names`; the result has them in the order of the model's modules. Of a
    module that is called several times the last call counts, of several tensors the first. The model runs in the mode
    that it is in. Layers of ours whose attention weights are asked for have the reference kernel meanwhile.

    Raises ValueError for a name that the model has not, with the nearest, and for one that recorded nothing (for a
    pattern, if nothing that it means did).
    """
    found = resolve(names, activation_names(model))
    seen: dict[str, Tensor] = {}

    def note(name: str, value: Any) -> None:
        first = next(tensors_in(value), None)
        if first is not None:
            seen[name] = first.detach().clone()

    with ExitStack() as stack:
        for name in found:
            if _is_tap(model, name):
                stack.enter_context(_weights_formed(module_at(model, name.rpartition(".")[0])))
            stack.callback(_hooked(model, name, note).remove)
        model(*inputs, **kwargs)
    require_seen(names, seen)
    return {name: seen[name] for name in found if name in seen}


def _hooked(model: nn.Module, name: str, note: Callable[[str, Any], None]) -> Any:
    if name.endswith(".input"):
        module = module_at(model, name.removesuffix(".input"))
        return module.register_forward_pre_hook(lambda _m, args, kwargs: note(name, (args, kwargs)), with_kwargs=True)
    return module_at(model, name).register_forward_hook(lambda _m, _args, out: note(name, out))


def _is_tap(model: nn.Module, name: str) -> bool:
    """Whether a name is that of the attention weights of a layer of ours."""
    owner, _, last = name.rpartition(".")
    return last == "weights" and isinstance(module_at(model, owner), ATTENTIONS)


@contextmanager
def patch(model: nn.Module, changes: Mapping[str, Change]) -> Iterator[nn.Module]:
    """While entered, the named activations are replaced: by a tensor of the same shape, or by what a function makes.

        with patch(model, {"blocks.3.attention": lambda x: x * 0}):
            ablated = model(ids).logits

    This is activation patching (Vig et al. 2020, section 3; Meng et al. 2022, section 2.1): run on one input, record;
    run on another with a part of the first's activations; see how much of the answer follows. Gradients flow through a
    function, and into a tensor that asks for them. Names may be patterns; every call of a module is changed. Attention
    weights (`blocks.3.attention.weights`) are changed before they meet the values, by the reference kernel.

    Raises ValueError for a name that the model has not, for a replacement of another shape, and at the end for a name
    whose module was never called; TypeError for a module that gives no tensor to replace.
    """
    names = activation_names(model)
    chosen = {name: change for pattern, change in changes.items() for name in resolve(pattern, names)}
    used: set[str] = set()
    with ExitStack() as stack:
        for name, change in chosen.items():
            if _is_tap(model, name):
                layer = module_at(model, name.rpartition(".")[0])
                stack.enter_context(_kernel(layer, _ChangedWeights(name, change, used)))
            else:
                stack.callback(_changed(model, name, change, used).remove)
        yield model
    unused = next((pattern for pattern in changes if not matching(pattern, used)), None)
    if unused is not None:
        raise ValueError(f"{unused!r} was never reached while it was patched: nothing was replaced")


def _changed(model: nn.Module, name: str, change: Change, used: set[str]) -> Any:
    if not name.endswith(".input"):
        return module_at(model, name).register_forward_hook(lambda _m, _a, out: _replaced(name, out, change, used))

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (_replaced(name, args[0], change, used), *args[1:]), kwargs
        first = next(iter(kwargs), None)
        return None if first is None else ((), kwargs | {first: _replaced(name, kwargs[first], change, used)})

    module = module_at(model, name.removesuffix(".input"))
    return module.register_forward_pre_hook(before, with_kwargs=True)


def _replaced(name: str, value: Any, change: Change, used: set[str]) -> Any:
    """The value, its first tensor replaced; tuples and lists keep the rest."""
    if isinstance(value, tuple | list) and value and isinstance(value[0], Tensor):
        return type(value)((_replaced(name, value[0], change, used), *value[1:]))
    if not isinstance(value, Tensor):
        raise TypeError(f"{name!r} is a {type(value).__name__}, not a tensor; it cannot be replaced")
    new = change(value) if callable(change) and not isinstance(change, Tensor) else change
    if not isinstance(new, Tensor) or new.shape != value.shape:
        given = f"has shape {shape_text(tuple(new.shape))}" if isinstance(new, Tensor) else f"is a {type(new).__name__}"
        raise ValueError(
            f"the replacement of {name!r} {given}; expected a tensor of shape {shape_text(tuple(value.shape))}"
        )
    used.add(name)
    return new


class _ChangedWeights:
    """A kernel that forms the weights, changes them, and uses them."""

    def __init__(self, name: str, change: Change, used: set[str]) -> None:
        self.name, self.change, self.used = name, change, used

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, dropout: float, **options: Any) -> tuple[Tensor, Tensor]:
        _, weights = reference(q, k, v, dropout=0.0, **options)
        weights = _replaced(self.name, weights, self.change, self.used)
        v = v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)
        return F.dropout(weights, dropout).to(v.dtype) @ v, weights


@contextmanager
def _kernel(layer: Any, kernel: Any) -> Iterator[None]:
    before = layer.kernel
    layer.kernel = kernel
    try:
        yield
    finally:
        layer.kernel = before


def _weights_formed(layer: Any) -> AbstractContextManager[None]:
    """While entered, a layer of ours forms its weights: those that a patch has changed, or the reference kernel's."""
    return nullcontext() if isinstance(layer.kernel, _ChangedWeights) else _kernel(layer, reference)


@torch.no_grad()
def logit_lens(model: LanguageModel, input_ids: Int[Tensor, "b t"], **kwargs: Any) -> Float[Tensor, "layers b t v"]:
    """What the model would predict were each layer the last: head(norm(x)) of x after each block (nostalgebraist 2020).

    Layer i is block i; the last layer is the model's own logits, to rounding. `kwargs` go to the model.

    Raises TypeError for what is not one of our decoders, ValueError where the model does more between its last block
    and its logits than a norm and the head.
    """
    if not isinstance(model, LanguageModel) or not hasattr(model, "blocks"):
        raise TypeError(f"logit_lens reads decoders with blocks, and {type(model).__name__} is none")
    path = f"blocks.{len(model.blocks) - 1}"  # pyright: ignore[reportArgumentType]
    logits: Tensor | None = None

    def note(_name: str, out: Any) -> None:
        nonlocal logits
        logits = out

    handle = _hooked(model, "head", note)
    try:
        seen = record(model, "blocks.*", input_ids, **kwargs)
    finally:
        handle.remove()
    hidden = [value for name, value in seen.items() if not name.endswith(".input")]
    norm = getattr(model, "norm", None) or nn.Identity()
    layers = torch.stack([model.head(norm(x)) for x in hidden])
    if logits is None or not torch.allclose(layers[-1], logits, rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"{type(model).__name__} does more after {path} than a norm and the head; it has no logit lens"
        )
    return layers
