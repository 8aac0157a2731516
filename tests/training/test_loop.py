import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from glassformer.models.gpt2 import GPT2
from glassformer.text import TokenBatch
from glassformer.training import ModelOptimizer, Recipe, checkpoint_activations
from glassformer.training.batches import Batch, next_token_batch
from glassformer.training.events import Evaluated, Event, Progressed
from glassformer.training.loop import Clock, Job, Progress, accumulate, evaluate, fit, train_step
from glassformer.training.tasks import Validation

Tiny = Callable[..., Recipe]
VOCABULARY = 20


def batches(recipe: Recipe, *, seed: int = 0, ignored: bool = False) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    shape = recipe.texts.batch_size, recipe.texts.context
    while True:
        inputs, targets = (torch.randint(VOCABULARY, shape, generator=generator) for _ in range(2))
        if ignored:  # as many in each row as its number says
            targets[torch.arange(shape[1]) < torch.arange(shape[0])[:, None] * 2] = -100
        yield next_token_batch(TokenBatch(inputs, targets))


class Held(Validation):
    """Batches to validate on, ready made."""

    def __init__(self, *ready: Batch) -> None:
        self.ready = ready

    def batches(self) -> tuple[Batch, ...]:
        return self.ready


def said(inputs: Mapping[str, Any]) -> str:
    return f"reads {' '.join(map(str, inputs['input_ids'][0].tolist()))!r}"


def make_job(recipe: Recipe, source: Iterator[Batch] | None = None, **changes: Any) -> Job:
    torch.manual_seed(0)
    model = recipe.build_model(VOCABULARY)
    validation = next(batches(recipe, seed=9))
    job = Job(
        recipe=recipe, model=model, optimizer=ModelOptimizer(model, recipe.optimizer),
        batches=source or batches(recipe), validation=Held(validation), device=torch.device("cpu"),
        shown=said, save=lambda: None, save_best=lambda: None,
        tell=lambda event: None, should_stop=lambda: False, flops_per_unit=1e6, machine_flops=1e9,
    )  # fmt: skip
    return replace(job, **changes)


def collect(losses: list[float]) -> Callable[[Event], None]:
    return lambda event: losses.append(event.loss) if isinstance(event, Progressed) else None


def parameters(job: Job) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in job.model.named_parameters()}


def no_dropout(tiny: Tiny, **overrides: Any) -> Recipe:
    return tiny(model__embedding_dropout=0, model__attention_dropout=0, model__residual_dropout=0, **overrides)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_accumulated_micro_batches_equal_the_large_batch_whatever_they_count(tiny: Tiny, rows: int) -> None:
    whole, parts = no_dropout(tiny), no_dropout(tiny, training__micro_batch_size=rows)
    batch = next(batches(whole, ignored=True))
    found: list[tuple[torch.Tensor, dict[str, torch.Tensor]]] = []
    for recipe in (whole, parts):
        job = make_job(recipe)
        job.model.double()
        loss = accumulate(job, batch)
        found.append((loss, {name: p.grad for name, p in job.model.named_parameters() if p.grad is not None}))
    (loss, gradients), (loss_of_parts, gradients_of_parts) = found
    torch.testing.assert_close(loss_of_parts, loss, rtol=1e-6, atol=0)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_of_parts[name], gradient, rtol=1e-9, atol=1e-12)


def test_a_batch_without_counted_targets_moves_no_weight_by_its_gradient(tiny: Tiny) -> None:
    recipe = no_dropout(tiny)
    job = make_job(recipe)
    batch = next(batches(recipe))
    batch.inputs["targets"].fill_(-100)
    assert accumulate(job, batch) == 0.0
    assert all(p.grad is None or p.grad.eq(0).all() for p in job.model.parameters())


