"""A model of a Hugging Face folder, whatever it computes."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

from numpy import ndarray as Array

from glassformer.by_hand.checkpoints import Names, read_config, read_state
from glassformer.by_hand.parts.module import Module


class Pretrained(Module):
    """A model that can be read from config.json and safetensors files."""

    config: Any
    architecture: ClassVar[str]  # what Hugging Face calls it

    @abstractmethod
    def __init__(self, config: Any, *, seed: int | None = 0) -> None:
        """Weights drawn with `seed`; None leaves the matrices at 0, to be loaded."""

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model of a Hugging Face folder (config.json and safetensors files), in float32, dropout off.

        Raises OSError where files are missing, ValueError where they are not a model of this class.
        """
        config = cls.read_config(read_config(Path(folder), cls.architecture))
        model = cls(config, seed=None)
        model.load_state_dict(read_state(Path(folder), cls.names(config)))
        return model.eval()

    @property
    def num_parameters(self) -> int:
        """Parameters, a tied weight counted once."""
        return sum(parameter.data.size for parameter in self.parameters())

    @staticmethod
    @abstractmethod
    def read_config(theirs: dict[str, Any]) -> Any:
        """Our config from the content of their config.json."""

    @staticmethod
    @abstractmethod
    def names(config: Any) -> Names:
        """Their name of every tensor, and ours."""


def check_ids(ids: Array, vocab_size: int, name: str = "input_ids") -> None:
    """Raise ValueError or TypeError unless `ids` are (batch, tokens) of a vocabulary."""
    if ids.ndim != 2 or 0 in ids.shape:
        raise ValueError(f"{name} has shape {ids.shape}; expected (batch, tokens), neither of them 0")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {ids.dtype}; expected integer token ids")
    low, high = ids.min(), ids.max()
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"{name} holds {low if low < 0 else high}; the vocabulary has {vocab_size} ids, 0 to {vocab_size - 1}"
        )
