"""Every task, tiny: stopped and resumed it goes on to the bit, and leaves a folder that opens with its readers."""

import json
from pathlib import Path

import pytest
import torch
from same_run import StopAfter, assert_same_run

from glassformer.image.files import write_image
from glassformer.image.scenes import Scenes
from glassformer.models.catalog import from_pretrained
from glassformer.prediction.held_against import held_against, is_seeing
from glassformer.training import Recipe, Run, load_recipe, train
from glassformer.training.loop import validate
from glassformer.training.readers import Readers
from glassformer.training.tasks import TASKS

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "the",
    "lazy",
    "dog",
    "and",
    "then",
    "it",
    "sleeps",
    "in",
    "the",
    "sun",
]
ENCODER = """
[model]
name = "bert"
dim = 16
num_layers = 1
num_heads = 2
hidden_dim = 32
max_positions = 32
"""
TWO_PARTS = """
[model]
name = "t5"
dim = 16
num_encoder_layers = 1
num_decoder_layers = 1
num_heads = 2
head_dim = 8
hidden_dim = 32
"""
LOOKS = """
[model]
name = "vit"
image_size = 8
patch_size = 4
dim = 16
num_layers = 1
num_heads = 2
hidden_dim = 32
dropout = 0.1
"""
SEGMENTS = """
[model]
name = "segformer"
dims = [8, 16]
depths = [1, 1]
num_heads = [1, 2]
patch_sizes = [3, 3]
strides = [2, 2]
reductions = [2, 1]
hidden_ratios = [2, 2]
decoder_dim = 8
"""
MASKS = """
[model]
name = "mask2former"
dim = 32
mask_dim = 16
num_heads = 2
num_encoder_layers = 1
encoder_hidden_dim = 32
num_layers = 1
hidden_dim = 32
num_queries = 6
num_points = 40

[model.backbone]
image_size = 24
patch_size = 2
dim = 8
depths = [1, 1, 1, 1]
num_heads = [1, 1, 2, 2]
window_size = 4
"""
FINDS = """
[model]
name = "conditional_detr"
num_queries = 4
dim = 16
num_encoder_layers = 1
num_decoder_layers = 1
num_heads = 2
hidden_dim = 16

[model.backbone]
stem_dim = 8
dims = [8, 16]
depths = [1, 1]
block = "basic"
"""
STUDENT = LOOKS.replace('"vit"', '"deit"')
DRAWS = """
decoder_dim = 8
decoder_num_layers = 1
decoder_num_heads = 2
decoder_hidden_dim = 8
"""
CLIPS = """
[model]
name = "timesformer"
image_size = 16
patch_size = 8
num_frames = 4
dim = 16
num_layers = 1
num_heads = 2
hidden_dim = 16
"""
CLASSES = 'source = "{classes}"\ntest = 0.2\n[data.augment]\nrotate = 20.0\nshift = 0.1\nerase = 0.5\n'
MIXED = f"{CLASSES}mixup = 0.2\ncutmix = 1.0\n"
VARIED = "[data.augment]\ncrop = 0.5\ncolour = 0.3\nshift = 0.1\n"
MOTIONS = 'source = "motions?size=16&train=24&validation=12&test=8"\n' + VARIED
SCENES = 'source = "scenes?size=24&train=40&validation=12"\nimage_size = 24\ntest = 0.1\n[data.augment]\nflip = 0.5\n'
WORDPIECE = 'tokenizer = "wordpiece"\nvocab_size = 60\ncontext = 32\n'
TEXTS = {
    "language_model": ('[model]\nname = "gpt2"\ndim = 16\nnum_layers = 1\nnum_heads = 2\nmax_positions = 16\n',
                       'corpus = "{corpus}"\ncontext = 8\n'),
    "masked_lm": (ENCODER, 'corpus = "{corpus}"\n' + WORDPIECE),
    "classification": (ENCODER, 'examples = "{rows}"\n' + WORDPIECE),
    "tagging": (ENCODER, 'examples = "{rows}"\n' + WORDPIECE),
    "question_answering": (ENCODER, 'examples = "{rows}"\n' + WORDPIECE),
    "denoising": (TWO_PARTS, 'corpus = "{corpus}"\ntokenizer = "bpe"\nvocab_size = 300\ncontext = 16\n'),
    "translation": (TWO_PARTS, 'examples = "{rows}"\ntokenizer = "bpe"\nvocab_size = 300\ncontext = 16\n'),
}  # fmt: skip
PICTURES = {
    "semantic_segmentation": (SEGMENTS, SCENES),
    "mask_segmentation": (MASKS, SCENES),
    "detection": (FINDS, SCENES),
    "image_classification": (LOOKS, MIXED),
    "distillation": (STUDENT, MIXED),
    "reconstruction": (LOOKS.replace('"vit"', '"mae"') + DRAWS, CLASSES),
    "video_classification": (CLIPS, MOTIONS + "mixup = 0.2\n"),
    "masked_video": (CLIPS.replace('"timesformer"', '"videomae"') + DRAWS, MOTIONS),
}
OPTIONS = {
    "translation": "max_new_tokens = 4\nnum_beams = 1\nbest_by = 'loss'\n",
    "masked_video": "mask_ratio = 0.5\n",
    "image_classification": "label_smoothing = 0.1\n",
}
REST = """
[training]
steps = 7
log_every = 1
save_every = 100
device = "cpu"

[schedule]
name = "cosine"
warmup_steps = 2

[evaluation]
every = 7
examples = 4
"""


