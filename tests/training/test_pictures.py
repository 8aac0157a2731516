"""Learning from pictures: what is drawn for each, which are kept apart, what the model takes from the data."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from glassformer.image.datasets import Record
from glassformer.image.files import read_image, write_image
from glassformer.image.processor import ImageProcessor
from glassformer.training import Pictures, Recipe, Texts, load_recipe, train
from glassformer.training.batches import Batch, Counting, Rows
from glassformer.training.readers import Readers
from glassformer.training.tasks import LanguageModelling
from glassformer.training.tasks.pictures import Parts, as_records, labelled, pictures_of, resized

TOML = """
[model]
name = "vit"
image_size = 8
patch_size = 4
dim = 16
num_layers = 1
num_heads = 2
hidden_dim = 32

[task]
name = "image_classification"

[data]
source = "{source}"
test = 0.25
batch_size = 8

[training]
steps = 4
log_every = 2
device = "cpu"

[schedule]
name = "constant"

[evaluation]
every = 4
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A recipe beside forty bright and forty dark pictures."""
    random = torch.Generator().manual_seed(0)
    for i in range(80):
        place = tmp_path / "shades" / ("bright" if i % 2 else "dark")
        place.mkdir(parents=True, exist_ok=True)
        noise = torch.randint(0, 90, (3, 10, 12), generator=random)
        write_image(place / f"{i}.png", (noise + i % 2 * 150).byte())
    path = tmp_path / "tiny.toml"
    path.write_text(TOML.format(source=tmp_path / "shades"))
    return path


def test_the_model_takes_its_classes_from_the_data_and_a_run_says_what_it_reaches(
    recipe_file: Path, tmp_path: Path
) -> None:
    run = train(load_recipe(recipe_file, {"training.steps": "30", "evaluation.every": "30"}), run_folder=tmp_path / "a")
    assert run.model.config.labels == ("bright", "dark")
    assert run.model.config.num_classes == 2
    assert run.result is not None
    assert run.result["metrics"]["accuracy"] == run.result["test"]["accuracy"] == 1.0
    assert run.result["baseline"] == run.result["test_baseline"] == {"accuracy": 1.0}
    assert {"pictures", "pictures_per_second"} < run.metrics[0].keys()
    assert run.metrics[0]["pictures"] == 16
    assert not {"tokens", "units"} & run.metrics[0].keys()
    assert read_image(run.folder / "predictions.png").shape[0] == 3
    assert read_image(run.folder / "confusion.png").shape[0] == 3
    with pytest.raises(ValueError, match="reads no text: it has no tokenizer"):
        _ = run.tokenizer


def test_the_three_parts_share_no_picture_and_stay_the_same_for_every_seed(recipe_file: Path) -> None:
    def places(**changes: str) -> list[set[str]]:
        parts = pictures_of(load_recipe(recipe_file, changes), "classification")
        return [{record.place for record in part} for part in (parts.train, parts.validation, parts.test)]

    first = places()
    assert [len(part) for part in first] == [54, 8, 18]
    assert len(set.union(*first)) == 80
    assert places(**{"training.seed": "5"}) == first
    assert places(**{"data.split": "5"}) != first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.corpus": "x"}, r"\[data\] has no key 'corpus'"),
        ({"data.name": "pictures"}, r"\[data\] has no key 'name'"),
        ({"data.test": "1.5"}, r"\[data\] test=1.5 is no part"),
        ({"data.augment.shift": "-1"}, r"\[data.augment\] shift=-1.0"),
        ({"data.augment.shfit": "1"}, "did you mean 'shift'"),
        ({"model.name": "gpt2", "model.image_size": "8"}, "no key 'image_size'"),
        ({"task.name": "classification"}, r"\[data\] has no key 'source'"),
    ],
)
def test_settings_that_do_not_go_with_pictures_are_named(
    recipe_file: Path, change: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_recipe(recipe_file, change)


def test_classes_that_the_model_was_told_otherwise_are_refused(recipe_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"num_classes=3, but .* has 2 classes"):
        train(load_recipe(recipe_file, {"model.num_classes": "3"}), run_folder=tmp_path / "run")
    told = {"model.num_classes": "2", "model.labels": "dark,light"}
    with pytest.raises(ValueError, match="class 'bright', which is not among"):
        train(load_recipe(recipe_file, told), run_folder=tmp_path / "run")


def test_labels_that_the_model_was_told_keep_their_order(recipe_file: Path, tmp_path: Path) -> None:
    told = {"model.num_classes": "3", "model.labels": "grey,dark,bright", "training.steps": "30"}
    run = train(load_recipe(recipe_file, told), run_folder=tmp_path / "run")
    dark = run.processor([torch.zeros(3, 10, 12, dtype=torch.uint8)])
    assert run.model(**dark).logits.argmax() == 1


def test_a_trained_model_goes_on_with_other_classes_by_a_new_head(recipe_file: Path, tmp_path: Path) -> None:
    first = train(load_recipe(recipe_file), run_folder=tmp_path / "first")
    (tmp_path / "shades" / "bright").rename(tmp_path / "shades" / "light")
    text = recipe_file.read_text()
    start, end = text.index("[model]"), text.index("[task]")
    recipe_file.write_text(text[:start] + f'[init]\nfrom = "{tmp_path / "first" / "model"}"\n' + text[end:])
    second = train(load_recipe(recipe_file, {"training.steps": "1"}), run_folder=tmp_path / "second")
    assert second.model.config.labels == ("dark", "light")
    assert second.processor == first.processor


def test_a_recipe_and_its_task_agree_on_the_data() -> None:
    with pytest.raises(ValueError, match="LanguageModelling learns from Texts, and data is Pictures"):
        Recipe(name="x", task=LanguageModelling(), data=Pictures())
    with pytest.raises(ValueError, match="learns from texts, and this is for pictures"):
        _ = Recipe(name="x", data=Texts()).pictures


def test_a_batch_with_the_objects_of_each_picture_is_cut_moved_and_counted_by_its_rows() -> None:
    objects = [{"class_labels": torch.arange(i), "boxes": torch.rand(i, 4)} for i in range(3)]
    batch = Batch(inputs={"pixel_values": torch.rand(3, 3, 4, 4), "labels": objects}, target="labels", units=3)
    part = batch.rows(1, 3)
    assert (len(part), part.counted, part.units) == (2, 2, 2)
    assert part.inputs["labels"] == objects[1:]
    moved = batch.to("meta").inputs["labels"]
    assert moved[2]["boxes"].is_meta
    assert moved[2]["class_labels"].shape == (2,)


def test_a_map_of_classes_is_counted_by_the_pixels_that_have_one() -> None:
    labels = torch.tensor([[[0, 255], [1, 255]]])
    assert Batch(inputs={"labels": labels}, target="labels", units=1, ignored=255).counted == 2
    assert Batch(inputs={"pixel_values": torch.rand(5, 2)}, target="pixel_values", units=5).counted == 5


def test_numbers_count_on_where_they_were_and_draw_what_their_step_says() -> None:
    def make(numbers: np.ndarray, random: np.random.Generator) -> Any:
        return numbers.tolist(), random.random()

    whole = Rows(Counting(batch_size=3, seed=1), make)
    first = [next(whole) for _ in range(5)]
    again = Rows(Counting(batch_size=3, seed=1), make)
    again.load_state_dict({"step": 3, "batch_size": 3, "seed": 1})
    assert [next(again), next(again)] == first[3:]
    assert first[1][0] == [3, 4, 5]
    assert len({draw for _, draw in first}) == 5
    with pytest.raises(ValueError, match="seed"):
        Rows(Counting(batch_size=3, seed=2), make).load_state_dict(whole.state_dict())


def test_pictures_are_read_once_while_there_is_room(recipe_file: Path) -> None:
    parts, reads = pictures_of(load_recipe(recipe_file), "classification"), []
    kept = type(parts.train)(parts.train.entries, lambda entry: reads.append(entry) or parts.train.read(entry))
    processor = ImageProcessor(size=(8, 8))
    seen = resized(kept, processor, room=2 * 3 * 8 * 8)
    for _ in range(3):
        for i in range(4):
            assert seen[i].picture.equal(processor.resized(parts.train[i].picture))
    assert len(reads) == 4 + 2 + 2


def test_classes_are_numbered_as_the_model_has_them() -> None:
    picture = torch.zeros(3, 2, 2, dtype=torch.uint8)
    each = as_records([Record(picture=picture, place=str(label), label=label) for label in (0, 1)])
    recipe: Any = SimpleNamespace(model=SimpleNamespace(labels=("cat", "dog", "ant"), num_classes=3))
    found = labelled(recipe, Parts("pets", ("ant", "cat"), each, each, each[:0], "pictures"))
    assert found.labels == ("cat", "dog", "ant")
    assert [record.label for record in found.train] == [record.label for record in found.validation] == [2, 0]
    assert str(found) == "pets: 2 pictures, 2 more to validate on, of 3 classes"


def test_a_row_that_went_wrong_is_described() -> None:
    said = Readers().shown({"pixel_values": torch.tensor([[[[0.0, 2.5]]]])})
    assert said == "has pixels of (1, 1, 2) from 0 to 2.5"

    class Speller:
        def decode(self, ids: list[int]) -> str:
            return "x" * len(ids)

    reader: Any = Speller()
    assert Readers(tokenizer=reader).shown({"input_ids": torch.zeros(1, 500)}) == f"reads '{'x' * 77}...'"
