"""Training: recipes, the loop, optimizers, schedules, checkpoints of a run.

Names load on first use (PEP 562), so that looking at a recipe's name does not load torch.
"""

from glassformer.foundation.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
