import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from same_run import StopAfter, assert_same_run, last_tensors

from glassformer.models.catalog import from_pretrained
from glassformer.text import load_tokenizer
from glassformer.training import Recipe, Run, is_run, load_recipe, load_run, read_metrics, train
from glassformer.training.events import Ended, Evaluated, Event, Progressed, Saved, Started
from glassformer.training.folder import locked

Tiny = Callable[..., Recipe]


def test_a_run_leaves_all_that_it_promises(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny()
    run = train(recipe, run_folder=tmp_path / "run")
    assert sorted(path.name for path in run.folder.iterdir()) == [
        ".lock", "best", "checkpoints", "glassformer_tokenizer.json", "metrics.jsonl", "model", "recipe.toml",
        "result.json",
    ]  # fmt: skip
    assert run.step in (6, 12)  # of the best weights
    assert run.signal is None
    assert load_run(run.folder).recipe == recipe
    assert is_run(run.folder)
    assert not is_run(run.folder / "model")
    assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == ["step-000010", "step-000012"]


def test_training_lowers_the_validation_loss_and_the_best_weights_come_back(tiny: Tiny, tmp_path: Path) -> None:
    run = train(tiny(training__steps=60, evaluation__every=20), run_folder=tmp_path / "run")
    losses = [record["validation_loss"] for record in run.metrics if "validation_loss" in record]
    assert len(losses) == 3
    assert min(losses) == losses[-1] == run.validation_loss < losses[0] - 0.1
    ids = torch.tensor([run.tokenizer.encode("the quick brown")])
    again = load_run(run.folder)
    assert again.model(ids[:, :8]).logits.equal(run.model(ids[:, :8]).logits)
    assert not again.model.training


def test_the_model_folder_is_opened_as_any_hugging_face_folder(tiny: Tiny, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    run = train(tiny(training__steps=3), run_folder=tmp_path / "run")
    ids = torch.tensor([run.tokenizer.encode("the dog")])
    expected = run.model(ids).logits
    assert from_pretrained(run.folder / "model")(ids).logits.equal(expected)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(run.folder / "model").eval()
    torch.testing.assert_close(theirs(ids).logits, expected, rtol=0, atol=1e-5)
    assert load_tokenizer(run.folder / "model").encode("the dog") == run.tokenizer.encode("the dog")


@pytest.mark.parametrize("overrides", [
    {}, {"optimizer__name": "lion"}, {"optimizer__name": "muon"}, {"training__micro_batch_size": "3"},
    {"training__precision": "bfloat16", "training__checkpoint_activations": "true"},
], ids=lambda overrides: "-".join(overrides.values()) or "plain")  # fmt: skip
def test_a_run_stopped_in_mid_epoch_and_resumed_equals_an_uninterrupted_one_to_the_bit(
    tiny: Tiny, tmp_path: Path, overrides: dict[str, str]
) -> None:
    recipe = tiny(training__log_every=1, **overrides)
    whole = train(recipe, run_folder=tmp_path / "whole")
    stopped = train(recipe, run_folder=tmp_path / "stopped", on_event=StopAfter(7))
    assert stopped.signal == "SIGTERM"
    assert read_metrics(stopped.folder)[-1]["step"] == 7
    resumed = train(recipe, run_folder=tmp_path / "stopped", resume=True)
    assert resumed.signal is None
    assert_same_run(whole.folder, resumed.folder, 12)


def test_a_process_told_to_terminate_saves_and_leaves_and_the_run_goes_on_to_the_bit(
    tiny: Tiny, recipe_file: Path, tmp_path: Path
) -> None:
    recipe = tiny(training__log_every=1)
    whole = train(recipe, run_folder=tmp_path / "whole")
    program = textwrap.dedent("""
        import sys, time
        import torch
        from glassformer.training import load_recipe, train

        def slowly(event):
            print(event.step, flush=True)
            time.sleep(0.05)

        torch.set_num_threads(1)
        run = train(load_recipe(sys.argv[1], {"training.log_every": "1"}), run_folder=sys.argv[2], on_event=slowly)
        print(run.signal)
    """)
    command = [sys.executable, "-c", program, str(recipe_file), str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 3:
                break
        process.terminate()
        rest = process.stdout.read()
    assert process.returncode == 0
    assert rest.split()[-1] == "SIGTERM"
    stopped_at = read_metrics(tmp_path / "killed")[-1]["step"]
    assert 3 <= stopped_at < 12
    train(recipe, run_folder=tmp_path / "killed", resume=True)
    assert_same_run(whole.folder, tmp_path / "killed", 12)


def test_an_interrupt_from_the_keyboard_saves_too_and_the_handlers_come_back(tiny: Tiny, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run = train(tiny(), run_folder=tmp_path / "run", on_event=StopAfter(4, signal.SIGINT))
    assert run.signal == "SIGINT"
    assert (tmp_path / "run" / "checkpoints" / "step-000004").is_dir()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_same_recipe_gives_the_same_weights_and_another_seed_others(tiny: Tiny, tmp_path: Path) -> None:
    runs = [train(tiny(training__seed=seed), run_folder=tmp_path / name) for name, seed in
            {"a": 0, "b": 0, "c": 1}.items()]  # fmt: skip
    assert_same_run(runs[0].folder, runs[1].folder, 12)
    a, c = (last_tensors(runs[i].folder, 12) for i in (0, 2))
    assert not a["model/embed.weight"].equal(c["model/embed.weight"])


def test_the_callers_generators_are_left_as_they_were(tiny: Tiny, tmp_path: Path) -> None:
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    train(tiny(training__steps=4), run_folder=tmp_path / "run")
    assert torch.get_rng_state().equal(state)
    assert (np.random.get_state()[1] == numbers).all()  # noqa: NPY002


def test_a_finished_run_that_is_resumed_is_left_as_it_is(tiny: Tiny, tmp_path: Path) -> None:
    first = train(tiny(), run_folder=tmp_path / "run")
    metrics = read_metrics(first.folder)
    again = train(tiny(), run_folder=tmp_path / "run", resume=True)
    assert read_metrics(again.folder) == metrics
    assert again.validation_loss == first.validation_loss


def test_a_damaged_newest_checkpoint_is_named_and_the_run_goes_on_from_the_one_before(
    tiny: Tiny, tmp_path: Path
) -> None:
    whole = train(tiny(), run_folder=tmp_path / "whole")
    folder = train(tiny(), run_folder=tmp_path / "run").folder
    weights = folder / "checkpoints" / "step-000012" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"step 12 is damaged: .*tensor.*resume from step 10"):
        train(tiny(), run_folder=folder, resume=True)
    train(tiny(), run_folder=folder, resume=10)
    assert_same_run(whole.folder, folder, 12)
    assert (folder / "checkpoints" / "abandoned-step-000012").is_dir()


def test_checkpoints_past_the_one_resumed_from_are_put_aside(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(training__log_every=1, training__keep=9)
    folder = train(recipe, run_folder=tmp_path / "run").folder
    train(recipe, run_folder=folder, resume=5, on_event=StopAfter(7))
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["abandoned-step-000010", "abandoned-step-000012", "step-000005", "step-000007"]
    assert read_metrics(folder)[-1]["step"] == 7


def test_a_run_of_another_recipe_is_refused_with_the_keys_that_differ(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny(), run_folder=tmp_path / "run", on_event=StopAfter(4))
    with pytest.raises(ValueError, match=r"another recipe.*model\.dim = 32, there 16; training\.seed = 5, there 0"):
        train(tiny(model__dim=32, training__seed=5), run_folder=tmp_path / "run", resume=True)


def test_a_text_that_changed_in_between_is_refused(tiny: Tiny, recipe_file: Path, tmp_path: Path) -> None:
    train(tiny(), run_folder=tmp_path / "run", on_event=StopAfter(4))
    corpus = recipe_file.with_name("corpus.txt")
    corpus.write_text(corpus.read_text()[::-1])
    with pytest.raises(ValueError, match=r"sha256=.*; the data has changed since then"):
        train(tiny(), run_folder=tmp_path / "run", resume=True)


def test_a_run_is_not_overwritten_unless_asked(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny(training__steps=3), run_folder=tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    before = sorted(path for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(FileExistsError, match=r"holds a run already; go on with it \(--resume\)"):
        train(tiny(), run_folder=tmp_path / "run")
    assert sorted(path for path in (tmp_path / "run").rglob("*")) == before
    run = train(tiny(data__tokenizer="bytes"), run_folder=tmp_path / "run", overwrite=True)
    assert run.tokenizer.vocab_size == 256
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="exclude each other"):
        train(tiny(), run_folder=tmp_path / "run", overwrite=True, resume=True)


def test_an_earlier_run_is_removed_only_when_the_new_one_can_begin(tiny: Tiny, tmp_path: Path) -> None:
    folder = train(tiny(training__steps=3), run_folder=tmp_path / "run").folder
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    wrongs = ({"data__corpus": tmp_path / "missing.txt"}, {"training__device": "cuda:9"}, {"training__attend": "flex"})
    for wrong in wrongs:
        with pytest.raises((FileNotFoundError, ValueError), match=r"missing|cuda:9|attention: the flex kernel has no"):
            train(tiny(**wrong), run_folder=folder, overwrite=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_run_that_fails_before_it_saved_any_weights_leaves_nothing(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")

    def fail(event: Event) -> None:
        if isinstance(event, Progressed):
            raise RuntimeError("in the fourth step")

    before = sorted(tmp_path.rglob("*"))
    for folder in (tmp_path / "runs" / "new", tmp_path / "mine"):
        with pytest.raises(FileNotFoundError, match="missing"):
            train(tiny(data__corpus=tmp_path / "missing.txt"), run_folder=folder)
        assert sorted(tmp_path.rglob("*")) == before
        with pytest.raises(RuntimeError, match="in the fourth step"):
            train(tiny(), run_folder=folder, on_event=fail)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_fails_after_a_checkpoint_can_go_on(tiny: Tiny, tmp_path: Path) -> None:
    def fail(event: Event) -> None:
        if isinstance(event, Saved):
            raise RuntimeError("after the fifth step")

    with pytest.raises(RuntimeError, match="after the fifth step"):
        train(tiny(), run_folder=tmp_path / "run", on_event=fail)
    assert train(tiny(), run_folder=tmp_path / "run", resume=True).step == 12


def test_two_processes_do_not_train_in_one_folder(tiny: Tiny, tmp_path: Path) -> None:
    folder = train(tiny(training__steps=3), run_folder=tmp_path / "run").folder
    with locked(folder), pytest.raises(BlockingIOError, match="another process is training in"):
        train(tiny(training__steps=3), run_folder=folder, overwrite=True)
    assert load_run(folder).step == 3


def test_a_run_stopped_before_its_first_step_can_be_resumed(tiny: Tiny, tmp_path: Path) -> None:
    whole = train(tiny(), run_folder=tmp_path / "whole")

    def stop(event: Event) -> None:
        if isinstance(event, Started):
            os.kill(os.getpid(), signal.SIGTERM)

    assert train(tiny(), run_folder=tmp_path / "run", on_event=stop).step == 0
    train(tiny(), run_folder=tmp_path / "run", resume=True)
    assert_same_run(whole.folder, tmp_path / "run", 12)


def test_a_full_disk_ends_the_run_with_a_sentence_and_leaves_it_to_be_resumed(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny(), run_folder=tmp_path / "whole")
    checkpoints, real = tmp_path / "run" / "checkpoints", os.fsync

    def full(descriptor: int) -> None:
        if checkpoints.is_dir() and any("step-000010" in name for name in os.listdir(checkpoints)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"the disk is full.*step-000010"):
        train(tiny(), run_folder=tmp_path / "run")
    monkeypatch.setattr(os, "fsync", real)
    assert [path.name for path in checkpoints.iterdir()] == ["step-000005"]
    train(tiny(), run_folder=tmp_path / "run", resume=True)
    assert_same_run(whole.folder, tmp_path / "run", 12)


def test_folders_without_a_run_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no run to go on with"):
        train(tiny(), run_folder=tmp_path, resume=True)
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        load_run(tmp_path / "nothing")


def test_a_damaged_best_file_is_named_not_loaded(tiny: Tiny, tmp_path: Path) -> None:
    run = train(tiny(training__steps=3), run_folder=tmp_path / "run")
    best = run.folder / "best" / "model.safetensors"
    content = bytearray(best.read_bytes())
    content[-1] ^= 1
    best.write_bytes(content)
    with pytest.raises(ValueError, match=r"best/model\.safetensors: tensor .* is damaged"):
        load_run(run.folder)


def test_a_damaged_result_is_named(tiny: Tiny, tmp_path: Path) -> None:
    run = train(tiny(training__steps=3), run_folder=tmp_path / "run")
    (run.folder / "result.json").write_text("{")
    with pytest.raises(ValueError, match=r"result\.json is not valid JSON"):
        load_run(run.folder)


def test_metrics_hold_one_record_for_each_word_and_evaluation(tiny: Tiny, tmp_path: Path) -> None:
    run = train(tiny(), run_folder=tmp_path / "run")
    records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert records == run.metrics
    assert [record["step"] for record in records if "loss" in record] == [4, 8, 12]
    assert [record["step"] for record in records if "validation_loss" in record] == [6, 12]
    assert {"loss", "learning_rate", "gradient_norm", "tokens", "seconds", "cpu_seconds", "tokens_per_second",
            "matrix_share", "step"} == records[0].keys()  # fmt: skip


def test_a_metrics_line_cut_short_by_a_crash_is_dropped_and_other_damage_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]
    path.write_text('{"step": 1\n{"step": 2, "loss": 1.0}\n')
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        read_metrics(tmp_path)
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match="line 1 is not a record"):
        read_metrics(tmp_path)


def test_events_tell_the_run_in_order(tiny: Tiny, tmp_path: Path) -> None:
    events: list[Event] = []
    train(tiny(training__steps=6), run_folder=tmp_path / "run", on_event=[events.append])
    assert [type(event) for event in events] == [Started, Progressed, Saved, Progressed, Evaluated, Saved, Ended]
    started = events[0]
    assert isinstance(started, Started)
    # 6 · (parameters without the position table) + 12 · layers · dim · context
    assert started.flops_per_unit == 6 * (started.parameters - 16 * 16) + 12 * 2 * 16 * 8
    assert started.machine_flops is not None
    assert started.machine_flops > 1e8


def test_plain_lines_appear_where_the_output_is_no_terminal(tiny: Tiny, tmp_path: Path) -> None:
    out = StringIO()
    train(tiny(), run_folder=tmp_path / "run", console=Console(file=out, width=80))
    text = out.getvalue()
    for expected in ("GPT2, ", "step      4   loss", "tokens/s", "of the machine's matrix speed", "left",
                     "step     12   validation loss", "(best)", "saved", "done at step 12"):  # fmt: skip
        assert expected in text
    assert "\x1b" not in text


def test_the_live_view_shows_loss_validation_speed_and_time(tiny: Tiny, tmp_path: Path) -> None:
    out = StringIO()
    console = Console(file=out, width=110, force_terminal=True, color_system=None)
    train(tiny(), run_folder=tmp_path / "run", console=console)
    text = out.getvalue()
    for expected in ("12 of 12", "loss", "validation", "best", "rate", "tokens/s", "matrix speed", "left", "▁", "done"):
        assert expected in text


def test_tensorboard_gets_the_same_numbers(tiny: Tiny, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tiny(training__tensorboard="true"), run_folder=tmp_path / "run")
    seen = EventAccumulator(str(run.folder / "tensorboard"))
    seen.Reload()
    found = {scalar.step: scalar.value for scalar in seen.Scalars("loss")}
    assert found == pytest.approx({record["step"]: record["loss"] for record in run.metrics if "loss" in record})


def test_a_bigram_trains_by_the_same_loop(tmp_path: Path, recipe_file: Path) -> None:
    text = recipe_file.read_text()
    start, end = text.index("[model]"), text.index("[data]")
    text = text.replace('linear = "reference"', "")  # it has no such layer
    recipe_file.write_text(text[:start] + '[model]\nname = "bigram"\n' + text[end:])
    run = train(load_recipe(recipe_file), run_folder=tmp_path / "run")
    assert isinstance(run, Run)
    assert (run.folder / "model" / "config.json").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own imports
def test_a_compiled_model_trains_as_the_plain_one(tiny: Tiny, tmp_path: Path) -> None:
    off = {f"model__{kind}_dropout": 0 for kind in ("embedding", "attention", "residual")}
    runs = [train(tiny(training__compile=word, **off), run_folder=tmp_path / word) for word in ("false", "true")]
    losses = [[record["loss"] for record in run.metrics if "loss" in record] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert list(runs[0].model.state_dict()) == list(runs[1].model.state_dict())
