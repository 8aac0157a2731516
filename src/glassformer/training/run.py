"""From a recipe to a run folder, and back from the folder to the model. See `folder.py` for what lies where."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from glassformer.checkpoints.files import TensorFile
from glassformer.checkpoints.folders import read_json
from glassformer.foundation.atomic import atomic_file
from glassformer.image.files import write_image
from glassformer.image.processor import ImageProcessor
from glassformer.ops.machine import keep_freed_memory, machine
from glassformer.ops.threads import patient_threads
from glassformer.parts.kernels import check_learning
from glassformer.text import Tokenizer
from glassformer.training.blocks import checkpoint_activations
from glassformer.training.checkpoint import (
    Checkpoints,
    Snapshot,
    generator_states,
    put_weights,
    read_state,
    read_weights,
    set_generator_states,
)
from glassformer.training.events import Ended, Event, Listener, Saved, Started
from glassformer.training.experts import ExpertLoad
from glassformer.training.folder import (
    MODEL_FOLDER,
    RECIPE,
    RESULT,
    begin_folder,
    check_folder,
    clear_unsaved,
    is_run,
    locked,
)
from glassformer.training.init import freeze, rates, take_weights
from glassformer.training.loop import Job, Progress, fit, measure, validate
from glassformer.training.metrics import MetricsFile, TensorBoard, read_metrics, summary_writer
from glassformer.training.optimizers import ModelOptimizer
from glassformer.training.readers import Readers
from glassformer.training.recipe import PRECISIONS, Recipe, load_recipe
from glassformer.training.signals import stop_request
from glassformer.training.tasks.task import num_parameters
from glassformer.training.view import view


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is over, or was stopped: where it lies, the model with its best weights, what was measured."""

    folder: Path
    recipe: Recipe
    model: Any  # of the task's kind: a LanguageModel, an encoder with a head, an encoder-decoder
    readers: Readers  # what makes the model's inputs
    step: int
    validation_loss: float | None  # of these weights
    signal: str | None = None  # what stopped it early
    metrics: list[dict[str, Any]] = field(default_factory=list, repr=False)
    result: dict[str, Any] | None = field(default=None, repr=False)  # what result.json says, once it is written

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of a model that reads text. Raises ValueError for another."""
        if self.readers.tokenizer is None:
            raise ValueError(f"{self.folder} holds a {type(self.model).__name__}, which reads no text: it has no "
                             "tokenizer")  # fmt: skip
        return self.readers.tokenizer

    @property
    def processor(self) -> ImageProcessor:
        """The processor of a model that looks at pictures. Raises ValueError for another."""
        if self.readers.processor is None:
            raise ValueError(f"{self.folder} holds a {type(self.model).__name__}, which looks at no pictures: it has "
                             "no image processor")  # fmt: skip
        return self.readers.processor


def train(
    recipe: Recipe,
    *,
    resume: bool | int = False,
    overwrite: bool = False,
    run_folder: str | Path | None = None,
    console: Console | None = None,
    on_event: Listener | Sequence[Listener] = (),
) -> Run:
    """Train a model as the recipe says; SIGTERM and SIGINT save and end it early.

    The same recipe gives the same weights, bit by bit, on the same machine with the same number of threads, however
    often it is stopped and resumed. The caller's random generators are left as they were.

    Args:
        recipe: see `load_recipe`.
        resume: go on from the newest checkpoint in the folder, or from that of a step.
        overwrite: remove an earlier run in the folder.
        run_folder: where everything goes; `runs/NAME` if not given.
        console: shows the run live (plain lines where it is no terminal).
        on_event: told all that happens (see glassformer.training.events).

    Raises:
        FileExistsError: the folder has a run already. FileNotFoundError: nothing to resume, no such corpus.
        BlockingIOError: another process trains there.
        ValueError: the folder's run has another recipe, its checkpoint is damaged. FloatingPointError: the loss or a
        gradient is not finite. OSError: the disk is full.
    """
    folder = Path(run_folder) if run_folder is not None else Path("runs") / recipe.name
    listeners = [on_event] if callable(on_event) else list(on_event)
    resumed = resume is not False
    if resumed and is_run(folder):
        recipe = recipe.completed(load_recipe(folder / RECIPE))
    check_folder(folder, recipe, resume=resumed, overwrite=overwrite)
    with ExitStack() as stack:
        stack.enter_context(locked(folder))
        stack.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
        should_stop = stack.enter_context(stop_request())
        stack.enter_context(patient_threads())
        if console is not None:
            listeners.insert(0, stack.enter_context(view(console)))

        def tell(event: Event) -> None:
            for listener in listeners:
                listener(event)

        trainer = Trainer(recipe, folder, tell, Readers.load(folder, recipe.task.reads) if resumed else None)
        if resumed:
            trainer.resume(None if resume is True else int(resume))
        else:  # only now is an earlier run overwritten: the data has been read, the model fits
            stack.callback(clear_unsaved, folder)
            begin_folder(folder, trainer.recipe, trainer.readers)
        trainer.listen(listeners)
        trainer.fit(should_stop)
        if should_stop.signal is None:
            trainer.finish()
        progress = trainer.progress
        tell(Ended(step=progress.step, signal=should_stop.signal, seconds=progress.seconds, best=progress.best,
                   cpu_seconds=progress.cpu_seconds, validation_loss=progress.validation_loss))  # fmt: skip
        return export(folder, signal=should_stop.signal)


class Trainer:
    """A run's objects, made from its recipe in the one order that makes it repeatable."""

    def __init__(self, recipe: Recipe, folder: Path, tell: Listener, readers: Readers | None) -> None:
        self.recipe, self.folder, self.tell = recipe, folder, tell
        self.checkpoints = Checkpoints(folder, recipe.training.keep)
        self.checkpoints.sweep()
        self.device = device_named(recipe.training.device)
        if recipe.training.tensorboard:
            summary_writer()
        trained = None if readers is not None or recipe.init.source is None else recipe.init.load()
        if trained is not None:
            readers = Readers.load(recipe.init.folder(), recipe.task.reads)
            if recipe.model is None:
                recipe = replace(recipe, model=trained.config)
        prepared = recipe.task.prepare(recipe, readers or Readers())
        recipe = recipe.with_model(**prepared.settings)
        self.recipe, self.prepared, self.readers = recipe, prepared, prepared.readers
        torch.manual_seed(recipe.training.seed)
        self.model = recipe.build_model(**recipe.task.model_settings(recipe, self.readers))
        self.new = () if trained is None else take_weights(self.model, trained, recipe.init.source)
        freeze(self.model, recipe.init.freeze)
        self.model.to(self.device)
        check_learning(self.model, self.device)
        self.optimizer = ModelOptimizer(self.model, recipe.optimizer, rates(self.model, recipe.init))
        self.batches, self.progress = prepared.batches, Progress()

    def resume(self, step: int | None) -> None:
        """Take up a checkpoint; those of later steps are put aside."""
        snapshot = self.checkpoints.load(step)
        put_weights(self.model, snapshot.model, self.checkpoints.folder)
        self.optimizer.load_state_dict(snapshot.optimizer)
        self.progress = taken_up(snapshot.state)
        self.batches.load_state_dict(snapshot.state["loader"])
        set_generator_states(snapshot.generators, self.device)
        for later in self.checkpoints.steps():
            if later > self.progress.step:
                self.checkpoints.abandon(later)

    def listen(self, listeners: list[Listener]) -> None:
        """Write the metrics down from here on."""
        listeners.append(MetricsFile(self.folder, self.progress.step))
        if self.recipe.training.tensorboard:
            listeners.append(TensorBoard(self.folder, self.progress.step))

    def fit(self, should_stop: Callable[[], bool]) -> None:
        """Run the loop to its end."""
        training = self.recipe.training
        if self.device.type == "cpu":
            keep_freed_memory()
        model: Any = checkpoint_activations(self.model) if training.checkpoint_activations else self.model
        if training.compile:
            model.compile()
        flops, peak = self.recipe.task.flops_per_unit(self.model, self.recipe), self.machine_flops()
        self.tell(
            Started(
                step=self.progress.step, recipe=self.recipe, folder=self.folder, data=self.prepared.data,
                parameters=num_parameters(self.model), flops_per_unit=flops, machine_flops=peak,
                device=str(self.device), new=self.new,
                frozen=sum(p.numel() for p in self.model.parameters() if not p.requires_grad),
            )
        )  # fmt: skip
        self.job = Job(
            recipe=self.recipe, model=model, optimizer=self.optimizer, batches=self.batches, device=self.device,
            validation=self.prepared.validation, shown=self.readers.shown, save=self.save,
            save_best=self.save_best, tell=self.tell, should_stop=should_stop, flops_per_unit=flops,
            machine_flops=peak, objective=self.prepared.objective, experts=ExpertLoad(self.model),
        )  # fmt: skip
        fit(self.job, self.progress)

    def save(self) -> None:
        """Write a checkpoint."""
        path = self.checkpoints.save(
            self.progress.step,
            Snapshot(
                model=self.model.state_dict(),
                optimizer=self.optimizer.state_dict(),
                generators=generator_states(self.device),
                state={"progress": asdict(self.progress), "loader": self.batches.state_dict()},
            ),
        )
        self.tell(Saved(step=self.progress.step, path=path))

    def save_best(self) -> None:
        """Keep the weights as the best so far."""
        progress = self.progress
        state = {"step": progress.step, "validation_loss": progress.validation_loss, "metrics": progress.metrics}
        self.checkpoints.save_best(self.model.state_dict(), state)

    def finish(self) -> None:
        """Write down what the best weights reach: measured anew where a task's full measure takes its time, and on
        the test data, which nothing was chosen by."""
        if not self.checkpoints.best.is_file():  # stopped before the first evaluation
            return
        found = read_state(TensorFile(self.checkpoints.best))
        prepared, last = self.prepared, None
        if prepared.validation.more_in_the_end or prepared.test is not None:
            put_weights(self.model, read_weights(self.checkpoints.best), self.checkpoints.best)
        if prepared.validation.more_in_the_end:
            last = measure(self.job, final=True)[1]
            found["metrics"] = last.metrics
        found["baseline"] = dict(prepared.baseline)
        if prepared.test is not None:
            precision = self.recipe.training.precision
            loss, last = validate(self.model, prepared.test, self.device, precision=precision, final=True)
            found |= {"test": {"loss": loss, **last.metrics}, "test_baseline": dict(prepared.test_baseline)}
        for name, picture in ({} if last is None else last.pictures).items():
            write_image(self.folder / name, picture)
        result = found | {
            "seconds": self.progress.seconds,
            "cpu_seconds": self.progress.cpu_seconds,
        }
        with atomic_file(self.folder / RESULT) as file:
            file.write(json.dumps(result, indent=2).encode())

    def machine_flops(self) -> float | None:
        """Per second, what this machine's matrix product reaches in the run's precision; None where it is unknown."""
        if self.device.type != "cpu":
            return None
        return machine().peak_gflops(PRECISIONS[self.recipe.training.precision] or torch.float32) * 1e9


