"""Text in and out: corpora, tokenizers, token files, loaders.

Names load on first use (PEP 562): corpora and tokenizers need only the standard library, token files NumPy,
and torch comes with the loaders alone.
"""

from glassformer.foundation.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
