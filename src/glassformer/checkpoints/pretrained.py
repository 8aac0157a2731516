"""`Model.from_pretrained` and `model.save_pretrained`: Hugging Face folders, both ways, tensor by tensor."""

import os
from abc import ABC
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from glassformer.checkpoints import looked
from glassformer.checkpoints.config import ConfigTable, check_modules
from glassformer.checkpoints.files import TensorFile
from glassformer.checkpoints.folders import CONFIG, TensorFolder, read_json, weight_files, write_folder, write_json
from glassformer.checkpoints.hub import resolve
from glassformer.checkpoints.looked import is_finite
from glassformer.checkpoints.skeleton import skeleton
from glassformer.checkpoints.table import Table, Translation, load, save
from glassformer.foundation.atomic import atomic_update

READ = 2**26  # bytes of the files that are read before their pages are let go


class Pretrained(ABC):
    """For an `nn.Module` built from one config: reading and writing Hugging Face folders.

    A model declares `config_table`, and `table`, or a function from its config to the table where the names depend on
    it, and in `optional` the submodules and buffers that a folder may lack: they are then None. Other buffers that no
    file holds are computed when needed, or set by a method `reset_buffers(device)` of the submodule that has them.
    """

    config: Any
    config_table: ClassVar[ConfigTable]
    table: ClassVar[Table | Callable[[Any], Table]]
    optional: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | os.PathLike[str],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        allow_nonfinite: bool = False,
    ) -> Self:
        """The model of a folder, or of a hub id (`openai-community/gpt2`), in eval mode.

        Its weights are the file's own pages, read when they are used. Large ones that the file has turned (GPT-2's)
        are views, in the file's order, until `train()` lays them out.

        Args:
            path_or_id: a folder with `config.json` and safetensors, single or sharded; or a hub id.
            dtype: of the parameters; None keeps the file's (its tensors must then agree).
            device: of the parameters; None is the CPU.
            allow_nonfinite: take NaN and infinities too, which are looked for when a file is opened for the first time.

        Raises:
            OSError: there is no such folder or model. ValueError: the folder is not one of this model, its config asks
            for what is not implemented, or its weights are missing, damaged, or do not fit the config.
        """
        check_placement(dtype, device)
        folder = resolve(path_or_id)
        attributes, weights = read_config(folder, cls), TensorFolder(folder)
        config = cls.settled(read_as(folder, cls, attributes, weights), weights)
        with torch.inference_mode(False):  # parameters that can be trained, and whose changes kernels can see
            model: Any = built(folder, cls, config)
            tensors = load(weights, cls._table(config))
            for part in cls.optional:
                if not any(f"{name}.".startswith(f"{part}.") for name in tensors):
                    path, _, last = part.rpartition(".")
                    setattr(model.get_submodule(path), last, None)
            check_fit(model, tensors.of(weights.meta()), folder, dtype, cls._table(config))
            fill(model, tensors, weights, dtype=dtype, device=device or "cpu", allow_nonfinite=allow_nonfinite)
        return model.eval()

    @classmethod
    def settled(cls, config: Any, weights: Mapping[str, Tensor]) -> Any:
        """The config, where the weights say what `config.json` leaves open."""
        return config

    def train(self, mode: bool = True) -> Self:
        """As in PyTorch. What is to learn lies in one piece, as in a model that was built; see `from_pretrained`."""
        assert isinstance(self, nn.Module)
        if mode:
            with torch.inference_mode(False):
                for parameter in self.parameters():
                    if not parameter.is_contiguous():
                        parameter.data = parameter.data.contiguous()
        return nn.Module.train(self, mode)

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        max_shard_bytes: int = 5_000_000_000,
        special_tokens: Mapping[str, Any] | None = None,
        digests: bool = True,
    ) -> None:
        """Write `config.json` and the weights so that `transformers` opens the folder.

        The folder's other files stay, earlier weights in it are replaced; an error leaves them as they were.

        Args:
            folder: made if it is not there.
            max_shard_bytes: more than this is written as several files with an index.
            special_tokens: for `config.json`, e.g. `{"eos_token_id": 50256}`.
            digests: write the SHA-256 of each tensor, by which a later load finds damage. Others ignore it.
        """
        assert isinstance(self, nn.Module)
        folder, table = Path(folder).expanduser(), self._table(self.config)
        state = self.state_dict()
        like = dict(save({name: tensor.to("meta") for name, tensor in state.items()}, table))
        dtypes = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
        dtype = str(dtypes.pop() if len(dtypes) == 1 else torch.float32).removeprefix("torch.")
        config = self.config_table.save(self.config, dtype=dtype, special_tokens=special_tokens)
        stale = weight_files(folder) if folder.is_dir() else []
        with atomic_update(folder, last=CONFIG, stale=stale) as beside:
            write_folder(beside, save(state, table), like, max_shard_bytes=max_shard_bytes, digests=digests)
            write_json(beside / CONFIG, config)

    @classmethod
    def _table(cls, config: Any) -> Table:
        return cls.table(config) if callable(cls.table) else cls.table


