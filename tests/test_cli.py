"""The command line does what it says, and answers mistakes with one sentence and exit status 2."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from glassformer import cli
from glassformer.cli import main
from glassformer.models.catalog import create_model
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.text import BPETokenizer, CharacterTokenizer, load_tokenizer
from glassformer.text.template import begin_and_end

TEXT = "the cat sat on the mat and looked at the moon.\n" * 60
SMALL = ["--model.dim=16", "--model.num-layers=1", "--model.num-heads=2", "--model.max-positions=32",
         "--data.context=16", "--data.batch-size=4", "--evaluation.every=3", "--schedule.warmup-steps=2",
         "--training.device=cpu"]  # fmt: skip
SHORT = [*SMALL, "--training.steps=6"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "cat.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def run_folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "cat"
    assert main(["train", "demo", f"--data.corpus={corpus}", *SHORT, "--run-folder", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with a tokenizer."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    tokenizer = CharacterTokenizer.train(TEXT)
    GPT2(
        GPT2Config(vocab_size=tokenizer.vocab_size, max_positions=32, dim=16, num_layers=1, num_heads=2)
    ).save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command that succeeds prints."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


# The commands


def test_train_leaves_a_run_with_the_settings_of_the_command_line(run_folder: Path) -> None:
    assert "dim = 16" in (run_folder / "recipe.toml").read_text()
    assert (run_folder / "model" / "model.safetensors").is_file()


def test_train_does_not_touch_a_run_that_is_there_and_resumes_when_told(
    run_folder: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["train", "demo", f"--data.corpus={corpus}", *SHORT, "--run-folder", str(run_folder)]
    before = (run_folder / "model" / "model.safetensors").read_bytes()
    assert main(again) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert (run_folder / "model" / "model.safetensors").read_bytes() == before
    assert main([*again, "--resume"]) == 0
    assert (run_folder / "model" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("kind", ["run", "folder"])
def test_generate_continues_the_prompt_and_a_seed_repeats_it(
    kind: str, run_folder: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = run_folder if kind == "run" else model_folder
    options = ("generate", "--model", model, "--prompt", "the ", "--max-new-tokens", 50, "--seed")
    first = said(capsys, *options, 1)
    assert first.startswith("the ")
    assert len(first) == len("the ") + 50 + 1
    assert said(capsys, *options, 1) == first
    assert said(capsys, *options, 2) != first


def test_generate_shows_several_samples_each_that_of_its_seed(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("generate", "--model", run_folder, "--prompt", "a", "--max-new-tokens", 12, "--seed")
    alone = [said(capsys, *options, seed) for seed in (5, 6)]
    assert said(capsys, *options, 5, "--samples", 2) == "\n---\n".join(alone)


def test_generate_streams_what_it_writes(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = []
    monkeypatch.setattr(sys.stdout, "write", pieces.append)
    assert main(["generate", "--model", str(run_folder), "--prompt", "the", "--max-new-tokens", "9"]) == 0
    assert len(pieces) == 1 + 9 + 1


def test_generate_searches_with_beams_and_takes_the_most_probable_at_temperature_zero(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("generate", "--model", model_folder, "--prompt", "the cat", "--max-new-tokens", 9)
    greedy, model = said(capsys, *options, "--temperature", 0), GPT2.from_pretrained(model_folder)
    tokenizer = CharacterTokenizer.train(TEXT)
    expected = tokenizer.decode(model.generate(tokenizer.encode("the cat"), max_new_tokens=9)[0])
    assert greedy == expected + "\n"
    expected = tokenizer.decode(model.generate(tokenizer.encode("the cat"), max_new_tokens=9, num_beams=3)[0])
    assert said(capsys, *options, "--num-beams", 3) == expected + "\n"


def test_generate_reads_the_prompt_from_standard_input(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("cat"))
    assert said(capsys, "generate", "--model", run_folder, "--prompt", "-", "--max-new-tokens", 3).startswith("cat")


def test_generate_stops_at_the_end_token_that_the_folder_names(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = GPT2.from_pretrained(model_folder)
    ids = model.generate(CharacterTokenizer.train(TEXT).encode("the cat"), max_new_tokens=1)[0]
    model.save_pretrained(tmp_path, special_tokens={"eos_token_id": int(ids[-1])})
    CharacterTokenizer.train(TEXT).save(tmp_path)
    options = ("generate", "--model", tmp_path, "--prompt", "the cat", "--max-new-tokens", 9)
    assert said(capsys, *options, "--temperature", 0) == "the cat\n"
    found = said(capsys, *options, "--num-beams", 2).removeprefix("the cat").removesuffix("\n")
    assert CharacterTokenizer.train(TEXT).decode(ids[-1:]) not in found


def test_eval_gives_the_loss_that_training_measured(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from glassformer.training import load_run

    found = json.loads(said(capsys, "eval", "--model", run_folder, "--json"))
    assert found["loss"] == pytest.approx(load_run(run_folder).validation_loss, rel=1e-5)
    assert found["context"] == 16


def test_eval_of_a_model_that_knows_nothing_is_the_entropy_of_its_vocabulary(
    model_folder: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer, model = CharacterTokenizer.train(TEXT), GPT2.from_pretrained(model_folder)
    with torch.no_grad():
        model.embed.weight.zero_()  # tied: all logits are 0
    model.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    found = json.loads(said(capsys, "eval", "--model", tmp_path, "--data", corpus, "--split", "all", "--json"))
    size = torch.tensor(float(tokenizer.vocab_size))
    assert found["loss"] == pytest.approx(size.log().item(), rel=1e-6)
    assert found["perplexity"] == pytest.approx(size.item(), rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(size.log2().item(), rel=1e-6)  # one byte a character
    assert found["tokens"] == found["bytes"] == len(TEXT) - 1
    assert "perplexity" in said(capsys, "eval", "--model", tmp_path, "--data", corpus)


def test_convert_writes_what_transformers_opens(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import GPT2LMHeadModel

    from glassformer.training import load_run

    done = said(capsys, "convert", run_folder, tmp_path / "a", "--max-shard-gb", 4e-6)
    assert "with its tokenizer, which this library alone reads" in done
    assert (tmp_path / "a" / "model.safetensors.index.json").is_file()
    x = torch.tensor([[1, 2, 3]])
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "a").eval()
    assert torch.allclose(theirs(x).logits, load_run(run_folder).model(x).logits, atol=1e-5)
    said(capsys, "convert", tmp_path / "a", tmp_path / "b", "--dtype", "bfloat16")
    assert GPT2.from_pretrained(tmp_path / "b").embed.weight.dtype == torch.bfloat16
    assert len(said(capsys, "generate", "--model", tmp_path / "b", "--max-new-tokens", 3)) > 0


@pytest.fixture
def chat_folder(tmp_path: Path) -> Path:
    """A model that was trained on conversations, as far as its folder says."""
    torch.manual_seed(0)
    tokenizer = BPETokenizer.train(TEXT, 280, special_tokens=["<s>", "</s>", "<user>", "<pad>"])
    model = GPT2(GPT2Config(vocab_size=280, max_positions=64, dim=16, num_layers=1, num_heads=2))
    special = {"bos_token_id": tokenizer.special["bos"], "eos_token_id": [5, tokenizer.special["eos"]]}
    model.save_pretrained(tmp_path / "chat", special_tokens=special)
    tokenizer.save(tmp_path / "chat")
    (tmp_path / "chat" / "chat_template.jinja").write_text(
        "{{ bos_token }}{% for m in messages %}"
        "{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}\n{% endif %}"
    )
    (tmp_path / "chat" / "generation_config.json").write_text('{"eos_token_id": 7, "temperature": 0.5}')
    return tmp_path / "chat"


def test_generate_answers_in_a_conversation_by_the_folders_template(chat_folder: Path, capsys) -> None:
    options = ("generate", "--model", chat_folder, "--max-new-tokens", 9, "--temperature", 0)
    tokenizer, model = load_tokenizer(chat_folder), GPT2.from_pretrained(chat_folder)
    for more, rendered in [
        (("--chat", "the cat"), "<s><user>the cat"),
        (("--chat", "the cat", "--system", "sit"), "<s><system>sit<user>the cat"),
    ]:
        ids = tokenizer.encode(rendered, allow_special=True)
        assert ids[0] == tokenizer.special["bos"]
        expected = tokenizer.decode(model.generate(ids, max_new_tokens=9, eos_token_id=7)[0, len(ids) :])
        assert said(capsys, *options, *more) == expected + "\n"
    ids = tokenizer.encode("<s><user>the cat", allow_special=True)
    found = model.generate(ids, max_new_tokens=9, eos_token_id=7, num_beams=2)[0, len(ids) :]
    assert said(capsys, *options, "--chat", "the cat", "--num-beams", 2) == tokenizer.decode(found) + "\n"


def test_a_conversation_that_cannot_be_had_is_said(chat_folder: Path, model_folder: Path, capsys) -> None:
    for model, options, fault in [
        (model_folder, ["--chat", "Hi"], "carries no chat template"),
        (chat_folder, ["--chat", "Hi", "--prompt", "Hi"], "--prompt and --chat are given"),
        (chat_folder, ["--system", "Hi"], "--system 'Hi' has no effect without --chat"),
    ]:
        assert main(["generate", "--model", str(model), *options]) == 2
        assert fault in capsys.readouterr().err


def test_a_prompt_begins_as_the_tokenizer_says(chat_folder: Path, capsys) -> None:
    content = json.loads((chat_folder / "tokenizer.json").read_text())
    plain = load_tokenizer(chat_folder)
    content["post_processor"] = begin_and_end("<s>", None, plain.special_tokens).to_json()
    (chat_folder / "tokenizer.json").write_text(json.dumps(content))
    ids, model = [plain.special["bos"], *plain.encode("the cat")], GPT2.from_pretrained(chat_folder)
    expected = plain.decode(model.generate(ids, max_new_tokens=9, eos_token_id=7)[0, len(ids) :])
    options = ("generate", "--model", chat_folder, "--max-new-tokens", 9, "--temperature", 0, "--prompt", "the cat")
    assert said(capsys, *options) == f"the cat{expected}\n"


def test_a_tokenizer_that_knows_more_ids_than_the_model_is_named(chat_folder: Path, capsys) -> None:
    GPT2(GPT2Config(vocab_size=279, max_positions=64, dim=16, num_layers=1, num_heads=2)).save_pretrained(chat_folder)
    for options in (["--prompt", "Hi"], ["--prompt", "Hi", "--num-beams", "2"], ["--chat", "Hi"]):
        assert main(["generate", "--model", str(chat_folder), *options]) == 2
        assert "the tokenizer has 280 ids and the model 279" in capsys.readouterr().err


def test_convert_keeps_the_tokenizers_files_and_the_special_tokens(chat_folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "vocab.txt").write_text("of an earlier model")
    said(capsys, "convert", chat_folder, tmp_path / "new", "--overwrite")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "new" / name).read_bytes() == (chat_folder / name).read_bytes()
    assert not (tmp_path / "new" / "vocab.txt").exists()
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    special = load_tokenizer(chat_folder).special
    assert config["eos_token_id"] == [5, special["eos"]]
    assert (config["bos_token_id"], config["pad_token_id"]) == (special["bos"], special["pad"])


def test_convert_overwrites_nothing_unless_told(model_folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["convert", str(model_folder), str(tmp_path)]) == 2
    assert "holds something already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert main(["convert", str(model_folder), str(model_folder), "--overwrite"]) == 2
    assert "is the source itself" in capsys.readouterr().err


def test_doctor_tries_every_kernel_and_names_every_extra(capsys: pytest.CaptureFixture[str]) -> None:
    from glassformer.ops.attend import ATTEND
    from glassformer.ops.cross_entropy import CROSS_ENTROPY
    from glassformer.ops.linear import LINEAR

    found = json.loads(said(capsys, "doctor", "--json"))
    for kind, table in {"attend": ATTEND, "linear": LINEAR, "cross_entropy": CROSS_ENTROPY}.items():
        assert found["kernels"][kind].keys() == table.keys()
        assert found["kernels"][kind]["reference"] == "works"
    assert found["extras"]["bench"]["transformers"]
    assert found["machine"]["gflops"]
    assert found["cache"]["folder"] == os.environ["GLASSFORMER_CACHE"]
    assert "kernels, each tried" in said(capsys, "doctor")


def test_doctor_tells_of_a_kernel_that_computes_something_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from glassformer.ops import attend

    def wrong(*args: object, **options: object) -> object:
        out, weights = attend.reference(*args, **options)  # pyright: ignore
        return out * 1.01, weights

    def broken(*args: object, **options: object) -> object:
        raise RuntimeError("no such device\nand much more")

    monkeypatch.setitem(attend.ATTEND, "wrong", wrong)
    monkeypatch.setitem(attend.ATTEND, "broken", broken)
    states = json.loads(said(capsys, "doctor", "--json"))["kernels"]["attend"]
    assert states["wrong"].startswith("differs from the reference by 1.0e-02")
    assert states["broken"] == "no such device"


def test_bench_passes_its_arguments_on_in_a_checkout_and_says_where_to_find_one_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import glassformer

    monkeypatch.setattr(glassformer, "__file__", str(tmp_path / "lib" / "glassformer" / "__init__.py"))
    monkeypatch.chdir(tmp_path)
    assert main(["bench"]) == 2
    assert "clone Glassformer" in capsys.readouterr().err
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__main__.py").write_text("import sys; sys.exit(sys.argv[1:] != ['--rounds', '3'])")
    assert main(["bench", "--rounds", "3"]) == 0
    assert main(["bench"]) == 1


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "there is no command 'trian' (did you mean 'train'?)"),
        (["generate", "--modle", "x"], "'glassformer generate' has no option '--modle' (did you mean '--model'?)"),
        (["generate", "--top_kk", "3"], "has no option '--top_kk' (did you mean '--top-k'?)"),
        (["train", "demo", "--resum"], "has no option '--resum' (did you mean '--resume'?)"),
        (["train", "dem"], "there is no recipe 'dem' (did you mean 'demo'?)"),
        (["train", "demo", "--model.num-layer", "3"], "has no key 'num_layer' (did you mean 'num_layers'?)"),
        (["train", "demo", "--model.num-layers"], "--model.num-layers has no value"),
        (["train", "demo", "--model.num-layers", "many"], "--model.num-layers"),
        (["generate", "--model", "RUN", "--temperature", "-1"], "temperature is -1.0; expected a finite number"),
        (["generate", "--model", "RUN", "--top-p", "2"], "top_p is 2.0; expected a probability"),
        (["generate", "--model", "RUN", "--prompt", "é"], "'é'"),
        (["generate", "--model", "RUN", "--prompt", ""], "the prompt is empty"),
        (["generate", "--model", "RUN", "--samples", "0"], "--samples is 0"),
        (["generate", "--model", "RUN", "--num-beams", "0"], "--num-beams is 0; expected 1 or more"),
        (["generate", "--model", "RUN", "--num-beams", "3", "--temperature", "0.5"], "--temperature 0.5 has no effect"),
        (["generate", "--model", "RUN", "--device", "mps"], "the device is 'mps', but torch sees no such device"),
        (["train", "demo", "--training.device", "tpu0"], "there is no device 'tpu0'"),
        (["train", "demo", "--run-folder", "TEXT"], "is a file; expected a folder"),
        (["generate", "--model", "RUN", "--temperature", "0", "--top-k", "3"], "--top-k 3 has no effect"),
        (["generate", "--model", "RUN", "--temperature", "0", "--samples", "3"], "the same text each time"),
        (["generate", "--model", "RUN", "--num-beams", "3", "--seed", "3"], "beam search does not sample"),
        (["generate", "--model", "RUN", "--device", "tpu0"], "there is no device 'tpu0'"),
        (["generate", "--model", "RUN", "--dtype", "flaot32"], "there is no dtype 'flaot32' (did you mean 'float32'?)"),
        (
            ["generate", "--model", "RUN", "--linear", "onednnn"],
            "unknown linear kernel 'onednnn' (did you mean 'onednn'?)",
        ),
        (["generate", "--model", "/nowhere/at/all"], "there is no folder '/nowhere/at/all'"),
        (["generate", "--model", "TEXT"], "is a file"),
        (["eval", "--model", "FOLDER"], "--data is not given"),
        (["eval", "--model", "FOLDER", "--data", "/nowhere.txt"], "/nowhere.txt"),
        (
            ["eval", "--model", "FOLDER", "--data", "TEXT", "--context", "33"],
            "--context 33 is more than the model's 32",
        ),
        (["eval", "--model", "FOLDER", "--data", "TEXT", "--split", "test"], "--split is 'test'"),
        (["convert", "FOLDER", "TEXT"], "is a file; expected a folder"),
        (["convert", "FOLDER", "never-made", "--max-shard-gb", "0"], "--max-shard-gb is 0.0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("no_shape_checks")
def test_a_mistake_is_one_sentence_and_status_2(
    arguments: list[str], message: str, run_folder: Path, model_folder: Path, corpus: Path, capsys
) -> None:
    places = {"RUN": str(run_folder), "FOLDER": str(model_folder), "TEXT": str(corpus)}
    capsys.readouterr()
    assert main([places.get(argument, argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("arguments", [["train"], ["generate"], ["generate", "--model", "x", "--top-k", "few"]])
def test_what_tyro_refuses_has_status_2_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err


def fault() -> int:
    return {}["of ours"]


def foreseen() -> int:
    raise KeyError("there is no 'such thing'")


def locked_folder() -> int:
    raise BlockingIOError(11, "another process is training in runs/x")


class Without:
    """An import finder of a machine that lacks a package."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name.split(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.package)


