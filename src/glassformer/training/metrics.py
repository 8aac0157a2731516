"""`metrics.jsonl`, one JSON object a line, and TensorBoard for who wants it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glassformer.foundation.atomic import atomic_file, explained
from glassformer.training.events import Ended, Evaluated, Event, Progressed

METRICS = "metrics.jsonl"


class MetricsFile:
    """Writes each word and each evaluation of a run down. A run that goes on drops the lines past where it goes on."""

    def __init__(self, run_folder: Path, step: int) -> None:
        self.path = run_folder / METRICS
        kept = [record for record in read_metrics(run_folder) if record["step"] <= step]
        with atomic_file(self.path) as file:
            file.write("".join(json.dumps(record) + "\n" for record in kept).encode())

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progressed | Evaluated):
            with explained(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(flat(event)) + "\n")


def flat(event: Progressed | Evaluated) -> dict[str, Any]:
    """An event as one record: a metric stands beside the validation loss, a layer's experts as a list.

    What is counted stands under its name: "tokens" and "tokens_per_second", or "pictures" and "pictures_per_second".
    """
    record = asdict(event)
    if isinstance(event, Evaluated):
        record |= {f"validation_{name}": value for name, value in record.pop("metrics").items()}
        del record["examples"]
        return record
    unit = record.pop("unit")
    record |= {unit: record.pop("units"), f"{unit}_per_second": record.pop("units_per_second")}
    if not event.experts:
        del record["experts"]
    return record


def read_metrics(run_folder: str | Path) -> list[dict[str, Any]]:
    """The records of a run: those with `loss` come from training, those with `validation_loss` from evaluation.

    A last line that a crash cut short is left out; ValueError names any other that is not a record.
    """
    path = Path(run_folder) / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(record, Mapping) or not isinstance(record.get("step"), int):
            raise ValueError(f"{path}, line {number} is not a record of a step: {line[:60]!r}")
        records.append(dict(record))
    return records


def summary_writer() -> type:
    """TensorBoard's. Raises ImportError where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("tensorboard = true needs the package: pip install 'glassformer[tensorboard]'") from error
    return SummaryWriter


class TensorBoard:
    """The same numbers for TensorBoard, in the run's folder `tensorboard/`."""

    def __init__(self, run_folder: Path, step: int) -> None:
        self.writer = summary_writer()(str(run_folder / "tensorboard"), purge_step=step + 1 if step else None)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progressed | Evaluated):
            for key, value in flat(event).items():
                if key != "step" and isinstance(value, int | float):
                    self.writer.add_scalar(key, value, event.step)
        elif isinstance(event, Ended):
            self.writer.close()