def check_placement(dtype: Any, device: Any) -> None:
    """Raise TypeError or ValueError for what weights cannot be, or where they cannot be."""
    if not isinstance(dtype, torch.dtype | None):
        raise TypeError(f"dtype is {dtype!r}, a {type(dtype).__name__}; expected one such as torch.bfloat16, or None")
    if dtype is not None and not fits(dtype, torch.float32):
        raise ValueError(f"dtype is {dtype}; expected a float of 16, 32 or 64 bits, or None for the file's own")
    try:
        place = torch.device("cpu" if device is None else device).type
    except RuntimeError as error:
        raise ValueError(f"device is {device!r}; expected a name such as 'cpu', 'cuda' or 'cuda:1'") from error
    if place == "meta":
        raise ValueError("device is 'meta', where no weights can lie; a model without them is built by "
                         "'with torch.device(\"meta\"): create_model(NAME)'")  # fmt: skip


def read_as(folder: Path, opener: type[Pretrained], attributes: Mapping[str, Any], weights: TensorFolder) -> Any:
    """A folder's config, as the opener has it. ValueError naming the folder for what it cannot have."""
    table = opener.config_table
    try:
        check_modules(attributes, len(weights))
        return table.load(attributes)
    except ValueError as error:
        strange = set(attributes.get("architectures") or ()) - {*table.architectures, *table.within}
        way = f" ({opener.__name__}.on(...) puts a new head on what is trained)" if hasattr(opener, "on") else ""
        raise ValueError(f"{folder}: {error}{way if strange else ''}") from error


def read_config(folder: Path, *openers: type[Pretrained]) -> dict[str, Any]:
    """A folder's `config.json`. ValueError where it has none, or is of a family that none of the openers opens."""
    if not (folder / CONFIG).is_file():
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise ValueError(f"{folder} has no {CONFIG}, so it is not a model's folder (it holds {there})")
    attributes = read_json(folder / CONFIG)
    if not isinstance(attributes.get("architectures", []), list | None):
        raise ValueError(
            f"{folder / CONFIG} has architectures={attributes['architectures']!r}; expected a list of names"
        )
    if not isinstance(family := attributes.get("model_type"), str):
        says = f"has model_type={family!r}" if "model_type" in attributes else "has no model_type"
        raise ValueError(f"{folder / CONFIG} {says}; expected the name of the family, such as 'gpt2', and its sizes")
    if not any(family in opener.config_table.model_types for opener in openers):
        names = ", ".join(sorted({name for opener in openers for name in opener.config_table.model_types}))
        opens = f"{openers[0].__name__} opens" if len(openers) == 1 else "these are opened:"
        raise ValueError(f"{folder} holds a {family!r} model; {opens} {names}")
    return attributes


def load_folder(
    path_or_id: str | os.PathLike[str], by_architecture: Mapping[str, type[Pretrained]], **options: Any
) -> Any:
    """The model of a folder or hub id, its class picked by its config's `architectures` (else by `model_type`)."""
    folder = resolve(path_or_id)
    classes = list(dict.fromkeys(by_architecture.values()))
    attributes = read_config(folder, *classes)
    fitting = [cls for cls in classes if attributes["model_type"] in cls.config_table.model_types]
    for architecture in attributes.get("architectures") or ():
        if architecture not in by_architecture:
            opened = ", ".join(sorted(name for name, cls in by_architecture.items() if cls in fitting))
            raise ValueError(f"{folder} holds a {architecture}; of this family these are opened: {opened}")
        return by_architecture[architecture].from_pretrained(folder, **options)
    if len(fitting) > 1:
        names = ", ".join(cls.__name__ for cls in fitting)
        raise ValueError(f"{folder}/{CONFIG} names no architectures; use from_pretrained of one of {names}")
    return fitting[0].from_pretrained(folder, **options)


def built(folder: Path, cls: Any, config: Any) -> nn.Module:
    """The model without weights: the file's tensors become its parameters."""
    try:
        return skeleton(lambda: cls(config))
    except (ArithmeticError, RuntimeError, ValueError) as error:  # no heads at all, more bytes than there are
        raise ValueError(f"{folder}: no {cls.__name__} can be built as its {CONFIG} says: {error}") from error


def check_fit(model: nn.Module, found: Translation, folder: Path, dtype: torch.dtype | None, table: Table) -> None:
    """Raise ValueError, before any tensor is read, where names, shapes or dtypes do not fit the model."""
    wanted = model.state_dict(keep_vars=True)
    if missing := [name for name in wanted if name not in found]:
        theirs = [name for name, parts in save(wanted, table).sources.items() if set(parts) & set(missing)]
        raise ValueError(f"{folder} lacks {listed(theirs)} (ours: {listed(missing)}), which its {CONFIG} asks for"
                         + about_head(model, missing))  # fmt: skip
    if unknown := [name for name in found if name not in wanted]:
        theirs = [found.sources[name][0] for name in unknown]
        raise ValueError(f"{folder} holds {listed(theirs)} (ours: {listed(unknown)}), more than its {CONFIG} says")
    for name, tensor in found.items():
        theirs = found.sources[name][0]
        if tensor.shape != wanted[name].shape:
            raise ValueError(
                f"{folder}: tensor {theirs!r} gives {name} the shape {tuple(tensor.shape)}, "
                f"but by {CONFIG} it is {tuple(wanted[name].shape)}"
            )
        if not fits(tensor.dtype, wanted[name].dtype):
            kinds = "floats of 16, 32 or 64 bits" if wanted[name].is_floating_point() else wanted[name].dtype
            raise ValueError(f"{folder}: tensor {theirs!r} is {tensor.dtype}; expected {kinds}")
    dtypes = {tensor.dtype: found.sources[name][0] for name, tensor in found.items() if tensor.is_floating_point()}
    if dtype is None and len(dtypes) > 1:
        each = ", ".join(f"{name!r} is {one}" for one, name in dtypes.items())
        raise ValueError(f"{folder} has weights of several dtypes ({each}); say which you want: dtype=torch.float32")