def full_disk() -> int:
    raise OSError(28, "No space left on device", "runs/x/model.safetensors")


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_run", lambda arguments: fault())
    with pytest.raises(KeyError):
        main(["doctor"])
    monkeypatch.setattr(cli, "_run", lambda arguments: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        main(["doctor"])


def test_a_meant_error_and_one_of_the_system_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(foreseen.__globals__, "__name__", "glassformer.somewhere")
    monkeypatch.setattr(cli, "_run", lambda arguments: foreseen())
    assert main([]) == 2
    assert capsys.readouterr().err == "error: there is no 'such thing'\n"
    monkeypatch.setattr(cli, "_run", lambda arguments: full_disk())
    assert main([]) == 2
    assert capsys.readouterr().err == "error: runs/x/model.safetensors: No space left on device\n"
    monkeypatch.setattr(cli, "_run", lambda arguments: locked_folder())
    assert main([]) == 2
    assert capsys.readouterr().err == "error: another process is training in runs/x\n"


def test_a_package_that_is_not_installed_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    for name in [name for name in sys.modules if name.split(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without("PIL"), *sys.meta_path])
    assert main(["predict", "--model", str(model_folder), str(tmp_path / "a.png")]) == 2
    assert capsys.readouterr().err == "error: this needs pillow: pip install 'glassformer[vision]'\n"


# The process


def test_help_names_every_command_and_needs_neither_torch_nor_half_a_second(tmp_path: Path) -> None:
    code = ("import resource, sys\nfrom glassformer.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
            "assert not {'torch', 'numpy', 'transformers', 'jaxtyping'} & sys.modules.keys()\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime, file=sys.stderr)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert all(f" {name} " in done.stdout for name in cli.COMMANDS)
    assert float(done.stderr) < 0.5


def test_an_interrupt_ends_with_130_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    assert main([]) == 130


def test_sigterm_while_training_saves_and_says_how_to_go_on(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "glassformer", "train", "demo", f"--data.corpus={corpus}", *SMALL, "--run-folder",
               str(folder), "--training.steps=1000000"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
        with contextlib.suppress(OSError):
            if (folder / "metrics.jsonl").read_text().count('"loss"') > 0:
                break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM after a checkpoint; --resume goes on" in err
    assert list((folder / "checkpoints").iterdir())


def test_a_reader_that_leaves_is_no_error(run_folder: Path) -> None:
    command = [sys.executable, "-m", "glassformer", "generate", "--model", str(run_folder), "--max-new-tokens", "2000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.read(3)
    process.stdout.close()
    assert process.wait(timeout=100) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_terminal_that_lacks_a_character_shows_the_rest() -> None:
    script = "import sys; from glassformer import cli; cli._run = lambda _: print('gr\\xfc\\xdfe'); cli.main([])"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "gr??e\n"


def test_a_classifier_is_not_asked_to_write(tmp_path: Path, capsys) -> None:
    create_model(
        "bert", head="sequence_classification", vocab_size=30, dim=8, num_layers=1, num_heads=2, hidden_dim=8
    ).save_pretrained(tmp_path)
    assert main(["generate", "--model", str(tmp_path), "--prompt", "a"]) == 2
    assert "BERTForSequenceClassification, which writes no text; 'glassformer eval" in capsys.readouterr().err


def test_beams_end_where_the_positions_do(model_folder: Path, capsys) -> None:
    options = ["--prompt", "a", "--num-beams", 2, "--max-new-tokens"]
    assert len(said(capsys, "generate", "--model", model_folder, *options, 100_000)) > 2


def test_the_help_of_train_names_every_recipe() -> None:
    from glassformer.cli.train import Train
    from glassformer.training.recipe import recipe_names

    named = " ".join((Train.__doc__ or "").split()).partition("The recipes: ")[2].removesuffix(".")
    assert named.split(", ") == recipe_names()
