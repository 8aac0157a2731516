"""A recipe: everything that decides a training run, as frozen dataclasses, from TOML and dotted overrides.

recipe = load_recipe("demo", {"model.num_layers": "6"})      # one that ships with the package, or a path
print(recipe.to_toml())                                      # resolved: every setting, defaults written out
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch

from glassformer.foundation.suggest import did_you_mean
from glassformer.models.catalog import MODELS
from glassformer.ops.attend import ATTEND
from glassformer.ops.cross_entropy import CROSS_ENTROPY
from glassformer.ops.linear import LINEAR, linear_kernel
from glassformer.ops.linear_quantized import Inference
from glassformer.parts import (
    ACTIVATIONS,
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    RotaryScaling,
    YarnScaling,
    use_kernels,
)
from glassformer.text.plain import read_text
from glassformer.training.blocks import zero_residuals
from glassformer.training.data import DATA, Data, Pictures, Texts
from glassformer.training.init import Init
from glassformer.training.optimizers import OPTIMIZERS, AdamWConfig, OptimizerConfig
from glassformer.training.schedules import SCHEDULES, Cosine, Schedule
from glassformer.training.settings import Location, Text, flatten, is_default, read, table_of, to_toml
from glassformer.training.tasks import TASKS, LanguageModelling, Task

D = TypeVar("D")


class ModelConfig(Protocol):
    """A model's own config dataclass; the [model] section's `name` says whose."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


SCALINGS = {"linear": LinearScaling, "dynamic": DynamicScaling, "llama3": Llama3Scaling, "yarn": YarnScaling}
CHOICES: dict[Any, dict[str, type]] = {
    ModelConfig: {name: model.config_table.config for name, model in MODELS.items()},
    OptimizerConfig: dict(OPTIMIZERS),
    Schedule: dict(SCHEDULES),
    RotaryScaling: dict(SCALINGS),
    Task: dict(TASKS),
    Data: dict(DATA),
}
MAY_BE_ZERO = ("seed", "_token_id")  # and what is 0 where nothing is said
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Training:
    """The [training] section."""

    steps: int = 1000
    seed: int = 0
    device: str = "auto"  # cuda where there is one, else cpu
    precision: str = "float32"  # or bfloat16: products in it by autocast, parameters stay float32
    micro_batch_size: int | None = None  # rows at a time; the gradients add up to those of the whole batch
    clip_norm: float | None = 1.0
    zero_init: bool = False  # every block starts as the identity: its output projections are 0
    checkpoint_activations: bool = False  # forget them in the forward pass, compute them again in the backward
    compile: bool = False
    attend: str | None = None  # kernels; none: what the layers choose themselves
    linear: str | None = None
    cross_entropy: str | None = None
    log_every: int = 10
    save_every: int = 500
    keep: int = 2  # checkpoints, beside the best weights
    tensorboard: bool = False


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The [evaluation] section: loss and metrics on the validation data, the same each time."""

    every: int = 250
    batch_size: int = 32
    batches: int | None = None  # the first so many; none: all
    examples: int | None = 200  # how many to write answers for on the way, where the task writes; in the end all


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run, before it is run. The vocabulary's size is the tokenizer's and so no setting of the model.

    `model` is None where it is to be that of the folder which [init] names. `data` is of the kind that the task learns
    from; ValueError where it is of another.
    """

    name: str
    model: ModelConfig | None = None
    task: Task = field(default_factory=LanguageModelling)
    init: Init = field(default_factory=Init)
    data: Data = field(default_factory=Texts)
    optimizer: OptimizerConfig = field(default_factory=AdamWConfig)
    schedule: Schedule = field(default_factory=Cosine)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self) -> None:
        if not isinstance(self.data, self.task.data):
            raise ValueError(f"{type(self.task).__name__} learns from {self.task.data.__name__}, and data is "
                             f"{type(self.data).__name__}")  # fmt: skip

    @property
    def texts(self) -> Texts:
        """[data] of a task that reads text. Raises ValueError for another."""
        return self._data(Texts)

    @property
    def pictures(self) -> Pictures:
        """[data] of a task that looks at pictures. Raises ValueError for another."""
        return self._data(Pictures)

    def _data(self, kind: type[D]) -> D:
        if not isinstance(self.data, kind):
            raise ValueError(f"the recipe {self.name!r} learns from {type(self.data).__name__.lower()}, and this is "
                             f"for {kind.__name__.lower()}")  # fmt: skip
        return self.data

    def to_toml(self) -> str:
        """The recipe with every setting written out; `load_recipe` reads it back equal."""
        table = table_of(self, CHOICES)
        del table["data"]["name"]  # its kind is the task's
        if self.model is not None and self.init.source is None:
            table["model"].pop("vocab_size", None)
        return to_toml(table)

    def with_model(self, **settings: Any) -> "Recipe":
        """The recipe with other settings of its model."""
        return replace(self, model=replace(self.model, **settings))  # type: ignore[type-var]

    def build_model(self, vocab_size: int | None = None, **settings: Any) -> Any:
        """The model with the task's head, with the tokenizer's vocabulary and other settings that follow from it, its
        kernels chosen, and drawn from torch's generator."""
        settings |= {} if vocab_size is None else {"vocab_size": vocab_size}
        built = self.task.build(self.with_model(**settings).model)
        training = self.training
        if training.zero_init:
            zero_residuals(built)
        return use_kernels(built, attend=training.attend, linear=training.linear, cross_entropy=training.cross_entropy)

    def differences(self, other: "Recipe") -> list[str]:
        """`key: ours, theirs` for each setting that differs."""
        ours, theirs = (flatten(tomllib.loads(recipe.to_toml())) for recipe in (self, other))
        keys = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
        return [f"{key} = {ours.get(key, '(absent)')!r}, there {theirs.get(key, '(absent)')!r}" for key in keys]

    def completed(self, begun: "Recipe") -> "Recipe":
        """What a run that was begun by this recipe has found out (its model's folder, its labels), filled in."""
        if self.model is None:
            return replace(self, model=begun.model)
        if type(self.model) is not type(begun.model):
            return self
        unsaid = [name for name in self.task.found_in_data if is_default(self.model, name)]
        return self.with_model(**{name: getattr(begun.model, name) for name in unsaid})