def test_the_loop_overfits_one_batch(tiny: Tiny) -> None:
    recipe = no_dropout(tiny, training__steps=150, optimizer__learning_rate=3e-2, data__batch_size=2)
    batch = next(batches(recipe))

    def again() -> Iterator[Batch]:
        while True:
            yield batch

    losses: list[float] = []
    fit(
        make_job(recipe, again(), tell=lambda e: losses.append(e.loss) if isinstance(e, Progressed) else None),
        Progress(),
    )
    assert losses[0] > 2.0
    assert losses[-1] < 0.02


@pytest.mark.parametrize("poison", ["loss", "gradient"])
@pytest.mark.parametrize("rows", [None, 1])
def test_a_non_finite_loss_or_gradient_stops_before_the_step_and_names_the_row(
    tiny: Tiny, poison: str, rows: int | None
) -> None:
    recipe = no_dropout(tiny, training__micro_batch_size=rows or "none")
    job = make_job(recipe)
    assert isinstance(job.model, GPT2)
    progress = Progress()
    train_step(job, progress)
    before, state = parameters(job), {name: t.clone() for name, t in job.optimizer.state_dict().items()}
    bad = TokenBatch(torch.arange(32).remainder(10).view(4, 8), torch.zeros(4, 8, dtype=torch.int64))
    bad.inputs[2] = 17  # the only row with this token
    job.batches = iter([next_token_batch(bad)])

    def poisoned(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        wrong = (inputs[0] == 17)[..., None]
        if poison == "loss":
            return output.masked_fill(wrong, math.inf)
        output.register_hook(lambda gradient: gradient.masked_fill(wrong, math.nan))
        return output

    job.model.embed.register_forward_hook(poisoned)
    what = "the loss is nan" if poison == "loss" else "the gradient's norm is nan"
    row = "row 2 of the batch reads '17 17 17"
    with pytest.raises(FloatingPointError, match=f"step 1: {what}; {row}.*no step was taken with it"):
        train_step(job, progress)
    assert progress.step == 1
    for name, parameter in parameters(job).items():
        assert parameter.equal(before[name]), name
    for name, tensor in job.optimizer.state_dict().items():
        assert tensor.equal(state[name]), name


def test_the_first_of_several_rows_is_described(tiny: Tiny) -> None:
    job = make_job(no_dropout(tiny), shown=lambda inputs: f"has {len(inputs['input_ids'])} row")
    with torch.no_grad():
        next(job.model.parameters()).fill_(math.nan)
    with pytest.raises(FloatingPointError, match=r"row 0 of the batch \(and 3 more rows\) has 1 row; no step"):
        train_step(job, Progress())


def test_the_gradient_is_clipped_to_the_norm_and_the_norm_before_is_told(tiny: Tiny) -> None:
    plain = make_job(no_dropout(tiny, training__clip_norm="none"))
    clipped = make_job(no_dropout(tiny, training__clip_norm=1e-3))
    norms = [train_step(job, Progress()) for job in (plain, clipped)]
    assert norms[0] == norms[1] > 1e-2
    gradients = [torch.cat([p.grad.flatten() for p in job.model.parameters() if p.grad is not None])
                 for job in (plain, clipped)]  # fmt: skip
    assert gradients[0].norm().item() == pytest.approx(norms[0], rel=1e-4)
    torch.testing.assert_close(gradients[1], gradients[0] * (1e-3 / norms[0]), rtol=1e-3, atol=1e-9)


def test_bfloat16_computes_in_it_and_keeps_float32_parameters(tiny: Tiny) -> None:
    job, plain = make_job(no_dropout(tiny, training__precision="bfloat16")), make_job(no_dropout(tiny))
    seen = set()
    job.model.blocks[0].feed_forward.up.register_forward_hook(lambda _, __, y: seen.add(y.dtype))  # type: ignore
    train_step(job, progress := Progress())
    train_step(plain, plain_progress := Progress())
    assert seen == {torch.bfloat16}
    assert {parameter.dtype for parameter in job.model.parameters()} == {torch.float32}
    assert progress.loss_sum != plain_progress.loss_sum
    assert progress.loss_sum == pytest.approx(plain_progress.loss_sum, rel=1e-2)


def test_recomputed_activations_give_the_same_training_to_the_bit(tiny: Tiny) -> None:
    found = []
    for recomputed in (False, True):
        job = make_job(tiny(training__steps=4))
        if recomputed:
            checkpoint_activations(job.model)
        fit(job, Progress())
        found.append(parameters(job))
    for name in found[0]:
        assert found[0][name].equal(found[1][name]), name


def test_the_validation_loss_is_the_mean_over_counted_tokens_in_eval_mode(tiny: Tiny) -> None:
    recipe = tiny()  # with dropout
    job = make_job(recipe, batches(recipe, ignored=True))
    first, second = next(job.batches), next(batches(recipe, seed=4))
    job.validation = Held(first, second)
    found = evaluate(job, Progress(), Clock(Progress()))
    with torch.no_grad():
        logits = torch.cat([job.model.eval()(batch.inputs["input_ids"]).logits for batch in (first, second)]).double()
    targets = torch.cat([first.inputs["targets"], second.inputs["targets"]])
    picked = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)
    assert found == pytest.approx(-picked[targets != -100].mean().item(), rel=1e-6)
    assert found == evaluate(job, Progress(), Clock(Progress()))


