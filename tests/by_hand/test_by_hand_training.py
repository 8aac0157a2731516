"""Training by hand: optimizer, schedule, the command, and life without torch."""

import io
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from mirrors import close, draw

from glassformer.by_hand import AdamW, clip_gradients, cosine_schedule
from glassformer.by_hand.__main__ import main, parser
from glassformer.by_hand.machine import prepare
from glassformer.by_hand.parts.module import Parameter
from glassformer.by_hand.training import Characters, Options, Progress, batch, read_text

TINY = [
    "--steps",
    "6",
    "--layers",
    "1",
    "--dim",
    "16",
    "--heads",
    "2",
    "--context",
    "8",
    "--batch",
    "2",
    "--sample",
    "30",
]


def test_a_hundred_steps_of_adamw_equal_torch():
    start = [draw(3, 4), draw(5, seed=1)]
    ours = [Parameter(x.copy()) for x in start]
    theirs = [torch.tensor(x, requires_grad=True) for x in start]
    options = {"betas": (0.85, 0.97), "eps": 1e-5, "weight_decay": 0.2}
    optimizer, torch_optimizer = (
        AdamW(ours, learning_rate=0.02, **options),
        torch.optim.AdamW(theirs, lr=0.02, **options),
    )
    for step in range(100):
        rate = cosine_schedule(step, peak=0.02, total_steps=100, warmup_steps=10)
        optimizer.learning_rate = torch_optimizer.param_groups[0]["lr"] = rate
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad[...] = draw(*mine.data.shape, seed=step)
            other.grad = torch.tensor(mine.grad)
        optimizer.step()
        torch_optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        close(mine.data, other, 1e-12)


def test_clipping_leaves_small_gradients_and_scales_large_ones():
    parameter = Parameter(np.zeros(2))
    parameter.grad[:] = [3.0, 4.0]
    assert clip_gradients([parameter], 6.0) == 5.0
    assert parameter.grad.tolist() == [3.0, 4.0]
    assert clip_gradients([parameter], 1.0) == 5.0
    close(parameter.grad, [0.6, 0.8], 1e-6)


def test_the_schedule_rises_in_a_line_and_falls_in_a_cosine():
    def at(step: int) -> float:
        return cosine_schedule(step, peak=2.0, total_steps=110, warmup_steps=10, floor=0.2)

    assert at(0) == pytest.approx(0.2)
    assert at(9) == at(10) == 2.0
    assert at(60) == pytest.approx(1.1)
    assert at(110) == at(500) == pytest.approx(0.2)
    assert at(35) == pytest.approx(0.2 + 0.9 * (1 + math.cos(math.pi / 4)))


def test_targets_are_the_inputs_one_place_on():
    inputs, targets = batch(np.arange(50), 4, 6, np.random.default_rng(0))
    assert inputs.shape == (4, 6)
    assert (targets == inputs + 1).all()
    starts = [batch(np.arange(8), 4, 6, np.random.default_rng(seed))[0][:, 0] for seed in range(40)]
    assert set(np.concatenate(starts)) == {0, 1}  # the first and the last possible place both come


def test_the_bigram_loss_is_that_of_counted_pairs():
    data = Characters("ab" * 100, 4)
    expected = -(10 * math.log(91 / 92) + 9 * math.log(90 / 91)) / 19  # 90 times ab, 89 times ba, one added to each
    assert data.bigram_loss() == pytest.approx(expected)
    assert (len(data.train), len(data.validation)) == (180, 20)


def test_the_command_trains_prints_and_repeats(capsys):
    printed = []
    for seed in ("0", "0", "1"):
        assert main([*TINY, "--seed", seed]) == 0
        printed.append(capsys.readouterr().out)
    for word in ("characters", "bigram", "validation", "tokens/s", "it writes"):
        assert word in printed[0]
    samples = [text.split("it writes")[1] for text in printed]
    assert samples[0] == samples[1] != samples[2]
    assert len(samples[0].split("─\n")[1]) >= 30


