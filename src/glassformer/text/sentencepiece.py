"""SentencePiece models (`spiece.model`, `tokenizer.model`, Marian's `source.spm`), run by their library."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.text.special import TOKENIZER_CONFIG, family, read_object
from glassformer.text.template import Template, begin_and_end
from glassformer.text.tokenizer import (
    Span,
    Stream,
    Tokenizer,
    WindowStream,
    around_added,
    outside_vocabulary,
    pattern_of,
)

# Whose SentencePiece models are known, by the folder's model_type where it names no tokenizer_class.
_CLASSES = {
    "t5": "T5Tokenizer", "umt5": "T5Tokenizer", "mt5": "MT5Tokenizer", "gemma": "GemmaTokenizer",
    "gemma2": "GemmaTokenizer", "llama": "LlamaTokenizer", "mistral": "LlamaTokenizer", "mixtral": "LlamaTokenizer",
}  # fmt: skip
_ENDS_WITH_EOS = ("T5Tokenizer", "MT5Tokenizer")
_BEGINS_WITH_BOS = ("LlamaTokenizer", "GemmaTokenizer")  # unless add_bos_token says otherwise


class SentencePieceTokenizer(Tokenizer):
    """A model of the `sentencepiece` library, with the tokens that a published folder adds.

    In Marian's folders two models cut the texts, the source's and the target's, and a `vocab.json` says the ids:
    `encode` takes the source's, `target()` gives the same tokenizer for the other language.

    Args:
        model: the bytes of a model file.
        ids: token -> id where that is not the model's own.
        added_tokens: token -> id; those that are special are found only where `encode` allows it.
        others: files that belong to the tokenizer and are saved with it.
        kind: what `transformers` calls a tokenizer of this kind.

    Raises:
        ImportError: `sentencepiece` is not installed. ValueError: the bytes are no SentencePiece model.
    """

    def __init__(
        self,
        model: bytes,
        *,
        ids: Mapping[str, int] | None = None,
        added_tokens: Mapping[str, int] | None = None,
        special_tokens: Mapping[str, int] | None = None,
        template: Template | None = None,
        file_name: str = "spiece.model",
        others: Mapping[str, bytes] | None = None,
        kind: str = "T5Tokenizer",
    ) -> None:
        self.inner, self._model = opened(model), model
        self.file_name, self._others, self._kind = file_name, dict(others or {}), kind
        pieces = {self.inner.id_to_piece(index): index for index in range(self.inner.get_piece_size())}
        self._renumbered = ids is not None
        self.ids = dict(pieces if ids is None else ids)
        self.added_tokens = dict(added_tokens or {})
        self.special_tokens = dict(special_tokens or {})
        self.template = template or Template()
        self.unknown = self.inner.id_to_piece(self.inner.unk_id())
        self.tokens = {index: token for token, index in (self.ids | self.added_tokens).items()}
        self._added = pattern_of({**self.added_tokens, **self.special_tokens})
        if self.unknown not in self.ids:
            raise ValueError(f"the vocabulary lacks {self.unknown!r}, the token for what it cannot say")
        self.unknown_id = self.ids[self.unknown]

    @property
    def vocab_size(self) -> int:
        return max(self.tokens) + 1

    def _encode(self, text: str, allow_special: bool) -> list[int]:
        return self._encode_with_offsets(text, allow_special)[0]

    def _encode_with_offsets(self, text: str, allow_special: bool) -> tuple[list[int], list[Span]]:
        ids: list[int] = []
        spans: list[Span] = []
        for start, part, is_token in around_added(text, self._added, () if allow_special else self.special_tokens):
            if is_token:
                ids.append(self.token_to_id(part))
                spans.append((start, start + len(part)))
                continue
            found = self.inner.encode(part, return_type="offset_mapping")
            new = [self.ids.get(piece, self.unknown_id) for piece in found["pieces"]]
            ids += new if self._renumbered else found["ids"]
            for index, (first, end) in zip(found["ids"], found["offsets"], strict=True):
                while first < end - 1 and part[first].isspace():  # the space before a word
                    first += 1
                shared = first == end and self.inner.is_byte(index)  # a byte of a character, but the last of them
                spans.append((start + first, start + end + shared))
        return ids, spans

    def _decode(self, row: list[int]) -> str:
        for index in row:
            if index not in self.tokens:
                raise ValueError(outside_vocabulary(index, self.vocab_size))
        text, pieces = "", []
        for token in [*(self.tokens[index] for index in row), None]:  # None: the end
            if token is not None and token not in self.special_tokens and token not in self.added_tokens:
                pieces.append(token)
                continue
            if pieces:
                space = " " if text and pieces[0].startswith("\N{LOWER ONE EIGHTH BLOCK}") else ""
                text += space + self.inner.decode_pieces(pieces)
            text, pieces = text + (token or ""), []
        return text

    def stream(self) -> Stream:
        return WindowStream(self)

    def token_to_id(self, token: str) -> int:
        index = self.added_tokens.get(token, self.ids.get(token))
        if index is None:
            raise KeyError(f"{token!r} is not one token of this tokenizer ({len(self.tokens)} tokens)")
        return index

    def target(self) -> "SentencePieceTokenizer":
        """The tokenizer of the texts that a Marian model writes. Raises ValueError where there is only one language."""
        if "target.spm" not in self._others:
            raise ValueError(f"there is one SentencePiece model only, {self.file_name}; Marian has a target.spm too")
        ids = json.loads(self._others.get("target_vocab.json", self._others["vocab.json"]))
        return SentencePieceTokenizer(
            self._others["target.spm"], ids=ids, added_tokens=self.added_tokens, special_tokens=self.special_tokens,
            template=self.template, file_name="target.spm", others={**self._others, "source.spm": self._model},
            kind=self._kind,
        )  # fmt: skip

    def to_json(self) -> str:
        """The ids; the model is no text, `files` holds it."""
        return json.dumps(self.ids | self.added_tokens, ensure_ascii=False, indent=1) + "\n"

    def files(self) -> dict[str, bytes]:
        config = {TOKENIZER_CONFIG: self._config_file(self._kind)}
        return {self.file_name: self._model, **self._others, **config}


def opened(model: bytes) -> Any:
    """The library's processor of a model. ValueError where the bytes are none."""
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError("this needs the package 'sentencepiece': pip install sentencepiece") from error
    processor = sentencepiece.SentencePieceProcessor()
    try:
        read = bool(model) and processor.load_from_serialized_proto(model)
    except RuntimeError as error:
        raise ValueError(f"not a SentencePiece model: {error}") from error
    if not read or not processor.get_piece_size():
        raise ValueError("not a SentencePiece model")
    return processor