def test_only_the_first_batches_are_evaluated_where_the_recipe_says_so(tiny: Tiny) -> None:
    job = make_job(tiny(evaluation__batches=1))
    first = next(iter(job.validation.batches()))
    alone = evaluate(job, Progress(), Clock(Progress()))
    job.validation = Held(first, next(batches(job.recipe, seed=5)))
    assert evaluate(job, Progress(), Clock(Progress())) == alone


def test_words_evaluations_and_checkpoints_come_when_the_recipe_says(tiny: Tiny) -> None:
    events: list[Event] = []
    saved: list[int] = []
    progress = Progress()
    job = make_job(tiny(), tell=events.append)  # 12 steps; log every 4, save every 5, evaluate every 6
    job.save = lambda: saved.append(progress.step)
    fit(job, progress)
    assert [event.step for event in events if isinstance(event, Progressed)] == [4, 8, 12]
    assert [event.step for event in events if isinstance(event, Evaluated)] == [6, 12]
    assert saved == [5, 10, 12]
    last = [event for event in events if isinstance(event, Progressed)][-1]
    assert last.units == 12 * 4 * 8 == progress.units
    assert 0 < last.seconds <= progress.seconds
    assert last.matrix_share == pytest.approx(last.units_per_second * 1e6 / 1e9)


def test_the_loss_told_is_the_mean_since_the_last_word(tiny: Tiny) -> None:
    fine: list[float] = []
    coarse: list[float] = []
    for every, losses in ((1, fine), (4, coarse)):
        fit(make_job(tiny(training__log_every=every), tell=collect(losses)), Progress())
    assert coarse == pytest.approx([sum(fine[i : i + 4]) / 4 for i in (0, 4, 8)])


def test_each_step_is_taken_at_the_rate_of_its_schedule(tiny: Tiny) -> None:
    rates: list[float] = []
    recipe = tiny(training__log_every=1)

    def take(event: Event) -> None:
        if isinstance(event, Progressed):
            rates.append(event.learning_rate)

    fit(make_job(recipe, tell=take), Progress())
    assert rates == pytest.approx([1e-2 * recipe.schedule(step, 12) for step in range(12)])
    assert len(set(rates)) > 8


def test_a_wish_to_stop_is_fulfilled_after_the_step_with_a_checkpoint(tiny: Tiny) -> None:
    progress, saved = Progress(), []
    job = make_job(tiny(), save=lambda: saved.append(progress.step), should_stop=lambda: progress.step >= 3)
    fit(job, progress)
    assert (progress.step, saved) == (3, [3])


def test_the_loop_fits_on_a_few_pages() -> None:
    import glassformer.training.loop as module

    assert len(re.findall("\n", Path(module.__file__).read_text())) <= 220
