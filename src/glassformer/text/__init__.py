"""Text in and out: corpora, tokenizers, token files, loaders.

Names load on first use (PEP 562): corpora and tokenizers need only the standard library, token files NumPy,
and torch comes with the loaders alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glassformer.text.bpe import BPETokenizer
    from glassformer.text.characters import ByteTokenizer, CharacterTokenizer
    from glassformer.text.choose import load_tokenizer, train_tokenizer
    from glassformer.text.corpus import Corpus, load_corpus
    from glassformer.text.examples import Examples, load_examples
    from glassformer.text.fast import FastTokenizer, TiktokenTokenizer
    from glassformer.text.loader import SequentialLoader, TokenBatch, TokenLoader
    from glassformer.text.sentencepiece import SentencePieceTokenizer
    from glassformer.text.template import Template
    from glassformer.text.tokenizer import StreamDecoder, Tokenizer
    from glassformer.text.tokens import TokenFile, cached_tokens
    from glassformer.text.unigram import UnigramTokenizer
    from glassformer.text.wordpiece import WordPieceTokenizer

_HOMES = {
    "BPETokenizer": "bpe",
    "ByteTokenizer": "characters",
    "CharacterTokenizer": "characters",
    "Corpus": "corpus",
    "Examples": "examples",
    "FastTokenizer": "fast",
    "SentencePieceTokenizer": "sentencepiece",
    "SequentialLoader": "loader",
    "StreamDecoder": "tokenizer",
    "Template": "template",
    "TiktokenTokenizer": "fast",
    "TokenFile": "tokens",
    "TokenBatch": "loader",
    "TokenLoader": "loader",
    "Tokenizer": "tokenizer",
    "UnigramTokenizer": "unigram",
    "WordPieceTokenizer": "wordpiece",
    "cached_tokens": "tokens",
    "load_corpus": "corpus",
    "load_examples": "examples",
    "load_tokenizer": "choose",
    "train_tokenizer": "choose",
}

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "Corpus",
    "Examples",
    "FastTokenizer",
    "SentencePieceTokenizer",
    "SequentialLoader",
    "StreamDecoder",
    "Template",
    "TiktokenTokenizer",
    "TokenBatch",
    "TokenFile",
    "TokenLoader",
    "Tokenizer",
    "UnigramTokenizer",
    "WordPieceTokenizer",
    "cached_tokens",
    "load_corpus",
    "load_examples",
    "load_tokenizer",
    "train_tokenizer",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
