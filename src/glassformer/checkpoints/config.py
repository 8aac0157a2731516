"""Config tables: another library's `config.json` becomes our frozen dataclass, and back.

One `ConfigTable` per model, read in both directions:

    GPT2_CONFIG_TABLE = ConfigTable(
        config=GPT2Config,
        model_type="gpt2",
        architectures=("GPT2LMHeadModel", "GPT2Model"),
        names={
            "n_embd": "dim",
            "activation_function": Values("activation", ACTIVATION_NAMES),
            "n_inner": "hidden_dim",
            "tie_word_embeddings": "tied",
            ...
        },
        defaults={"n_inner": None, "tie_word_embeddings": True},
        fixed={"scale_attn_weights": True},
        ignored={"summary_type", ...},
    )
    GPT2_CONFIG_TABLE.load(json.loads(text)) -> GPT2Config
    GPT2_CONFIG_TABLE.save(GPT2Config(), dtype="float32") -> dict that `transformers` opens

It is strict: an attribute of theirs is named, or must have the one value that we implement, or is known to change no
output; any other raises. A field of ours is named once, or has no word on their side and must then keep its default.
"""

import math
import sys
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from glassformer.foundation.suggest import did_you_mean

Attributes = Mapping[str, Any]


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


SPECIAL_TOKENS = words("""
    bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id mask_token_id unk_token_id decoder_start_token_id
    forced_bos_token_id forced_eos_token_id
""")
"""What the tokenizer and generation want to know, not the model."""

BOOKKEEPING = words("""
    transformers_version architectures model_type dtype torch_dtype _name_or_path name_or_path _commit_hash
    tokenizer_class prefix task_specific_params finetuning_task problem_type id2label label2id num_labels
""")
RUNNING = words("""
    use_cache return_dict use_return_dict output_attentions output_hidden_states torchscript use_bfloat16
    _attn_implementation attn_implementation _attn_implementation_internal chunk_size_feed_forward
    gradient_checkpointing tf_legacy_loss
""")  # how their classes run and return; chunks of a feed-forward give equal results
DRAWING = words("initializer_range initializer_factor")  # how weights that are loaded now were drawn then
GENERATION = words("""
    max_length max_new_tokens min_length min_new_tokens do_sample early_stopping num_beams num_beam_groups top_k top_p
    min_p typical_p temperature diversity_penalty repetition_penalty length_penalty no_repeat_ngram_size output_scores
    encoder_no_repeat_ngram_size bad_words_ids num_return_sequences return_dict_in_generate remove_invalid_values
    exponential_decay_length_penalty suppress_tokens begin_suppress_tokens
""")  # configs of transformers v4 carried them
LARGEST = 2**31 - 1  # what any size may be; the product of two still is a number that tensors can have
MODULES = words("""
    n_layer n_layers num_layers num_hidden_layers num_decoder_layers encoder_layers decoder_layers
    decoder_num_hidden_layers num_local_experts n_routed_experts depths
""")
"""How often a module is made, each time with tensors of its own."""
IGNORED = SPECIAL_TOKENS | BOOKKEEPING | RUNNING | DRAWING | GENERATION
"""Attributes that change no output of a model, the same for all models. One that a table names is not ignored there."""

FIXED: Attributes = {
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "tie_encoder_decoder": False,
    "pruned_heads": {},
    "quantization_config": None,
}
"""What any config of theirs may say and we implement one way only, unless a table names it otherwise."""

ACTIVATION_NAMES: Mapping[str, str] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""Their names of activations -> `glassformer.parts.activation.ACTIVATIONS`. The first of equal ones is written."""


@dataclass(frozen=True)
class Values:
    """A field whose values have other names: their value -> ours. Of those that mean the same the first is written."""

    ours: str
    values: Mapping[Any, Any]

    def load(self, name: str, value: Any) -> Any:
        for theirs, ours in self.values.items():
            if theirs == value:
                return ours
        raise ValueError(f"{name}={value!r} is not implemented{did_you_mean(str(value), map(str, self.values))}")

    def save(self, value: Any) -> Any:
        for theirs, ours in self.values.items():
            if ours == value:
                return theirs
        known = sorted({str(ours) for ours in self.values.values()})
        raise ValueError(f"{self.ours}={value!r} has no name in their config (those that have: {', '.join(known)})")


@dataclass(frozen=True)
class Compound:
    """Attributes of theirs that say together what some fields of ours say together.

    `load` gets those of the attributes that are there and returns all of `ours`; it raises ValueError for what it does
    not understand, as nobody looks at them after it. `save` gets our config and returns their attributes.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    load: Callable[[dict[str, Any]], dict[str, Any]]
    save: Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Variant:
    """A further `model_type` of the same format: the class that is written, and the fields that it settles."""

    architecture: str
    settles: Attributes