def recipe_names() -> list[str]:
    """The recipes that ship with the package."""
    return sorted(path.name.removesuffix(".toml") for path in (files("glassformer") / "recipes").iterdir()
                  if path.name.endswith(".toml"))  # fmt: skip


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, str] | None = None) -> Recipe:
    """The recipe of a name or a TOML file, with `overrides` (`{"model.num_layers": "6"}`) over it, checked.

    Raises:
        FileNotFoundError: no such recipe. ValueError, TypeError: an unknown key, a wrong type, a combination that
        cannot work; the message names the section and the file, or the override.
    """
    source, text, name = find(name_or_path)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source} is not valid TOML: {error}") from error
    table.setdefault("name", name)
    for key, value in (overrides or {}).items():
        set_override(table, key, value)
    if isinstance(table.get("model"), dict) and "vocab_size" in table["model"] and "from" not in table.get("init", ()):
        raise ValueError(f"{source}: [model] vocab_size cannot be set: it is the tokenizer's (see [data] vocab_size)")
    name_data(table, source)
    recipe = read(Recipe, table, Location(source), CHOICES)
    try:
        check(recipe)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return recipe


def name_data(table: dict[str, Any], source: str) -> None:
    """Say in [data] which kind it is: the task's. What else may be wrong with either is left for `read` to say."""
    task, data = table.get("task", {}), table.setdefault("data", {})
    if not isinstance(task, dict) or not isinstance(data, dict):
        return
    if "name" in data:
        raise ValueError(f"{source}: [data] has no key 'name': what a task learns from is its own")
    kind = TASKS.get(task.get("name", "language_model"), LanguageModelling).data
    data["name"] = next(name for name, each in DATA.items() if each is kind)


def find(name_or_path: str | Path) -> tuple[str, str, str]:
    """Where a recipe stands, its text, its name."""
    name = str(name_or_path)
    path = Path(name).expanduser()
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise FileNotFoundError(f"there is no recipe {name!r}: no such file")
        return str(path), read_text(path), path.stem
    if name not in recipe_names():
        raise FileNotFoundError(f"there is no recipe {name!r}{did_you_mean(name, recipe_names())}")
    return f"recipe {name}", (files("glassformer") / "recipes" / f"{name}.toml").read_text(encoding="utf-8"), name


