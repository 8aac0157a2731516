"""Plans: the simplest layout that fits, its memory and traffic by the papers' equations, and why simpler ones fail."""

from dataclasses import replace
from itertools import pairwise

import pytest

from glassformer import cli
from glassformer.models.llama import SIZES
from glassformer.tracing.hardware import HARDWARE
from glassformer.tracing.plan import EFFICIENCY, USABLE, Layout, plan, share_of, step_seconds, traffic_of, workload
from glassformer.training import load_recipe
from glassformer.training.optimizers import AdamWConfig

H100 = HARDWARE["h100"]


@pytest.fixture(scope="module")
def recipe():
    """Llama 2 7B, a batch of 64 rows of 2048 tokens, in bfloat16."""
    shipped = load_recipe("llama_char")
    data = replace(shipped.data, tokenizer="bpe", vocab_size=32_000, context=2048, batch_size=64)
    training = replace(shipped.training, precision="bfloat16")
    return replace(shipped, model=SIZES["llama2-7b"], data=data, training=training, optimizer=AdamWConfig())


@pytest.fixture(scope="module")
def work(recipe):
    return workload(recipe)


def test_a_small_recipe_fits_one_gpu_as_it_is():
    found = plan(load_recipe("gpt_char"), 1, H100)
    assert found.layout == Layout(data=1, micro_batch=64)
    assert found.refused == ()
    assert found.share.total < USABLE * H100.memory_bytes
    assert found.traffic.seconds == 0


def test_seven_billion_parameters_are_too_many_for_one_gpu_and_are_sharded_over_eight(recipe):
    alone = plan(recipe, 1, H100)
    assert alone.layout is None
    assert "optimizer" in alone.refused[0][1]  # 8 bytes for each parameter
    eight = plan(recipe, 8, H100)
    assert eight.layout.sharding >= 1
    assert eight.layout.tensor == eight.layout.pipeline == 1
    assert "8-way data parallel" in eight.refused[0][0]
    assert len(eight.refused) == eight.layout.sharding  # each simpler stage was tried, and said why not
    assert eight.tokens_per_second > 10_000


def test_states_take_sixteen_bytes_for_each_parameter_and_zero_divides_them(work):
    whole = share_of(work, Layout(data=8))
    assert whole.weights == 4 * work.parameters + work.cast_bytes
    assert (whole.gradients, whole.optimizer) == (4 * work.parameters, 8 * work.parameters)
    stages = [share_of(work, Layout(data=8, sharding=stage)) for stage in range(4)]
    assert [share.optimizer * 8 == whole.optimizer for share in stages] == [False, True, True, True]
    assert [share.gradients * 8 == whole.gradients for share in stages] == [False, False, True, True]
    assert stages[3].weights == 4 * work.parameters / 8
    assert all(a.total > b.total for a, b in pairwise(stages))


def test_tensor_and_pipeline_divide_states_and_activations(work):
    whole, tensor = share_of(work, Layout(data=1)), share_of(work, Layout(data=1, tensor=8))
    assert tensor.optimizer == whole.optimizer / 8
    assert tensor.activations == whole.activations / 8
    stages = share_of(work, Layout(data=1, pipeline=4))
    assert whole.optimizer / 4 < stages.optimizer < whole.optimizer / 3  # the first stage has the embedding too
    assert stages.activations == whole.activations  # four micro-batches in flight, of a quarter of the depth


def test_smaller_micro_batches_and_recomputing_keep_less(work):
    sizes = [share_of(work, Layout(data=1, micro_batch=rows)).activations for rows in (8, 4, 2, 1)]
    assert sizes == sorted(sizes, reverse=True)
    assert share_of(work, Layout(data=1, checkpointing=True)).activations < sizes[-1] / 5


def test_gpus_send_what_the_papers_say(work):
    gradients = 4 * work.parameters
    for sharding, sent in ((0, 2), (1, 2), (2, 2), (3, 1)):
        found = traffic_of(work, Layout(data=8, sharding=sharding, micro_batch=8), H100)
        assert found.gradients == pytest.approx(sent * gradients * 7 / 8)
    three = traffic_of(work, Layout(data=8, sharding=3, micro_batch=8), H100)
    assert three.gradients + three.weights == pytest.approx(3 * gradients * 7 / 8)  # ZeRO, section 7.2.2
    stream = 64 * 2048 * 4096 * 2
    tensor = traffic_of(work, Layout(data=1, tensor=8), H100)
    assert tensor.tensor == pytest.approx(4 * 32 * stream * 2 * 7 / 8)  # Megatron-LM, section 3
    assert traffic_of(work, Layout(data=1, tensor=8, checkpointing=True), H100).tensor == 1.5 * tensor.tensor
    assert traffic_of(work, Layout(data=1, pipeline=4), H100).pipeline == 2 * stream


def test_a_pipeline_waits_for_its_bubble_and_recomputing_for_a_fourth_pass(work):
    quiet = replace(H100, link_rate=float("inf"), network_rate=float("inf"))

    def seconds(layout):
        return step_seconds(work, layout, quiet, traffic_of(work, layout, quiet))

    plain = seconds(Layout(data=4))
    assert plain == pytest.approx(64 * work.one.flops_step / (4 * EFFICIENCY * 989.5e12))
    assert seconds(Layout(data=1, pipeline=4)) == pytest.approx(plain * (1 + 3 / 64))
    assert seconds(Layout(data=4, checkpointing=True)) == pytest.approx(plain * 4 / 3)


def test_what_does_not_divide_is_not_proposed(recipe):
    odd = replace(recipe, data=replace(recipe.data, batch_size=12))
    found = plan(odd, 8, HARDWARE["rtx4090"])
    assert "a batch of 12 rows is not divided by 8" in found.refused[0][1]
    assert found.layout is None or 12 % found.layout.data == 0
    with pytest.raises(ValueError, match="gpus is 0"):
        plan(recipe, 0, H100)


def test_what_nothing_holds_is_refused_with_every_reason(recipe):
    found = plan(recipe, 2, HARDWARE["rtx4090"])
    assert found.layout is None
    assert found.tokens_per_second == 0
    assert len(found.refused) >= 4
    assert all(reason for _, reason in found.refused)


def test_a_vocabulary_that_only_the_tokenizer_knows_is_asked_for(recipe):
    unknown = replace(recipe, data=replace(recipe.data, tokenizer="somewhere", vocab_size=None))
    with pytest.raises(ValueError, match="--vocab-size"):
        plan(unknown, 1, H100)
    assert plan(unknown, 1, H100, vocab_size=100).work.parameters < 7e9


def test_the_command_says_how_and_why_not(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["plan", "gpt_char", "--gpus", "2", "--kind", "h100"]) == 0
    said = capsys.readouterr().out
    for words in ("2-way data parallel, micro-batches of 32", "optimizer", "tokens/s", "assumed", "datasheet"):
        assert words in said
    status = cli.main(["plan", "gpt_char", "--kind", "rtx4090", "--model.dim=12288", "--model.num-layers=96",
                       "--model.num-heads=96"])  # fmt: skip
    assert status == 1
    assert "nothing fits" in capsys.readouterr().out
