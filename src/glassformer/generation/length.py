"""A number that grows from step to step, and remembers what was asked of it."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple


class Length(int):
    """A number that grows by `slope` at each step; what Python asks of it is written down in `watch`."""

    slope: int
    watch: "set[Asked]"

    def __new__(cls, value: int, slope: int, watch: "set[Asked]") -> "Length":
        self = super().__new__(cls, value)
        self.slope, self.watch = slope, watch
        return self

    def _moved(self, value: int, slope: int) -> int:
        return Length(value, slope, self.watch) if slope else value

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        return self._moved(int(self) + int(other), self.slope + getattr(other, "slope", 0))

    __radd__ = __add__

    def __neg__(self) -> int:
        return self._moved(-int(self), -self.slope)

    def __sub__(self, other: Any) -> Any:
        return self + -other if isinstance(other, int) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return -self + other if isinstance(other, int) else NotImplemented

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Length):
            return self._asked(operator.mul, other)
        return self._moved(int(self) * other, self.slope * other) if isinstance(other, int) else NotImplemented

    __rmul__ = __mul__

    def _asked(self, question: Callable[..., Any], *others: Any) -> Any:
        operands = tuple((int(x), x.slope) if isinstance(x, Length) else (x, 0) for x in (self, *others))
        answer = question(*(value for value, _ in operands))
        self.watch.add(Asked(question, operands, answer))
        return answer

    def __hash__(self) -> int:
        return int.__hash__(self)


class Asked(NamedTuple):
    """What Python asked of lengths, and the answer."""

    question: Callable[..., Any]
    operands: tuple[tuple[Any, int], ...]  # value, slope
    answer: Any

    def holds(self, steps: int) -> bool:
        """Whether the answer is the same so many steps later."""
        return (
            self.question(*(value + slope * steps if slope else value for value, slope in self.operands)) == self.answer
        )


def _asking(question: Callable[..., Any], *, reflected: bool = False) -> Callable[..., Any]:
    def method(self: Length, *others: Any) -> Any:
        if not all(isinstance(other, (int, float)) for other in others):
            return NotImplemented
        return self._asked((lambda x, y: question(y, x)) if reflected else question, *others)

    return method


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Length, f"__{_name}__", _asking(getattr(operator, f"__{_name}__")))
for _name in ("floordiv", "mod", "truediv", "pow", "lshift", "rshift", "and", "or", "xor"):
    setattr(Length, f"__{_name}__", _asking(getattr(operator, f"__{_name}__")))
    setattr(Length, f"__r{_name}__", _asking(getattr(operator, f"__{_name}__"), reflected=True))
for _name, _question in (("bool", bool), ("float", float), ("abs", abs)):
    setattr(Length, f"__{_name}__", _asking(_question))
