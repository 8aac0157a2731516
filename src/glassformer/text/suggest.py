"""See `glassformer.foundation.suggest`."""

from glassformer.foundation.suggest import did_you_mean

__all__ = ["did_you_mean"]