def recipe_of(task: str, folder: Path) -> Recipe:
    """A small recipe, with its data beside it."""
    model, data = (TEXTS | PICTURES)[task]
    options = OPTIONS.get(task, "")
    corpus, rows, classes = folder / "corpus.txt", folder / "rows.jsonl", folder / "classes"
    corpus.write_text("\n".join(" ".join(WORDS[i % 7 :] + WORDS[: i % 11]) for i in range(60)))
    lines = [example(task, i) for i in range(40)]
    rows.write_text("\n".join(map(json.dumps, lines)))
    if task in PICTURES and not classes.exists():
        scenes = Scenes(size=24, seed=3).batch(range(40))
        for i, picture in enumerate(scenes.pictures):
            place = classes / ("many" if len(scenes.objects[i]) > 2 else "few")
            place.mkdir(parents=True, exist_ok=True)
            write_image(place / f"{i}.png", picture)
    path = folder / "tiny.toml"
    text = f'[task]\nname = "{task}"\n{options}{model}\n[data]\nbatch_size = 4\n{data}{REST}'
    path.write_text(text.format(corpus=corpus, rows=rows, classes=classes))
    return load_recipe(path)


def example(task: str, i: int) -> dict[str, object]:
    """An example of a task that learns from some."""
    words = WORDS[i % 9 :] + WORDS[: i % 5]
    text = " ".join(words)
    if task == "tagging":
        return {"tokens": words, "tags": ["B-X" if len(word) > 3 else "O" for word in words]}
    if task == "question_answering":
        answer = {"text": words[2], "answer_start": len(" ".join(words[:2])) + 1}
        return {"context": text, "question": "what is it?", "answers": [answer]}
    if task == "translation":
        return {"source": text, "target": " ".join(reversed(words[:4]))}
    return {"text": text, "label": "odd" if i % 2 else "even"}


@pytest.mark.parametrize("task", TASKS)
def test_a_run_of_any_task_goes_on_to_the_bit_where_it_was_stopped_and_leaves_a_folder_that_opens(
    task: str, tmp_path: Path
) -> None:
    recipe = recipe_of(task, tmp_path)
    whole = train(recipe, run_folder=tmp_path / "whole")
    stopped = train(recipe, run_folder=tmp_path / "run", on_event=StopAfter(3))
    assert stopped.signal == "SIGTERM"
    again = train(recipe, run_folder=tmp_path / "run", resume=True)
    assert again.signal is None
    assert_same_run(tmp_path / "whole", tmp_path / "run", 7)
    assert whole.result is not None
    assert again.result is not None
    for key in ("metrics", "baseline", "test"):
        assert whole.result.get(key) == again.result.get(key)
    assert again.recipe == whole.recipe
    assert_opens(whole)
    assert not any(tensor.is_meta for tensor in (*whole.model.parameters(), *whole.model.buffers()))
    if is_seeing(whole.model):
        assert_measured_alike(whole)


def assert_opens(run: Run) -> None:
    """The run's `model/` is the run's model, with what its inputs are made by."""
    model, weights = from_pretrained(run.folder / "model"), run.model.state_dict()
    assert type(model) is type(run.model)
    assert model.state_dict().keys() == weights.keys()
    assert all(tensor.equal(weights[name]) for name, tensor in model.state_dict().items())
    there, own = Readers.load(run.folder / "model", run.recipe.task.reads), run.readers
    assert there.processor == own.processor
    assert (there.tokenizer is None) == (own.tokenizer is None)
    if own.tokenizer is not None and there.tokenizer is not None:
        assert there.tokenizer.encode("the quick fox") == own.tokenizer.encode("the quick fox")


def assert_measured_alike(run: Run) -> None:
    """What is measured of the folder's model on the data by its name is what the run has measured of its own."""
    model, source = from_pretrained(run.folder / "model"), run.recipe.pictures.source
    assert run.readers.processor is not None
    assert run.result is not None
    size = run.recipe.evaluation.batch_size
    held = held_against(model, run.readers.processor, source, split="validation", batch_size=size)
    assert validate(model, held.validation, torch.device("cpu"), final=True)[1].metrics == run.result["metrics"]
