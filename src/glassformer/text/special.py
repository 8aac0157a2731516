"""Which token pads, ends, masks: from `tokenizer_config.json`, or from the names that are usual."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.foundation.suggest import did_you_mean

if TYPE_CHECKING:
    from glassformer.text.tokenizer import Tokenizer

TOKENIZER_CONFIG = "tokenizer_config.json"
USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "pad": ("[PAD]", "<pad>", "<|pad|>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "mask": ("[MASK]", "<mask>"),
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
}
"""The roles, and by what names a special token has them where no file says so."""
ROBERTA_NAMES = {"cls": "<s>", "sep": "</s>"}


def special_ids(tokenizer: "Tokenizer") -> dict[str, int]:
    """Role -> id, of the roles that a token of the vocabulary has."""
    found = {}
    for role, name in _roles(tokenizer).items():
        try:
            found[role] = tokenizer.special_tokens[name] if name in tokenizer.special_tokens else (
                tokenizer.token_to_id(name)
            )  # fmt: skip
        except KeyError:  # named for a model whose vocabulary was never enlarged by it
            continue
    return found


def token_names(tokenizer: "Tokenizer") -> dict[str, str]:
    """`bos_token`, `eos_token` and so on -> the token's text, of the roles that the tokenizer has."""
    roles = _roles(tokenizer)
    return {f"{role}_token": roles[role] for role in special_ids(tokenizer)}


def _roles(tokenizer: "Tokenizer") -> dict[str, str]:
    config, roles = tokenizer.config, {}
    mask = any(name in tokenizer.special_tokens for name in USUAL_NAMES["mask"])
    for role, names in USUAL_NAMES.items():
        if f"{role}_token" in config:
            name = config[f"{role}_token"]
            name = name["content"] if isinstance(name, Mapping) else name
        else:
            name = next((name for name in names if name in tokenizer.special_tokens), None)
            if name is None and mask:  # RoBERTa's <s> and </s> are what BERT calls [CLS] and [SEP]
                name = ROBERTA_NAMES.get(role)
                name = name if name in tokenizer.special_tokens else None
        if name is not None:
            roles[role] = name
    return roles


def family(folder: Path, config: Mapping[str, Any], known: Collection[str], file: str) -> str | None:
    """Whose tokenizer a folder's is: by `tokenizer_class`, else by the model's config; None where neither says so.

    Raises ValueError for one that is not `known`: what it does to a text before `file` comes in is not implemented.
    """
    kind = str(config.get("tokenizer_class") or "").removesuffix("Fast")
    if not kind and (folder / "config.json").is_file():
        kind = str(read_object(folder / "config.json").get("model_type") or "")
    if kind and kind not in known:
        raise ValueError(
            f"{folder} has a {file}, but no tokenizer.json, and how {kind!r} prepares a text for it is not "
            f"implemented{did_you_mean(kind, known)}"
        )
    return kind or None


def read_config(folder: Path) -> dict[str, Any]:
    """What the folder says about its tokenizer beside the vocabulary: `tokenizer_config.json`, the special tokens of
    `special_tokens_map.json` where that lacks them, and the chat template of `chat_template.jinja`.

    Raises:
        ValueError: a file is damaged, or says of a token what is no token.
    """
    config = read_object(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).is_file() else {}
    more = folder / "special_tokens_map.json"
    if more.is_file():
        config = {name: value for name, value in read_object(more).items() if name.endswith("_token")} | config
    for role in USUAL_NAMES:
        name = config.get(f"{role}_token")
        said = name.get("content") if isinstance(name, Mapping) else name
        if not isinstance(said, str | None) or (said is None and name is not None):
            raise ValueError(f"{folder / TOKENIZER_CONFIG} has {role}_token={name!r}; expected a token's text")
    if (folder / "chat_template.jinja").is_file():
        config["chat_template"] = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return config


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds. Raises ValueError naming the file where it holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, expected a JSON object")
    return value
