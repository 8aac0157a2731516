"""Drawing what is hidden, then a head on what was learned; a student that hears its teacher."""

from pathlib import Path
from typing import Any

import pytest
import torch

import glassformer
from glassformer.image.processor import load_image_processor
from glassformer.models.vit import ViTConfig
from glassformer.training import Run, load_recipe, load_run, train
from glassformer.training.readers import Readers
from glassformer.training.tasks.distillation import Teacher
from glassformer.training.tasks.reconstruction import Reconstruction, spread

pytest.importorskip("sklearn")

TINY = {
    "model.dim": "16", "model.num_layers": "1", "model.num_heads": "2", "model.hidden_dim": "16",
    "model.patch_size": "4", "training.steps": "6", "training.save_every": "3", "training.log_every": "3",
    "training.device": "cpu", "evaluation.every": "3", "data.batch_size": "16", "schedule.warmup_steps": "2",
}  # fmt: skip
DECODER = {f"model.decoder_{name}": TINY[f"model.{name}"] for name in ("dim", "num_layers", "num_heads", "hidden_dim")}


def learned(name: str, folder: Path, **changes: str) -> Run:
    settings = {**TINY, **{key.replace("__", "."): value for key, value in changes.items()}}
    return train(load_recipe(name, settings), run_folder=folder)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mae"
    train(load_recipe("mae_pretrain", {**TINY, **DECODER, "training.save_every": "6"}), run_folder=folder)
    return folder


def test_an_autoencoder_is_measured_by_what_it_explains_and_its_folder_opens_with_its_processor(
    pretrained: Path,
) -> None:
    run: Any = load_run(pretrained)
    assert type(glassformer.from_pretrained(pretrained / "model")).__name__ == "MAE"
    assert load_image_processor(pretrained / "model").size == (16, 16)
    assert (pretrained / "predictions.png").stat().st_size > 5000
    prepared = run.recipe.task.prepare(run.recipe, run.readers)
    first, again = (list(prepared.validation.batches()) for _ in range(2))
    assert all(torch.equal(a.inputs["noise"], b.inputs["noise"]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].inputs["noise"][0], first[0].inputs["noise"][1])
    # A model that draws the mean of what it sees explains nothing of the spread about it.
    batch, model = first[0], run.model
    target, hidden = model.target(batch.inputs["pixel_values"]), model(**batch.inputs).mask.bool()
    by_hand = [(t[h] - t[~h].mean()).square().mean() for t, h in zip(target, hidden, strict=True)]
    assert torch.allclose(spread(model, batch), torch.stack(by_hand), atol=1e-5)


def test_training_hides_other_patches_each_time_and_resumes_to_the_bit(tmp_path: Path) -> None:
    whole: Any = learned("mae_pretrain", tmp_path / "whole", **DECODER)
    half: Any = learned("mae_pretrain", tmp_path / "half", **DECODER, training__steps="3")
    del half
    recipe = load_recipe("mae_pretrain", {**TINY, **DECODER})
    prepared = recipe.task.prepare(recipe, Readers())
    one, two = next(prepared.batches), next(prepared.batches)
    assert not torch.equal(one.inputs["noise"], two.inputs["noise"])
    state = prepared.batches.state_dict()
    fresh = recipe.task.prepare(recipe, Readers()).batches
    fresh.load_state_dict(state)
    expected, found = next(prepared.batches), next(fresh)
    assert all(torch.equal(expected.inputs[name], found.inputs[name]) for name in ("noise", "pixel_values"))
    assert whole.model is not None


def test_a_probe_learns_its_head_alone_on_the_autoencoder_s_encoder(pretrained: Path, tmp_path: Path) -> None:
    run: Any = learned("mae_probe", tmp_path / "probe", init__from=str(pretrained / "model"), data__batch_size="64")
    trained: Any = glassformer.from_pretrained(pretrained / "model")
    probed = dict(run.model.encoder.named_parameters())
    assert all(torch.equal(parameter, probed[name]) for name, parameter in trained.encoder.named_parameters())
    assert run.model.head.weight.abs().max() > 0


def test_a_student_hears_what_its_teacher_says_of_the_very_same_pictures(tmp_path: Path) -> None:
    learned("vit_digits", tmp_path / "teacher")
    teacher = str(tmp_path / "teacher" / "model")
    recipe = load_recipe("deit_distill", {**TINY, "task.teacher": teacher})
    prepared = recipe.task.prepare(recipe, Readers())
    hears: Any = prepared.objective
    assert isinstance(hears, Teacher)
    judge: Any = glassformer.from_pretrained(teacher)
    inputs = next(prepared.batches).inputs
    pixels = inputs["pixel_values"]
    with torch.no_grad():
        expected = (judge(pixels).logits / 3).softmax(-1)
    assert torch.allclose(hears.opinion(pixels), expected, atol=1e-6)
    student = recipe.with_model(**prepared.settings).build_model()
    told = student(**inputs, teacher_labels=expected).loss
    assert torch.allclose(hears(student, inputs), told)
    assert (told - student(**inputs).loss).abs() > 0.01
    hears.temperature = None
    assert torch.equal(hears.opinion(pixels), expected.argmax(-1))
    hears.order = torch.tensor([1, 0, *range(2, 10)])  # the student has the first two classes the other way round
    hears.temperature = 3.0
    assert torch.allclose(hears.opinion(pixels)[:, 0], expected[:, 1], atol=1e-6)
    run: Any = learned("deit_distill", tmp_path / "student", task__teacher=teacher)
    assert type(run.model).__name__ == "DeiTForImageClassificationWithTeacher"
    assert run.model.config.labels == tuple("0123456789")
    assert recipe.build_model().temperature == 3.0


def test_a_teacher_that_cannot_teach_is_said(tmp_path: Path) -> None:
    recipe = load_recipe("deit_distill", {**TINY, "task.teacher": str(tmp_path / "runs/vit_digits/model")})
    with pytest.raises(FileNotFoundError, match=r"runs/vit_digits/model', which is not there; 'glassformer train vit_"):
        recipe.task.prepare(recipe, Readers())
    learned("vit_digits", tmp_path / "teacher", model__image_size="8", model__patch_size="2")
    recipe = load_recipe("deit_distill", {**TINY, "task.teacher": str(tmp_path / "teacher" / "model")})
    with pytest.raises(ValueError, match=r"sees pictures with size=\(8, 8\), the student with \(16, 16\)"):
        recipe.task.prepare(recipe, Readers())
    with pytest.raises(ValueError, match="name is 'vit', which draws nothing; 'mae' does"):
        Reconstruction().build(ViTConfig())
