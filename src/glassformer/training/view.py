"""A run as it is seen in a terminal: a live panel, or plain lines where the output goes elsewhere."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from glassformer.training.events import Ended, Evaluated, Event, Listener, Progressed, Saved, Started

BARS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 60
RECENT = 12


@contextmanager
def view(console: Console) -> Iterator[Listener]:
    """A listener that shows what it is told on `console`, for as long as the block lasts."""
    if not console.is_terminal:
        yield Lines(console)
        return
    panel = LivePanel()
    with Live(panel, console=console, refresh_per_second=4):
        yield panel


class History:
    """What has been told so far, and what follows from it."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.progressed: Progressed | None = None
        self.evaluated: Evaluated | None = None
        self.best: Evaluated | None = None
        self.saved: Saved | None = None
        self.ended: Ended | None = None
        self.losses: list[float] = []
        self.recent: deque[tuple[int, float]] = deque(maxlen=RECENT + 1)  # step, seconds

    def take(self, event: Event) -> None:
        match event:
            case Started():
                self.started = event
                self.recent.extend([] if event.step else [(0, 0.0)])
            case Progressed():
                self.progressed = event
                self.losses.append(event.loss)
                self.recent.append((event.step, event.seconds))
            case Evaluated():
                self.evaluated = event
                self.best = event if event.is_best else self.best
            case Saved():
                self.saved = event
            case Ended():
                self.ended = event

    def seconds_left(self) -> float | None:
        """At the speed of the last `RECENT` words, evaluations and checkpoints between them included."""
        if self.started is None or len(self.recent) < 2:
            return None
        (first, then), (last, now) = self.recent[0], self.recent[-1]
        return (now - then) / (last - first) * (self.started.recipe.training.steps - last)


class Lines:
    """One line for each word, evaluation and checkpoint."""

    def __init__(self, console: Console) -> None:
        self.console, self.seen = console, History()

    def __call__(self, event: Event) -> None:
        self.seen.take(event)
        line = self.line(event)
        if line:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def line(self, event: Event) -> str:
        """What is printed for an event; nothing for some."""
        match event:
            case Started():
                return headline(event)
            case Progressed():
                left = self.seen.seconds_left()
                line = (f"step {event.step:>6}   loss {event.loss:.4f}   rate {event.learning_rate:.2e}   "
                        f"{speed(event)}   {clock(left)} left")  # fmt: skip
                return "\n".join([line, *(f"   {each}" for each in experts(event))])
            case Evaluated():
                shown = "".join(f"   {example}\n" for example in event.examples)
                return (f"step {event.step:>6}   validation loss {event.validation_loss:.4f}   "
                        f"{metrics(event)}{' (best)' * event.is_best}\n{shown}").rstrip()  # fmt: skip
            case Saved():
                return f"step {event.step:>6}   saved {event.path}"
            case Ended():
                return ending(event)
        return ""


class LivePanel:
    """All of it at a glance, drawn anew a few times a second."""

    def __init__(self) -> None:
        self.seen = History()

    def __call__(self, event: Event) -> None:
        self.seen.take(event)

    def __rich__(self) -> RenderableType:
        seen = self.seen
        if seen.started is None:
            return Text("reading the data …")
        step = seen.progressed.step if seen.progressed else seen.started.step
        steps = seen.started.recipe.training.steps
        rows: list[RenderableType] = [Text(headline(seen.started), style="dim"), Text()]
        table = Table.grid(padding=(0, 3))
        table.add_row("step", f"{step:,} of {steps:,}", ProgressBar(total=steps, completed=step, width=40))
        if seen.progressed:
            table.add_row("loss", f"[bold]{seen.progressed.loss:.4f}", Text(curve(seen.losses), style="cyan"))
        if seen.evaluated and seen.best:
            best = f"best {seen.best.validation_loss:.4f} at step {seen.best.step:,}"
            table.add_row("validation", f"[bold green]{seen.evaluated.validation_loss:.4f}", best)
            table.add_row("", "", metrics(seen.evaluated))
        if seen.progressed:
            table.add_row("rate", f"{seen.progressed.learning_rate:.2e}",
                          f"gradient norm {seen.progressed.gradient_norm:.2f}")  # fmt: skip
            unit = f"{seen.progressed.unit}/s"
            number, _, rest = speed(seen.progressed).partition(f" {unit}")
            table.add_row(unit, number, rest.strip(" ,"))
            left = seen.seconds_left()
            table.add_row("time", clock(seen.progressed.seconds), f"{clock(left)} left")
        rows.append(table)
        rows += [Text(line, style="cyan") for line in experts(seen.progressed)]
        rows += [Text(example, style="dim") for example in (seen.evaluated.examples if seen.evaluated else ())]
        if seen.ended:
            rows += [Text(), Text(ending(seen.ended), style="bold")]
        elif seen.saved:
            rows += [Text(), Text(f"saved {seen.saved.path}", style="dim")]
        return Panel(Group(*rows), title=seen.started.recipe.name, title_align="left", width=100)


def headline(event: Started) -> str:
    """The run in one line."""
    model = type(event.recipe.model).__name__.removesuffix("Config")
    resumed = f", going on from step {event.step:,}" if event.step else ""
    began = "" if event.recipe.init.source is None or event.step else f", begun from {event.recipe.init.source}"
    new = f" (new: {', '.join(event.new)})" if event.new else ""
    frozen = f", {event.frozen:,} of them frozen" if event.frozen else ""
    about = f"{model}, {event.parameters:,} parameters{frozen}, {event.device}{resumed}{began}{new}"
    return f"{about}; {event.data}"


def ending(event: Ended) -> str:
    """How the run ended, in one line."""
    loss = "" if event.validation_loss is None else f"; validation loss {event.validation_loss:.4f}"
    how = "done" if event.signal is None else f"stopped by {event.signal}, saved: resume goes on from here"
    return f"{how} at step {event.step:,} after {clock(event.seconds)} ({clock(event.cpu_seconds)} of CPU){loss}"


def metrics(event: Evaluated) -> str:
    """What the task measures, in one line."""
    return "   ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in event.metrics.items())


def experts(event: Progressed | None) -> list[str]:
    """How the tokens spread over the experts, a line for each layer."""
    shares = {} if event is None else event.experts
    return [f"experts of {layer}: {'  '.join(f'{s:>4.0%}' for s in each)}" for layer, each in shares.items()]


def speed(event: Progressed) -> str:
    """Tokens (or pictures) per second, and what share of the machine that is."""
    share = "" if event.matrix_share is None else f", {event.matrix_share:.0%} of the machine's matrix speed"
    return f"{event.units_per_second:,.0f} {event.unit}/s{share}"


def clock(seconds: float | None) -> str:
    """`0:01:05`, or a dash."""
    return "–" if seconds is None else str(timedelta(seconds=round(seconds)))


def curve(losses: list[float]) -> str:
    """The losses as a line of bars, averaged down to `CURVE_WIDTH` of them."""
    bins = min(CURVE_WIDTH, len(losses))
    edges = [i * len(losses) // bins for i in range(bins + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(BARS[round((mean - low) / span * (len(BARS) - 1))] for mean in means)
