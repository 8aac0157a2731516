"""What `xray` and `draw` look at: a model, what goes into it, the tokens as text, and who wrote it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


@dataclass(frozen=True)
class Subject:
    """A model, what goes into it, the tokens as text, and who wrote it."""

    model: "nn.Module"
    inputs: dict[str, Any]
    tokens: list[str]
    """empty where the model reads no text"""
    written_by: str
    encode: "Callable[[str], tuple[Tensor, list[str]]] | None" = None
    """a target's ids (1, t) and tokens, of an encoder-decoder that has a tokenizer"""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Which model, which text, and how: the options that commands share."""

    model: str
    text: str
    device: str = "auto"
    dtype: str | None = None
    labels: bool = False
    """a language model is given its labels, so that it has a loss"""


def opened(wish: Wish) -> Subject:
    """The model: ours where we have its class, else transformers'."""
    from glassformer.checkpoints.folders import read_json
    from glassformer.checkpoints.hub import resolve
    from glassformer.models.catalog import ARCHITECTURES
    from glassformer.training import is_run

    if not is_run(wish.model):
        folder = resolve(wish.model)
        attributes = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
        known = {name for cls in ARCHITECTURES.values() for name in cls.config_table.model_types}
        classes = attributes.get("architectures") or []
        foreign = classes[0] not in ARCHITECTURES if classes else attributes.get("model_type", "bert") not in known
        if foreign:
            return theirs(wish, folder, classes)
    return ours(wish)


def ours(wish: Wish) -> Subject:
    """A model of ours with its text, framed as it has learned to read it."""
    import torch

    from glassformer.cli.models import open_model
    from glassformer.models.encoder import Encoder
    from glassformer.models.language_model import LanguageModel
    from glassformer.models.sequence_to_sequence import SequenceToSequenceModel

    found = open_model(wish.model, dtype=wish.dtype, device=wish.device)
    model, device = found.model, next(found.model.parameters()).device
    encoder = getattr(model, "encoder", model)
    if not isinstance(model, LanguageModel | SequenceToSequenceModel) and not isinstance(encoder, Encoder):
        raise ValueError(f"{type(model).__name__} reads no text; call glassformer.tracing.xray on it in Python, or see "
                         "what it says of a picture, and where it looks: glassformer predict --attention")  # fmt: skip
    tokenizer = found.tokenizer()
    ids, types = tokenizer.encode(wish.text), None
    if isinstance(model, LanguageModel | SequenceToSequenceModel):
        ids = model.framed([*tokenizer.beginning, *ids])
    else:
        ids, types = tokenizer.template.around(ids)
    inputs = {"input_ids": torch.tensor([ids], device=device)}
    if types is not None and encoder.num_segments > 1:
        inputs["token_type_ids"] = torch.tensor([types], device=device)
    if isinstance(model, SequenceToSequenceModel):
        inputs["decoder_input_ids"] = torch.tensor([[model.config.decoder_start_token_id]], device=device)
    elif wish.labels and isinstance(model, LanguageModel):
        inputs["labels"] = inputs["input_ids"]

    def encode(text: str) -> "tuple[Tensor, list[str]]":
        target = [*tokenizer.encode(text), model.config.eos_token_id]
        return torch.tensor([target], device=device), [tokenizer.decode([i]) for i in target]

    read = encode if isinstance(model, SequenceToSequenceModel) else None
    return Subject(model, inputs, [tokenizer.decode([i]) for i in ids], "glassformer", read)


def theirs(wish: Wish, folder: Path, classes: list[str]) -> Subject:
    """A model of a family that is not here, with its tokenizer, by transformers.

    Raises ImportError where transformers is missing.
    """
    import torch

    from glassformer.cli.models import device_named, named_dtype

    try:
        import transformers
    except ImportError as error:
        kind = classes[0] if classes else "of a family that is not here"
        raise ImportError(f"{folder} holds a {kind}; to open it, pip install transformers") from error
    kind = getattr(transformers, classes[0], None) if classes else None
    device = device_named(wish.device)
    dtype = "auto" if wish.dtype is None else named_dtype(wish.dtype)
    loader: Any = kind or transformers.AutoModel
    model = loader.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ids = torch.tensor([tokenizer(wish.text)["input_ids"]], device=device)
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([[model.config.decoder_start_token_id]], device=device)
    elif wish.labels and "LM" in type(model).__name__ and "Masked" not in type(model).__name__:
        inputs["labels"] = ids

    def encode(text: str) -> "tuple[Tensor, list[str]]":
        target = torch.tensor([tokenizer(text_target=text)["input_ids"]], device=device)
        return target, tokenizer.convert_ids_to_tokens(target[0].tolist())

    read = encode if model.config.is_encoder_decoder else None
    return Subject(model, inputs, tokenizer.convert_ids_to_tokens(ids[0].tolist()), "transformers", read)


def untrained(wish: Wish) -> Subject:
    """A published size with weights drawn from seed 0; words and signs of the text are numbered as they first come,
    from the end of the vocabulary, where no id has a meaning of its own.

    Raises ValueError for a model that does not fit into half of this machine's memory.
    """
    import torch

    from glassformer.cli.models import device_named
    from glassformer.models.catalog import create_model
    from glassformer.models.sequence_to_sequence import SequenceToSequenceModel
    from glassformer.models.vision import ImageEncoder
    from glassformer.tracing.cost import human, parameters_of, skeleton_of
    from glassformer.tracing.hardware import this_machine

    needed, room = 4 * parameters_of(skeleton_of(wish.model)), this_machine().memory_bytes / 2
    if needed > room:
        raise ValueError(f"{wish.model} takes {human(needed)}, and this machine has {human(room)} to spare for it")
    device = device_named(wish.device)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model(wish.model).to(device)
    if isinstance(model, ImageEncoder):
        return Subject(model, {}, [], "glassformer")
    words = re.findall(r"\w+|[^\w\s]", wish.text)
    numbers = {word: model.config.vocab_size - 1 - i for i, word in enumerate(dict.fromkeys(words))}
    if len(numbers) > model.config.vocab_size // 2:
        raise ValueError(f"the text has {len(numbers)} words, and {wish.model} knows {model.config.vocab_size} tokens")
    inputs = {"input_ids": torch.tensor([[numbers[word] for word in words]], device=device)}
    if isinstance(model, SequenceToSequenceModel):
        inputs["decoder_input_ids"] = torch.tensor([[model.config.decoder_start_token_id]], device=device)
    return Subject(model, inputs, words, "glassformer")
