"""Pictures: reading and writing them, changing them, preparing them for a model, and sets of them.

Names load on first use (PEP 562).
"""

from glassformer.foundation.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