def test_a_text_of_ones_own_is_learnt(tmp_path, capsys):
    path = tmp_path / "mine.txt"
    path.write_text("the cat sat on the mat. " * 100, encoding="utf-8")
    assert main([*TINY, "--steps", "150", "--learning-rate", "0.02", "--text", str(path)]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.endswith("s") and line.lstrip()[:1].isdigit()]
    bigram = float(out.split("bigram")[1].split()[0])
    assert float(rows[-1][2]) < 0.8 * bigram < float(rows[0][2])
    assert rows[-1][0] == "150"


@pytest.mark.parametrize(("arguments", "message"), [
    (["--heads", "3"], "--heads 3 does not divide --dim 128"),
    (["--steps", "0"], "--steps 0 is out of range; expected 1 or more"),
    (["--context", "1"], "--context 1 is out of range; expected 2 or more"),
    (["--learning-rate", "0"], "--learning-rate 0.0 is out of range"),
    (["--text", "nowhere.txt"], "cannot read nowhere.txt: No such file"),
])  # fmt: skip
def test_wrong_options_are_one_sentence_and_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_wrong_texts_are_refused(tmp_path):
    for content, message in ((b"\xff\xfe", "is not a text in UTF-8"), (b" \n", "is empty")):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_text(str(tmp_path / "x"))
    with pytest.raises(ValueError, match="the text has 99 characters; for --context 9 it needs 100"):
        Characters("a" * 99, 9)
    Characters("a" * 100, 9)


def test_a_loss_that_is_not_finite_stops_before_the_step(capsys):
    with np.errstate(all="ignore"):
        assert main([*TINY, "--steps", "30", "--learning-rate", "1e30"]) == 2
    assert "choose a smaller --learning-rate" in capsys.readouterr().err


def test_the_defaults_of_the_command_are_those_of_options():
    assert Options(**vars(parser().parse_args([]))) == Options()


def test_the_moving_line_is_drawn_on_a_terminal_only():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for out, moving in ((io.StringIO(), False), (Terminal(), True)):
        show = Progress(20, out=out)
        for done in range(1, 11):
            show.step(done, 2.0, 100)
        show.row(2.5)
        assert ("10/20" in out.getvalue()) == moving
        assert "2.000       2.500" in out.getvalue()


def test_prepare_leaves_what_is_set(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    prepare(threads=1)
    import os

    assert (os.environ["OPENBLAS_CORETYPE"], os.environ["OPENBLAS_NUM_THREADS"]) == ("Haswell", "7")


WITHOUT_TORCH = """
import builtins, importlib.abc, pkgutil, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {"numpy", "glassformer"} and not name.startswith("_"):
            raise ImportError(f"{name} is blocked")
        if name.startswith("glassformer.") and not name.startswith("glassformer.by_hand"):
            raise ImportError(f"{name} is another room")

sys.meta_path.insert(0, Blocked())
import glassformer.by_hand
for module in pkgutil.walk_packages(glassformer.by_hand.__path__, "glassformer.by_hand."):
    __import__(module.name)
from glassformer.by_hand.__main__ import main
assert main(sys.argv[1:]) == 0
for name in glassformer.by_hand.__all__:
    getattr(glassformer.by_hand, name)
assert "torch" not in sys.modules
"""


def test_all_of_it_works_with_numpy_alone():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *TINY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "it writes" in done.stdout


HELP = """
import sys
from glassformer.by_hand.__main__ import main
try:
    main(["--help"])
finally:
    print("numpy" in sys.modules)
"""


def test_help_loads_no_numpy():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert "--learning-rate" in done.stdout
    assert done.stdout.endswith("False\n")


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import glassformer.by_hand

    with pytest.raises(AttributeError, match="has no attribute 'gpt3'"):
        _ = glassformer.by_hand.gpt3