@dataclass(frozen=True, kw_only=True)
class ConfigTable:
    """How one model's config is written in `config.json`; see the module's docstring.

    config         our frozen dataclass
    model_type     their name of the family
    architectures  their classes whose folders we open; the first is written. A file that names none is opened too
    within         their classes that hold this model and more: opened too, by who asks for this model
    names          their attribute -> our field (a name, or `Values`)
    defaults       what their class takes for a named attribute that the file lacks; without one it must be there
    fixed          attributes that must have this value where they appear; also written
    ignored        attributes of this model that change none of our outputs (say why in a comment)
    compounds      attributes that are read and written together
    unsayable      our fields that their format has no word for: saved only at these values, read as these values
    variants       further model types that are read; one that settles what is unsayable here is written for it
    """

    config: type
    model_type: str
    architectures: tuple[str, ...]
    names: Mapping[str, str | Values]
    defaults: Attributes = field(default_factory=dict)
    fixed: Attributes = field(default_factory=dict)
    ignored: AbstractSet[str] = frozenset()
    compounds: tuple[Compound, ...] = ()
    unsayable: Attributes = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    within: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named = [rule if isinstance(rule, str) else rule.ours for rule in self.names.values()]
        named += [name for compound in self.compounds for name in compound.ours] + list(self.unsayable)
        wanted = [f.name for f in fields(self.config)]
        if sorted(named) != sorted(wanted):
            odd = sorted(set(named) ^ set(wanted)) or sorted({name for name in named if named.count(name) > 1})
            raise ValueError(f"the table of {self.config.__name__} must name each of its fields once; look at {odd}")
        if odd := set(self.defaults) - set(self.names):
            raise ValueError(f"the table of {self.config.__name__} has defaults for {sorted(odd)}, but no row")

    @property
    def known(self) -> set[str]:
        """The attributes that say something about the model."""
        return {*self.names, *self.fixed, *(name for compound in self.compounds for name in compound.theirs)}

    def load(self, attributes: Attributes) -> Any:
        """Their attributes as our config.

        Raises ValueError naming an attribute that is missing, unknown, of the wrong type, or not what we implement.
        """
        self._check_family(attributes)
        self._check_fixed(attributes)
        values = dict(self.unsayable)
        for name, rule in self.names.items():
            if name not in attributes and name not in self.defaults:
                family = attributes["model_type"]
                raise ValueError(f"config.json of a {family!r} model must have {name!r}, which is missing")
            value = attributes.get(name, self.defaults.get(name))
            ours = rule if isinstance(rule, str) else rule.ours
            values[ours] = value if isinstance(rule, str) else rule.load(name, value)
            check_type(self.config, ours, values[ours], name)
        for compound in self.compounds:
            said = {name: attributes[name] for name in compound.theirs if name in attributes}
            try:
                new = compound.load(said)
            except (TypeError, AttributeError, ArithmeticError) as error:  # a text where an object belongs, and so on
                raise ValueError(f"config.json has {said}, which is not of the form expected: {error}") from error
            for ours, value in new.items():
                check_type(self.config, ours, value, " / ".join(compound.theirs))
            values |= new
        if (family := attributes["model_type"]) in self.variants:
            values |= self.variants[family].settles
        try:
            return self.config(**values)
        except ArithmeticError as error:  # no heads to share the width
            raise ValueError(f"config.json describes no {self.config.__name__} that can be: {error}") from error

    def save(self, config: Any, *, dtype: str = "float32", special_tokens: Attributes | None = None) -> dict[str, Any]:
        """Our config as their attributes, what `config.json` holds.

        Tokens that are not given are written as null, so that their class does not take its own defaults (GPT-2's end
        of text is 50256, whatever the vocabulary). Raises ValueError for a value that their format cannot say.
        """
        if type(config) is not self.config:
            raise TypeError(f"expected a {self.config.__name__}, got {type(config).__name__}")
        tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")) | dict(special_tokens or {})
        for name in tokens:
            if name not in SPECIAL_TOKENS:
                raise ValueError(f"{name!r} is no special token's name{did_you_mean(name, SPECIAL_TOKENS)}")
        model_type, architecture = self._family_of(config)
        out = {"architectures": [architecture], "model_type": model_type, "dtype": dtype, **tokens}
        out |= self.fixed
        for name, rule in self.names.items():
            out[name] = getattr(config, rule) if isinstance(rule, str) else rule.save(getattr(config, rule.ours))
        for compound in self.compounds:
            out |= compound.save(config)
        return out

    @property
    def model_types(self) -> tuple[str, ...]:
        """Their names of the family that are read; the first is written where it can say the config."""
        return (self.model_type, *self.variants)

    def _family_of(self, config: Any) -> tuple[str, str]:
        """The model type, and their class, by which the config can be said."""
        odd = {name: value for name in self.unsayable if (value := getattr(config, name)) != self.unsayable[name]}
        if not odd:
            return self.model_type, self.architectures[0]
        for model_type, variant in self.variants.items():
            settled = {**self.unsayable, **variant.settles}
            if all(getattr(config, name) == value for name, value in settled.items()):
                return model_type, variant.architecture
        name, value = next(iter(odd.items()))
        raise ValueError(
            f"{name}={value!r} cannot be said in a {self.model_type!r} config.json, only {self.unsayable[name]!r}"
        )

    def _check_family(self, attributes: Attributes) -> None:
        if (family := attributes.get("model_type")) not in self.model_types:
            reads = " or ".join(map(repr, self.model_types))
            raise ValueError(f"config.json has model_type={family!r}; {self.config.__name__} reads {reads}")
        for architecture in attributes.get("architectures") or ():
            if architecture not in (known := self.architectures + self.within):
                raise ValueError(
                    f"config.json names the architecture {architecture!r}; {self.config.__name__} reads "
                    f"{', '.join(known)}"
                )

    def _check_fixed(self, attributes: Attributes) -> None:
        known = self.known
        fixed = {name: value for name, value in FIXED.items() if name not in known} | dict(self.fixed)
        for name, value in attributes.items():
            if name in fixed and value != fixed[name]:
                raise ValueError(f"config.json has {name}={value!r}; only {fixed[name]!r} is implemented")
            if name not in known | set(fixed) | self.ignored | IGNORED:
                near = get_close_matches(name, known, n=1)
                family = attributes["model_type"]
                raise ValueError(
                    f"config.json has {name}={value!r}, which is not implemented for a {family!r} model"
                    + (f" (did you mean {near[0]!r}?)" if near else "")
                )