def device_named(name: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises ValueError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"there is no device {name!r}; expected auto, cpu, or cuda") from error
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # each kind of device says it another way
        raise ValueError(f"the device is {name!r}, but torch sees no such device here; use cpu or auto") from error
    return device


def taken_up(state: Mapping[str, Any]) -> Progress:
    """How far a checkpoint had come. ValueError where it says something else."""
    try:
        return Progress(**state["progress"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"a checkpoint's state does not say how far the run had come: {error}") from error


def export(folder: Path, signal: str | None = None) -> Run:
    """Write `model/`, the run's best weights as a Hugging Face folder with the tokenizer or image processor."""
    run = load_run(folder)
    run.model.save_pretrained(folder / MODEL_FOLDER, special_tokens=run.readers.special_tokens())
    run.readers.save(folder / MODEL_FOLDER)
    return Run(**{**vars(run), "signal": signal})


def load_run(folder: str | Path) -> Run:
    """The run in a folder, its model with the best weights (the newest, where none was evaluated) in eval mode.

    Raises:
        FileNotFoundError: it is no run folder, or nothing was saved yet. ValueError: what is there is damaged.
    """
    folder = Path(folder)
    if not is_run(folder):
        raise FileNotFoundError(f"{folder} is not a run folder: it has no {RECIPE}")
    recipe, checkpoints = load_recipe(folder / RECIPE), Checkpoints(folder)
    readers = Readers.load(folder, recipe.task.reads)
    loss: float | None = None
    if checkpoints.best.is_file():
        weights, source = read_weights(checkpoints.best), checkpoints.best
        state = read_state(TensorFile(source))
        step, loss = state["step"], state["validation_loss"]
    else:
        snapshot, source = checkpoints.load(), checkpoints.folder
        weights, step = snapshot.model, snapshot.state["progress"]["step"]
    with torch.device("meta"):
        model = recipe.build_model(**recipe.task.model_settings(recipe, readers))
    put_weights(model, weights, source)
    result = read_json(folder / RESULT) if (folder / RESULT).is_file() else None
    return Run(folder=folder, recipe=recipe, model=model.eval(), readers=readers, step=step, result=result,
               validation_loss=loss, metrics=read_metrics(folder))  # fmt: skip