def about_head(model: Any, missing: list[str]) -> str:
    """What to do where nothing but a model's head is missing."""
    if any(name.partition(".")[0] != "head" for name in missing):
        return ""
    table: ConfigTable = model.config_table
    tie = next((theirs for theirs, ours in table.names.items() if ours == "tied"), None)
    tied = f", or set {tie} to true there if the head is the embedding" if tie and not model.config.tied else ""
    return f": the body without its head; save it with its head (as {table.architectures[0]}){tied}"


def fits(found: torch.dtype, wanted: torch.dtype) -> bool:
    """Floats fit floats, but for those of 8 bits, which mean nothing without their scales; others must be the same."""
    return found.is_floating_point and found.itemsize > 1 if wanted.is_floating_point else found == wanted


def fill(
    model: nn.Module,
    tensors: Translation,
    weights: TensorFolder,
    *,
    dtype: torch.dtype | None,
    device: torch.device | str,
    allow_nonfinite: bool,
) -> None:
    """Put the tensors, made of `weights`, in the places of a model built on the meta device, one by one."""
    modules, read = dict(model.named_modules(remove_duplicate=False)), 0
    finite = set(weights) if allow_nonfinite else looked.finite(used(weights, tensors))
    for name, stored in tensors.items():
        tensor = stored.to(dtype if stored.is_floating_point() else None)
        narrower = torch.promote_types(stored.dtype, tensor.dtype) != tensor.dtype  # what was finite may be no more
        if not finite.issuperset(tensors.sources[name]) or (narrower and not allow_nonfinite):
            check_finite(tensor, stored.dtype, tensors.sources[name][0], weights.folder)
        tensor = tensor.to(device)
        path, _, leaf = name.rpartition(".")
        put(modules[path], leaf, tensor if tensor is stored else tensor.contiguous())
        if (read := read + stored.nbytes) >= READ:
            weights.let_go()
            read = 0
    reset_buffers(model, torch.device(device))


def used(weights: TensorFolder, tensors: Translation) -> list[tuple[TensorFile, list[str]]]:
    """The folder's files, with the names of those of their tensors that the model is made of."""
    names = {source for sources in tensors.sources.values() for source in sources}
    return [(file, [name for name in file if name in names]) for file in weights.files]


def check_finite(tensor: Tensor, stored: torch.dtype, theirs: str, folder: Path) -> None:
    """Raise ValueError where the tensor holds NaN or infinity."""
    if not is_finite(tensor):
        cast = f", as {tensor.dtype}," if tensor.dtype != stored else ""
        raise ValueError(
            f"{folder}: tensor {theirs!r}{cast} holds NaN or infinity (allow_nonfinite=True takes it nevertheless)"
        )


def reset_buffers(model: nn.Module, device: torch.device) -> None:
    """Compute what no file holds of a model that was built on the meta device and has been filled.

    Raises RuntimeError where a tensor stays empty, ValueError where one is more than there is memory for.
    """
    modules = list(model.modules())
    for module in modules:
        reset = getattr(type(module), "reset_buffers", None)  # of the class: a module without it is slow to say so
        try:
            if reset is not None:
                reset(module, device)
        except (RuntimeError, MemoryError) as error:
            raise ValueError(f"the config of this {type(model).__name__} asks for a {type(module).__name__} that "
                             f"cannot be computed here: {error}") from error  # fmt: skip
    tensors = (tensor for module in modules for tensor in (*module._parameters.values(), *module._buffers.values()))
    if any(tensor is not None and tensor.is_meta for tensor in tensors):
        everything = [*model.named_parameters(), *model.named_buffers()]
        empty = [name for name, tensor in everything if tensor.is_meta]
        raise RuntimeError(f"no file fills {listed(empty)} of {type(model).__name__}: its module needs reset_buffers")


def put(module: nn.Module, leaf: str, tensor: Tensor) -> None:
    """Set one of a module's own parameters or buffers, keeping whether it takes a gradient."""
    old = module._parameters.get(leaf)
    if old is None:
        module._buffers[leaf] = tensor
    else:
        module._parameters[leaf] = nn.Parameter(tensor, requires_grad=old.requires_grad)


def listed(names: list[str]) -> str:
    """The first three of many names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