def read_sentencepiece(path: Path, config: Mapping[str, Any]) -> SentencePieceTokenizer:
    """The tokenizer of a folder with `spiece.model` or `tokenizer.model`.

    Added tokens are those of `added_tokens_decoder` in `tokenizer_config.json`, else of `added_tokens.json`, else T5's
    sentinels (`extra_ids`: <extra_id_0> is the last id).

    Raises:
        ValueError: the file is damaged, or of a class whose texts are prepared in a way that is not implemented.
    """
    folder, model = path.parent, path.read_bytes()
    kind = family(folder, config, {**_CLASSES, **dict.fromkeys(_CLASSES.values())}, path.name)
    kind = _CLASSES.get(kind or "", kind)
    try:
        inner = opened(model)
        added, special = added_tokens(folder, config, inner.get_piece_size(), 100 if kind == "T5Tokenizer" else 0)
        for index in range(inner.get_piece_size()):
            if inner.is_control(index) or inner.is_unknown(index):
                special.setdefault(inner.id_to_piece(index), index)
        names = {role: inner.id_to_piece(index) for role, index in (("bos", inner.bos_id()), ("eos", inner.eos_id()))
                 if index >= 0}  # fmt: skip
        if kind in _ENDS_WITH_EOS:
            template = Template.parse("$A </s>", "$A </s> $B </s>", {"</s>": special["</s>"]})
        else:
            bos = names.get("bos") if config.get("add_bos_token", kind in _BEGINS_WITH_BOS) else None
            template = begin_and_end(bos, names.get("eos") if config.get("add_eos_token") else None, special)
        return SentencePieceTokenizer(
            model, added_tokens=added, special_tokens=special, template=template, file_name=path.name,
            kind=kind or "T5Tokenizer",
            others={name: (folder / name).read_bytes() for name in ("added_tokens.json",) if (folder / name).is_file()},
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_marian(folder: Path) -> SentencePieceTokenizer:
    """The tokenizer of a Marian folder: `source.spm`, `target.spm`, `vocab.json`; `</s>` ends each text.

    Raises:
        ValueError: a file is missing or damaged.
    """
    names = [name for name in ("target.spm", "vocab.json", "target_vocab.json") if (folder / name).is_file()]
    if missing := {"target.spm", "vocab.json"} - {*names}:
        raise ValueError(f"{folder} has a source.spm, but no {min(missing)}: a Marian tokenizer needs both")
    ids = read_object(folder / "vocab.json")
    if bad := [token for token, index in ids.items() if not isinstance(index, int) or index < 0]:
        raise ValueError(f"{folder / 'vocab.json'}: token {bad[0]!r} has the id {ids[bad[0]]!r}, which is no id")
    special = {name: ids[name] for name in ("</s>", "<unk>", "<pad>") if name in ids}
    if "</s>" not in special:
        raise ValueError(f"{folder / 'vocab.json'} lacks '</s>', which ends each text")
    template = Template.parse("$A </s>", "$A $B:1 </s>:1", {"</s>": special["</s>"]})
    languages = {name: index for name, index in ids.items() if name.startswith(">>") and name.endswith("<<")}
    try:
        return SentencePieceTokenizer(
            (folder / "source.spm").read_bytes(), ids=ids, added_tokens=languages, special_tokens=special,
            template=template, file_name="source.spm", kind="MarianTokenizer",
            others={name: (folder / name).read_bytes() for name in names},
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{folder / 'source.spm'}: {error}") from error


def added_tokens(
    folder: Path, config: Mapping[str, Any], first: int, sentinels: int
) -> tuple[dict[str, int], dict[str, int]]:
    """The tokens beside the model's, and those of all that are special; `first` is the first id that is free."""
    added, special = {}, {}
    if "added_tokens_decoder" in config:
        for index, token in config["added_tokens_decoder"].items():
            text = token["content"] if isinstance(token, Mapping) else token
            if int(index) >= first:
                added[text] = int(index)
            if not isinstance(token, Mapping) or token.get("special", False):
                special[text] = int(index)
    elif (folder / "added_tokens.json").is_file():
        added = special = {text: int(index) for text, index in read_object(folder / "added_tokens.json").items()}
    elif extra := config.get("extra_ids", sentinels):
        added = special = {f"<extra_id_{extra - 1 - index}>": first + index for index in range(extra)}
    return dict(added), dict(special)