def set_override(table: dict[str, Any], key: str, value: str) -> None:
    """Put `value` at the dotted `key`, to be read as whatever stands there."""
    *sections, last = key.replace("-", "_").split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ValueError(f"--{key}: {section} is a single setting, it has nothing inside")
    table[last] = Text(value)


def parse_overrides(arguments: Iterable[str]) -> dict[str, str]:
    """`["--model.num-layers", "6", "--training.seed=1"]` as `{"model.num_layers": "6", "training.seed": "1"}`.

    Raises ValueError for an argument that is no `--section.key`, a key without a value, or a key given twice.
    """
    overrides: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("--") or len(argument) == 2:
            raise ValueError(f"{argument!r} is not a setting; settings look like --model.num-layers 6")
        key, equals, value = argument[2:].partition("=")
        if not equals:
            value = next(rest, None)
            if value is None or (value.startswith("--") and "." in value):
                raise ValueError(f"--{key} has no value; settings look like --model.num-layers 6")
        key = key.replace("-", "_")
        if key in overrides:
            raise ValueError(f"--{key} is given twice")
        overrides[key] = value
    return overrides


def check(recipe: Recipe) -> None:
    """Raise ValueError, naming section and key, for what cannot work together, before any work is done."""
    data, training, evaluation = recipe.data, recipe.training, recipe.evaluation
    sections = {"model": recipe.model, "task": recipe.task, "data": data, "training": training,
                "evaluation": evaluation}  # fmt: skip
    for name, section in sections.items():
        if section is not None:
            check_positive(name, section)
    kernels = {"attend": ATTEND, "linear": LINEAR, "cross_entropy": CROSS_ENTROPY}
    for key, table in {"precision": PRECISIONS, **kernels}.items():
        value = getattr(training, key)
        if value is not None and value not in table:
            raise ValueError(f"[training] {key} is {value!r}{did_you_mean(value, table)}")
    if training.linear is not None and isinstance(linear_kernel(training.linear), Inference):
        raise ValueError(f"[training] linear is {training.linear!r}, a kernel for inference, which has no gradient")
    try:
        recipe.schedule.check(training.steps)
    except ValueError as error:
        raise ValueError(f"[schedule] {error}") from error
    if recipe.model is not None:
        check_model(recipe)
    elif recipe.init.source is None:
        raise ValueError("the recipe lacks model: [model] name says which, or [init] from a folder that holds one")
    recipe.task.check(recipe)


def check_positive(name: str, section: Any) -> None:
    """Quantities are positive (a seed or a token's id may be 0), fractions and dropouts between 0 and 1."""
    for setting in fields(section):
        value = getattr(section, setting.name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if setting.name.endswith("dropout"):
            if not 0 <= value < 1:
                raise ValueError(f"[{name}] {setting.name}={value} must lie between 0 and 1, 1 excluded")
        elif setting.name.endswith(MAY_BE_ZERO) or setting.default == 0:
            if not value >= 0:
                raise ValueError(f"[{name}] {setting.name}={value} must not be negative")
        elif not value > 0:
            raise ValueError(f"[{name}] {setting.name}={value} must be positive")


def check_model(recipe: Recipe) -> None:
    """Build the model without memory: what its parts refuse, they refuse here."""
    config: Any = recipe.model
    data, limit = recipe.data, getattr(config, "max_positions", None)
    if limit is not None and isinstance(data, Texts) and data.context > limit:
        raise ValueError(f"[data] context={data.context} is more than the [model] max_positions={limit}")
    heads, dim = getattr(config, "num_heads", 1), getattr(config, "dim", 0)
    if isinstance(heads, int) and dim % heads and getattr(config, "head_dim", dim // heads) == dim // heads:
        raise ValueError(f"[model] num_heads={heads} does not divide dim={config.dim}")
    if (activation := getattr(config, "activation", "gelu")) not in ACTIVATIONS:
        raise ValueError(f"[model] activation is {activation!r}{did_you_mean(activation, ACTIVATIONS)}")
    try:
        with torch.device("meta"):
            recipe.build_model(2 if hasattr(config, "vocab_size") else None)
    except ValueError as error:
        raise ValueError(f"[model] {error}") from error
