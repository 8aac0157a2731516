"""The modules of a model by their paths, those too that PyTorch does not list."""

from collections.abc import Iterator

from torch import nn


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its path, the model itself first, under "".

    Keras 3 holds the layers of a layer in a list of its own, of which PyTorch knows only those that are attributes too.
    There a layer has the name of its attribute, and the one that Keras gives it where that is private or there is none,
    as in a functional or sequential model.
    """
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    for path, module in _walk(model, ""):
        if id(module) not in seen:
            seen.add(id(module))
            found[path] = module
    return found


def _walk(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    yield path, module
    for name, child in _children(module):
        yield from _walk(child, f"{path}.{name}".lstrip("."))


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Those that PyTorch knows; in Keras, first those with a name for the public, then Keras's own list."""
    known: list[tuple[str, nn.Module]] = list(module.named_children())
    layers = getattr(module, "_layers", None)
    if not isinstance(layers, list):
        return known
    named = [layer for layer in layers if isinstance(layer, nn.Module) and hasattr(layer, "name")]
    own = [(str(layer.name), layer) for layer in named]
    private = [(name, child) for name, child in known if name.startswith("_")]
    return [each for each in known if each not in private] + own + private


def module_at(model: nn.Module, path: str) -> nn.Module:
    """The module at a path that `modules_of` knows; KeyError where there is none."""
    return modules_of(model)[path]
