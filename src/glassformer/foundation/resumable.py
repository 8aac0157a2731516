"""What goes on where it was stopped: a step, and what it is a step through."""

from abc import ABC, abstractmethod
from typing import Any


class Resumable(ABC):
    """Something whose next piece depends on `step` and on what it goes through, and on nothing else."""

    step: int

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What it goes through: sizes, the seed, a hash of the content."""

    def state_dict(self) -> dict[str, Any]:
        """How far it has come, and through what."""
        return {"step": self.step, **self.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where the state was taken: nothing is lost or repeated.

        Raises:
            ValueError: the state is of other content, another seed or other sizes, or is no such state.
        """
        identity = self.identity()
        if not isinstance(state, dict) or state.keys() != {"step", *identity}:
            name = type(self).__name__
            raise ValueError(f"this is not the state of a {name}: it has {sorted(map(str, state))}")
        for key, value in identity.items():
            if state[key] != value:
                changed = "; the data has changed since then" if key in ("count", "sha256") else ""
                raise ValueError(f"the state was taken with {key}={state[key]!r}, but this loader has {key}={value!r}"
                                 f"{changed}")  # fmt: skip
        if not isinstance(state["step"], int) or state["step"] < 0:
            raise ValueError(f"the state says step={state['step']!r}: expected an integer from 0 on")
        self.step = state["step"]