def check_modules(attributes: Attributes, num_tensors: int) -> None:
    """Raise ValueError where more modules are asked for than so many tensors can fill: building them may not end."""
    for name, value in attributes.items():
        if isinstance(value, Mapping):
            check_modules(value, num_tensors)
        most = max((v for v in (value if isinstance(value, list) else [value]) if type(v) is int), default=0)
        if name in MODULES and most > num_tensors:
            raise ValueError(f"config.json has {name}={value}, but there are only {num_tensors} tensors to fill them")


def special_tokens(attributes: Attributes) -> dict[str, Any]:
    """The special tokens that a `config.json` names: hand them to `save_pretrained` to keep them."""
    return {name: value for name, value in attributes.items() if name in SPECIAL_TOKENS and value is not None}


def own_table(config: type, model_type: str, architecture: str) -> ConfigTable:
    """The table of a model that only this library has: each field under its own name."""
    names = {f.name: f.name for f in fields(config)}
    defaults = {f.name: f.default for f in fields(config) if f.default is not MISSING}
    return ConfigTable(
        config=config, model_type=model_type, architectures=(architecture,), names=names, defaults=defaults
    )


type_hints = cache(get_type_hints)


def check_type(config: type, name: str, value: Any, theirs: str) -> None:
    """Raise ValueError where a plain value is not of its field's type, or no size: a negative, endless or no number."""
    if is_dataclass(type(value)):
        for part in fields(value):
            check_type(type(value), part.name, getattr(value, part.name), theirs)
    hint = type_hints(config)[name]
    options = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
    if not options <= {int, float, str, bool, NoneType}:
        return
    if any(f.name == name and f.default is None for f in fields(config)):
        options.add(NoneType)  # an int that the config itself fills in
    fitting = type(value) in (options | {int} if float in options else options)
    odd = type(value) is float and not math.isfinite(value)
    largest = LARGEST if int in options else sys.float_info.max
    if not fitting or odd or (type(value) is int and not 0 <= value <= largest):
        kinds = " or ".join(sorted("null" if option is NoneType else option.__name__ for option in options))
        span = f" from 0 to {largest:,}" if fitting and type(value) is int else ""
        raise ValueError(f"config.json has {theirs}={value!r}; expected {kinds}{span}")
