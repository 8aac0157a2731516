"""Hugging Face's `tokenizer.json` for WordPiece and Unigram, in both directions.

What is written here is opened by `tokenizers.Tokenizer.from_file`, and by `transformers`; what is read may say nothing
that our tokenizers would not do.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.text.pieces import PieceTokenizer
from glassformer.text.special import family
from glassformer.text.template import Template
from glassformer.text.unigram import MARK, UnigramTokenizer
from glassformer.text.wordpiece import GOES_ON, LONGEST_WORD, WordPieceTokenizer

_BERT = ("bert", "distilbert", "BertTokenizer", "DistilBertTokenizer", "PreTrainedTokenizer")
_METASPACE = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "always", "split": True}
_WORDS = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, _METASPACE]}
_WORDPIECE = {"type": "WordPiece", "continuing_subword_prefix": GOES_ON, "max_input_chars_per_word": LONGEST_WORD}


def dump_wordpiece(tokenizer: WordPieceTokenizer) -> str:
    """The text of a `tokenizer.json` for a WordPiece tokenizer."""
    vocabulary = dict(sorted(tokenizer.vocabulary.items(), key=lambda item: item[1]))
    return _dump(
        tokenizer,
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": tokenizer.space_ideographs,
            "strip_accents": tokenizer.strip_accents,
            "lowercase": tokenizer.lowercase,
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": GOES_ON, "cleanup": True},
        model={**_WORDPIECE, "unk_token": tokenizer.unknown, "vocab": vocabulary},
    )


def dump_unigram(tokenizer: UnigramTokenizer) -> str:
    """The text of a `tokenizer.json` for a Unigram tokenizer."""
    vocabulary = [[piece, tokenizer.scores[piece]] for piece in tokenizer.vocabulary]
    model = {"type": "Unigram", "unk_id": tokenizer.unknown_id, "vocab": vocabulary, "byte_fallback": False}
    normalizer = {"type": "NFKC"} if tokenizer.normalize else None
    return _dump(tokenizer, normalizer=normalizer, pre_tokenizer=_WORDS, decoder=_METASPACE, model=model)


def _dump(tokenizer: PieceTokenizer, **parts: Any) -> str:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": index, "content": token, **plain, "special": token in tokenizer.special_tokens}
        for token, index in sorted(tokenizer.added_tokens.items(), key=lambda item: item[1])
    ]
    start = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    content = start | parts | {"post_processor": tokenizer.template.to_json()}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def parse_pieces(content: Mapping[str, Any]) -> PieceTokenizer:
    """The tokenizer that a `tokenizer.json` of WordPiece or Unigram describes.

    Raises:
        ValueError: it asks for what is not implemented here, which is named. KeyError: something is missing.
    """
    model, added, special = content["model"], {}, []
    for token in content.get("added_tokens") or []:
        allow("added_tokens", token, single_word=[False], lstrip=[False], rstrip=[False], normalized=[False])
        added[token["content"]] = token["id"]
        special += [token["content"]] if token.get("special", False) else []
    allow("the file", content, truncation=[None], padding=[None])
    about = {"added_tokens": added, "special_tokens": special}
    about["template"] = Template.from_json(content.get("post_processor"))
    return (_wordpiece if model["type"] == "WordPiece" else _unigram)(content, model, about)


def _wordpiece(content: Mapping[str, Any], model: Mapping[str, Any], about: dict[str, Any]) -> WordPieceTokenizer:
    cleaning, decoder = content["normalizer"] or {}, content["decoder"] or {}
    allow("normalizer", cleaning, type=["BertNormalizer"], clean_text=[True])
    allow("pre_tokenizer", content["pre_tokenizer"] or {}, type=["BertPreTokenizer"])
    allow("decoder", decoder, type=["WordPiece"], prefix=[GOES_ON], cleanup=[True])
    allow("model", model, unk_token=["[UNK]"], continuing_subword_prefix=[GOES_ON],
          max_input_chars_per_word=[LONGEST_WORD])  # fmt: skip
    return WordPieceTokenizer(
        _ids(model["vocab"]),
        lowercase=cleaning["lowercase"],
        strip_accents=cleaning["strip_accents"],
        space_ideographs=cleaning["handle_chinese_chars"],
        **about,
    )


def _unigram(content: Mapping[str, Any], model: Mapping[str, Any], about: dict[str, Any]) -> UnigramTokenizer:
    allow("the file", content, normalizer=[None, {"type": "NFKC"}], pre_tokenizer=[_WORDS], decoder=[_METASPACE])
    allow("model", model, type=["Unigram"], byte_fallback=[False, None])
    pieces = [(piece, float(score)) for piece, score in model["vocab"]]
    unknown = model["unk_id"]
    if not isinstance(unknown, int) or not 0 <= unknown < len(pieces):
        raise ValueError(f"model.unk_id={unknown!r} is no place in a vocabulary of {len(pieces)} pieces")
    return UnigramTokenizer(pieces, unknown=pieces[unknown][0], normalize=content["normalizer"] is not None, **about)


def read_vocabulary(folder: Path, config: Mapping[str, Any]) -> WordPieceTokenizer:
    """BERT's first form, `vocab.txt` (one token a line) and `do_lower_case` in `tokenizer_config.json`.

    Raises:
        ValueError: the file is damaged, or the folder's tokenizer is another that has such a file.
    """
    family(folder, config, _BERT, "vocab.txt")
    path = folder / "vocab.txt"
    try:
        tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        if twice := [token for token, times in Counter(tokens).items() if times > 1]:
            raise ValueError(f"the token {twice[0]!r} stands in more than one line")
        return WordPieceTokenizer(
            {token: index for index, token in enumerate(tokens)},
            lowercase=config.get("do_lower_case", True),
            strip_accents=config.get("strip_accents"),
            space_ideographs=config.get("tokenize_chinese_chars", True),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _ids(vocabulary: Mapping[str, Any]) -> dict[str, int]:
    for token, index in vocabulary.items():
        if not isinstance(index, int) or index < 0:
            raise ValueError(f"token {token!r} has the id {index!r}, which is not a number from 0 on")
    return dict(vocabulary)


def allow(part: str, content: Mapping[str, Any], **values: list[Any]) -> None:
    """Raise ValueError where `content` says of a key something else than one of its `values`."""
    for key, allowed in values.items():
        if key in content and content[key] not in allowed:
            said = json.dumps(content[key], ensure_ascii=False)[:60]
            raise ValueError(f"{part}.{key} = {said} is not implemented here: install `tokenizers` for such a file")
