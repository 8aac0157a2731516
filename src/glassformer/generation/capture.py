"""What a step calls, captured at two lengths, and written as a program that serves the others; see `step.py`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode

from glassformer.generation.length import Asked, Length

WORTH = 28  # steps: to capture and to write takes as long as a program gains in 20 to 25
# Calls that say something of a tensor other than its numbers.
OF_THE_SHAPE = {"__get__", "__len__", "size", "dim", "ndimension", "numel", "nelement", "stride", "element_size",
                "is_contiguous", "is_floating_point", "is_complex", "is_inference", "storage_offset", "get_device",
                "is_conj", "is_neg", "is_signed"}  # fmt: skip
# Calls that give back what they were given where there is nothing to do.
OFTEN_IDLE = {"to", "contiguous", "dropout", "float"}


class Unsteady(Exception):
    """Why a step is not the same at every length; where that is known, after how many `steps` it may be."""

    def __init__(self, why: str, steps: int | None = None) -> None:
        super().__init__(why)
        self.steps = steps


class TorchCall(NamedTuple):
    """A call of PyTorch, what went in and what came out."""

    function: Callable[..., Any]
    args: Any
    kwargs: Any
    out: Any


class Capture(TorchFunctionMode):
    """While entered, writes down each call of PyTorch, and each number that is read of a shape.

    The second of two hands out as `Length` what has grown since the first.
    """

    def __init__(self, n: int, before: "Capture | None", inputs: Sequence[Tensor | None]) -> None:
        super().__init__()
        self.n, self.inputs = n, inputs
        self.calls: list[TorchCall] = []
        self.read: list[Any] = []
        self.trouble: str | None = None
        self.watch: set[Asked] = set()
        self._before = before

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if isinstance(out, Tensor) or name == "__bool__" or name == "__setitem__":
            self.calls.append(TorchCall(func, args, kwargs, out))
        elif name in OF_THE_SHAPE:
            return self._said(out) if isinstance(out, (int, tuple)) and not isinstance(out, bool) else out
        elif any(True for _ in _tensors(out)):
            self.calls.append(TorchCall(func, args, kwargs, out))
        elif name != "data_ptr" and any(True for _ in _tensors([*args, *kwargs.values()])):
            # Not a question of dtypes, nor whether it is the same memory, which what is no constant never is.
            self.trouble = self.trouble or f"{name or func} gives {type(out).__name__}, which may be another next time"
        return out

    def _said(self, out: Any) -> Any:
        """A number, or numbers, of a shape."""
        place = len(self.read)
        self.read.append(out)
        if self._before is None:
            return out
        if place >= len(self._before.read) or _size(earlier := self._before.read[place]) != _size(out):
            self.trouble = self.trouble or "what is read of shapes differs"
            return out
        return _grown(earlier, out, self.watch)


def _size(numbers: Any) -> int:
    return len(numbers) if isinstance(numbers, tuple) else -1


def _grown(first: Any, second: Any, watch: Any) -> Any:
    """The second of two numbers, or rows of them, as a `Length` where it has grown."""
    if first == second:
        return second
    if isinstance(second, tuple):
        return type(second)([_grown(*each, watch) for each in zip(first, second, strict=True)])
    return Length(second, second - first, watch)


def _tensors(value: Any) -> Any:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _tensors(each)


class StepProgram(NamedTuple):
    """The calls of two captures as one function of n and the inputs, good for lengths from `start` up to `end`.

    `source` is what it says, a line for each call.
    """

    run: Callable[..., Tensor | None]  # None: the step turned out to be another one
    start: int
    end: int
    source: str


def program(captures: Sequence[Capture], out: Tensor, capacity: int) -> StepProgram:
    """Raises Unsteady where the captures differ otherwise than in lengths, or would within a few steps."""
    for capture in captures:
        if capture.trouble:
            raise Unsteady(capture.trouble)
    last, end = captures[-1], captures[-1].n + 1
    while end < capacity and all(asked.holds(end - last.n) for asked in last.watch):
        end += 1
    if end - last.n <= WORTH:
        raise Unsteady(f"it would serve {end - last.n - 1} steps", steps=end - last.n)
    writer = _Writer(captures)
    source = writer.source(out)
    # As defaults of the function the constants are local names, which Python finds fastest.
    constants = ", ".join(f"{name}={name}" for name in writer.constants)
    scope: dict[str, Any] = dict(writer.constants)
    exec(compile(source.replace("*, constants", constants), "<captured step>", "exec"), scope)
    return StepProgram(scope["step"], last.n, end, source)


class _Line(NamedTuple):
    text: str
    uses: set[str]
    gives: list[str]


class _Writer:
    """Writes two captures down as one program: t0, t1, … are what calls give, c0, c1, … what stays the same."""

    def __init__(self, captures: Sequence[Capture]) -> None:
        self.captures = captures
        self.constants: dict[str, Any] = {}
        self._constant_names: dict[int, str] = {}
        self._names: list[dict[int, str]] = [{} for _ in captures]  # of each capture's tensors, by identity
        self._used: set[str] = set()

    def source(self, out: Tensor) -> str:
        inputs = [
            self._given(tensors, f"x{i}") for i, tensors in enumerate(_abreast([c.inputs for c in self.captures]))
        ]
        lines = [self._line(calls) for calls in _abreast([capture.calls for capture in self.captures])]
        result = self._names[-1].get(id(out))
        if result is None:
            raise Unsteady("what comes out was not made in the step")
        text, kept = [], {result}
        for line in reversed([line for line in lines if line is not None]):
            done = (line.uses | set(line.gives)) - kept - set(inputs)  # what no later line needs
            text += [f"    del {', '.join(sorted(done))}"] if done else []
            text.append(f"    {line.text}")
            kept |= done
        return "\n".join(
            [f"def step(n, {', '.join(inputs)}, *, constants):", *reversed(text), f"    return {result}\n"]
        )

    def _line(self, calls: Sequence[TorchCall]) -> _Line | None:
        function, self._used = calls[0].function, set()
        if any(call.function != function for call in calls):
            raise Unsteady(f"the calls are {', '.join(_title(call.function) for call in calls)}")
        name = _title(function)
        args = [self._spelled(values) for values in _abreast([call.args for call in calls])]
        for keys in _abreast([list(call.kwargs) for call in calls]):
            key = _same(set(keys))
            args.append(f"{key}={self._spelled([call.kwargs[key] for call in calls])}")
        text = f"{self._constant(function)}({', '.join(args)})"
        if name == "__bool__":
            return _Line(f"if {text} is not {self._spelled([call.out for call in calls])}: return None", self._used, [])
        if name in OFTEN_IDLE and all(call.out is call.args[0] for call in calls):
            return None
        outs = _abreast([list(_tensors(call.out)) for call in calls])
        gives = [self._given(tensors, f"t{len(self._names[0])}") for tensors in outs]
        if isinstance(calls[0].out, (tuple, list)) and len(calls[0].out) != len(gives):
            raise Unsteady(f"{name} gives more than tensors")
        if gives:
            several = "," if isinstance(calls[0].out, (tuple, list)) else ""
            text = f"{', '.join(gives)}{several} = {text}"
        return _Line(f"{text}  # {name}", self._used, gives)

    def _given(self, tensors: Sequence[Tensor | None], name: str) -> str:
        """The name of what a call gives, or of an input: a new one, but where it is one that was there before."""
        known = {names.get(id(tensor)) for names, tensor in zip(self._names, tensors, strict=True)}
        if known == {None}:
            for names, tensor in zip(self._names, tensors, strict=True):
                if tensor is not None:
                    names[id(tensor)] = name
            return name
        return _same(known)

    def _spelled(self, values: Sequence[Any]) -> str:
        """What the two values are at any n, in Python."""
        first = values[0]
        if isinstance(first, Tensor):
            name = _same({names.get(id(value)) for names, value in zip(self._names, values, strict=True)})
            if name is None:
                return self._constant(_same({id(value): value for value in values}.values()))
            self._used.add(name)
            return name
        if isinstance(first, int) and not isinstance(first, bool):
            return self._number(values)
        if isinstance(first, (tuple, list)):
            parts = [self._spelled(each) for each in _abreast(values)]
            return f"[{', '.join(parts)}]" if isinstance(first, list) else f"({''.join(f'{part}, ' for part in parts)})"
        if isinstance(first, slice):
            ends = [self._spelled([getattr(value, end) for value in values]) for end in ("start", "stop", "step")]
            return f"slice({', '.join(ends)})"
        if any(type(value) is not type(first) or value != first for value in values):
            raise Unsteady(f"an argument is {', '.join(map(str, values))}")
        return repr(first) if isinstance(first, (str, bool, type(None))) else self._constant(first)

    def _number(self, values: Sequence[int]) -> str:
        first, second = values
        slope = getattr(second, "slope", 0)
        if int(second) - int(first) != slope:
            raise Unsteady(f"a number is {first}, then {int(second)}")  # and nobody knows how it came to be
        if slope == 0:
            return str(first)
        offset = int(first) - slope * self.captures[0].n
        return ("n" if slope == 1 else f"{slope} * n") + (f" {'+-'[offset < 0]} {abs(offset)}" if offset else "")

    def _constant(self, value: Any) -> str:
        if id(value) not in self._constant_names:
            self._constant_names[id(value)] = f"c{len(self.constants)}"
            self.constants[self._constant_names[id(value)]] = value
        return self._constant_names[id(value)]


def _same(values: Iterable[Any]) -> Any:
    values = list(values)
    if len(values) > 1:
        raise Unsteady("something is another thing at each step")
    return values[0]


def _abreast(rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    if len({len(row) for row in rows}) > 1:
        raise Unsteady(f"sizes are {', '.join(str(len(row)) for row in rows)}")
    return list(zip(*rows, strict=True))


def _title(function: Any) -> str:
    return getattr(function, "__name__", str(function))
