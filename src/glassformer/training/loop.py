"""The training loop: batch, loss, gradient, step; and now and then a word, an evaluation, a checkpoint.

It knows a model as something called with `model(**batch.inputs)` that gives the mean loss over the counted targets,
which the task's objective may add to, and nothing more about it.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.training.batches import Batch, Source
from glassformer.training.clock import Clock, Progress
from glassformer.training.events import Evaluated, Listener, Progressed
from glassformer.training.optimizers import ModelOptimizer
from glassformer.training.recipe import PRECISIONS, Recipe
from glassformer.training.tasks import Measures, Validation
from glassformer.training.tasks.task import LOSS, Objective, own_loss


@dataclass
class Job:
    """All that the loop needs, ready made."""

    recipe: Recipe
    model: nn.Module
    optimizer: ModelOptimizer
    batches: Source
    validation: Validation
    device: torch.device
    shown: Callable[[Mapping[str, Any]], str]  # the first row of a model's inputs, in words
    save: Callable[[], None]
    save_best: Callable[[], None]
    tell: Listener
    should_stop: Callable[[], bool]
    flops_per_unit: float | None
    machine_flops: float | None
    objective: Objective = own_loss
    experts: Callable[[], dict[str, list[float]]] = dict  # each layer's shares of the tokens since the last word


def fit(job: Job, progress: Progress) -> None:
    """Train until the recipe's last step, or until told to stop; either way the last thing done is a checkpoint.

    Raises FloatingPointError, before the step, where the loss or a gradient is not finite.
    """
    training, evaluation = job.recipe.training, job.recipe.evaluation
    clock, saved = Clock(progress), progress.step or None
    while progress.step < training.steps and not job.should_stop():
        before = progress.units
        gradient_norm = train_step(job, progress)
        clock.count_step(progress.units - before)
        last = progress.step == training.steps
        if progress.step % training.log_every == 0 or last:
            job.tell(progressed(job, progress, gradient_norm, clock.units_per_second()))
        if progress.step % evaluation.every == 0 or last:
            evaluate(job, progress, clock)
        clock.settle()
        if progress.step % training.save_every == 0:
            job.save()
            saved = progress.step
    if saved != progress.step:
        job.save()


def train_step(job: Job, progress: Progress) -> float:
    """One optimizer step; gives the norm of the gradient before clipping."""
    training = job.recipe.training
    job.model.train()
    job.optimizer.set_factor(job.recipe.schedule(progress.step, training.steps))
    job.optimizer.zero_grad()
    batch = next(job.batches).to(job.device)
    loss = accumulate(job, batch)
    parameters = job.optimizer.parameters.values()
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    value, norm_value = loss.item(), norm.item()
    if not math.isfinite(value) or not math.isfinite(norm_value):
        what = f"the loss is {value}" if not math.isfinite(value) else f"the gradient's norm is {norm_value}"
        raise FloatingPointError(f"step {progress.step}: {what}; {describe(job, batch)}; no step was taken with it")
    if training.clip_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, training.clip_norm, norm)
    job.optimizer.step()
    progress.step += 1
    progress.units += batch.units
    progress.loss_sum += value
    progress.loss_count += 1
    return norm_value


def accumulate(job: Job, batch: Batch) -> Tensor:
    """The batch's mean loss, its gradient left in the parameters, computed `micro_batch_size` rows at a time.

    Each part's mean is weighed by its share of the counted targets, so that the parts add up to the mean of all.
    """
    total, rows = max(1, batch.counted), job.recipe.training.micro_batch_size or len(batch)
    loss = torch.zeros((), device=job.device)
    for start in range(0, len(batch), rows):
        part = batch.rows(start, start + rows)
        with autocast(job):
            part_loss = job.objective(job.model, part.inputs) * (part.counted / total)
        part_loss.backward()
        loss += part_loss.detach()
    return loss


def autocast(job: Job) -> torch.autocast:
    """As `products`, of a job."""
    return products(job.recipe.training.precision, job.device)


def products(precision: str, device: torch.device) -> torch.autocast:
    """Products in bfloat16 where that is the precision; parameters and sums stay in float32."""
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def evaluate(job: Job, progress: Progress, clock: Clock) -> float:
    """The mean loss over the counted validation targets, and the task's metrics; keeps the weights if they are the
    best so far by the metric that the task goes by."""
    loss, found = measure(job, final=False)
    clock.settle()
    if not math.isfinite(loss):
        raise FloatingPointError(f"step {progress.step}: the validation loss is {loss}, though training's was finite")
    progress.validation_loss, progress.metrics = loss, found.metrics
    metric = job.recipe.task.metric
    value = loss if metric == LOSS else found.metrics[metric]
    is_best = progress.best is None or (value < progress.best if metric == LOSS else value > progress.best)
    if is_best:
        progress.best = value
        job.save_best()
    job.tell(
        Evaluated(
            step=progress.step, validation_loss=loss, is_best=is_best, seconds=progress.seconds,
            cpu_seconds=progress.cpu_seconds, metrics=found.metrics, examples=found.examples,
        )
    )  # fmt: skip
    return loss


def measure(job: Job, *, final: bool) -> tuple[float, Measures]:
    """The mean loss over the counted validation targets, and what the task measures beside it."""
    precision, limit = job.recipe.training.precision, job.recipe.evaluation.batches
    return validate(job.model, job.validation, job.device, precision=precision, limit=limit, final=final)


def validate(
    model: Any,
    validation: Validation,
    device: torch.device,
    *,
    final: bool,
    precision: str = "float32",
    limit: int | None = None,
    track: Callable[[Iterable[Batch]], Iterable[Batch]] = iter,
) -> tuple[float, Measures]:
    """The same of any model and its validation data, or the first `limit` batches of it; `track` sees them pass."""
    model.eval()
    total, counted, kept = 0.0, 0, []
    with torch.no_grad(), products(precision, device):
        for batch in track(islice(validation.batches(), limit)):
            output: Any = model(**batch.to(device).inputs)
            total += output.loss.item() * batch.counted
            counted += batch.counted
            kept.append(validation.keep(batch, output))
        return total / counted, validation.measure(model, total / counted, kept, final=final)


def progressed(job: Job, progress: Progress, gradient_norm: float, units_per_second: float) -> Progressed:
    """What is told every `log_every` steps; the mean of the losses starts anew."""
    loss = progress.loss_sum / progress.loss_count
    progress.loss_sum, progress.loss_count = 0.0, 0
    share = None
    if job.machine_flops is not None and job.flops_per_unit is not None:
        share = job.flops_per_unit * units_per_second / job.machine_flops
    return Progressed(
        step=progress.step, loss=loss, learning_rate=job.optimizer.learning_rate, gradient_norm=gradient_norm,
        units=progress.units, seconds=progress.seconds, cpu_seconds=progress.cpu_seconds,
        unit=job.recipe.task.unit, units_per_second=units_per_second, matrix_share=share, experts=job.experts(),
    )  # fmt: skip


def describe(job: Job, batch: Batch) -> str:
    """Which rows alone, without dropout, have a loss or gradient that is not finite, and what the first is."""
    job.model.eval()
    parameters, wrong = list(job.optimizer.parameters.values()), []
    for row in range(len(batch)):
        with autocast(job):
            loss = job.objective(job.model, batch.rows(row, row + 1).inputs)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        norm = nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])
        if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
            wrong.append(row)
    row = wrong[0] if wrong else 0
    shown = job.shown(batch.rows(row, row + 1).inputs)
    if not wrong:
        return f"no row of the batch does so alone; row 0 {shown}"
    others = f" (and {len(wrong) - 1} more rows)" if len(wrong) > 1 else ""
    return f"row {row} of the batch{others} {shown}"
