"""`glassformer predict` and `eval`: what a model sees in pictures, said, drawn and measured."""

import json
from pathlib import Path

import pytest
import torch

from glassformer.cli import main
from glassformer.image.files import read_image, write_image
from glassformer.image.processor import ImageProcessor
from glassformer.models.catalog import build
from glassformer.models.deit import DeiTConfig
from glassformer.models.vit import ViTConfig

NAMES = ("dark", "light", "grey")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that tells light pictures from dark ones, and two pictures of each in folders."""
    folder = tmp_path_factory.mktemp("shades")
    config = ViTConfig(image_size=8, patch_size=4, dim=4, num_layers=1, num_heads=1, hidden_dim=4, num_classes=3,
                       labels=NAMES)  # fmt: skip
    model = build(config, head="image_classification")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        block = model.encoder.blocks[0]
        model.encoder.patches.weight[0].fill_(1 / 48)  # a patch's mean stands in its first place
        model.encoder.patches.weight[1].fill_(-1 / 48)
        for norm in (block.attention_norm, model.encoder.norm):
            norm.weight.fill_(1.0)
        block.attention.value.weight.copy_(torch.eye(4))  # and the class token reads the patches
        block.attention.output.weight.copy_(torch.eye(4))
        model.head.weight.copy_(torch.tensor([[-1.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 0]]))
    model.save_pretrained(folder / "model")
    ImageProcessor(size=(8, 8)).save(folder / "model")
    for name, value in {"dark": 10, "light": 240}.items():
        (folder / "own" / name).mkdir(parents=True)
        for i in range(2):
            write_image(folder / "own" / name / f"{i}.png", torch.full((3, 9, 11), value + i, dtype=torch.uint8))
    return folder


def predict(folder: Path, *arguments: str) -> int:
    return main(["predict", "--model", str(folder / "model"), *arguments])


def test_classes_are_said_and_drawn(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [str(folder / "own" / name / "0.png") for name in ("dark", "light")]
    assert predict(folder, *pictures, "--output", str(tmp_path / "out"), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [found[picture][0]["class"] for picture in pictures] == ["dark", "light"]
    for rows in found.values():
        assert {row["class"] for row in rows} == set(NAMES)
        assert sum(row["probability"] for row in rows) == pytest.approx(1.0)
        assert rows[0]["probability"] > rows[1]["probability"] > rows[2]["probability"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0-2.png", "0.png"]
    drawn = read_image(tmp_path / "out" / "0-2.png")
    assert (drawn == 240).all(0).sum() > 200 * 200  # the picture itself, enlarged


def test_a_table_names_as_many_classes_as_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(folder / "own" / "light" / "0.png")
    assert predict(folder, picture, "--top", "2", "--output", str(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "light" in said
    assert "grey" in said
    assert "dark" not in said
    assert str(tmp_path / "0.png") in said.replace("\n", "")


def test_where_the_model_looks_is_drawn_beside(folder: Path, tmp_path: Path) -> None:
    picture = str(folder / "own" / "light" / "0.png")
    assert predict(folder, picture, "--attention", "--output", str(tmp_path)) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-attention.png", "0.png"]
    drawn = read_image(tmp_path / "0-attention.png")
    assert min(drawn.shape[1:]) > 100
    assert drawn.unique().numel() > 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no picture is given"),
        (["nowhere.png"], "nowhere.png is not there"),
        (["MODEL/config.json"], "is no picture that Pillow can read"),
        (["PICTURE", "--top", "0"], "--top is 0; expected 1 or more"),
        (["PICTURE", "--threshold", "2"], "--threshold is 2.0; expected a number between 0 and 1"),
        (["PICTURE", "--threshold", "0.3"], "--threshold 0.3 has no effect: ViTForImageClassification is for image"),
        (["PICTURE", "--output", "MODEL/config.json"], "is a file; expected a folder"),
        (["PICTURE", "--output", "HERE"], "is the picture itself"),
    ],
)
def test_what_cannot_be_predicted_is_one_sentence_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    here = folder / "own" / "light"
    places = {"MODEL": str(folder / "model"), "PICTURE": str(here / "0.png"), "HERE": str(here)}
    given = [argument if argument in ("--top",) else _placed(argument, places) for argument in arguments]
    before = sorted(folder.rglob("*"))
    assert predict(folder, *given) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def _placed(argument: str, places: dict[str, str]) -> str:
    for name, path in places.items():
        argument = argument.replace(name, path)
    return argument


def test_a_classifier_is_measured_on_a_folder_of_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval", "--model", str(folder / "model"), "--data", str(folder / "own")]
    assert main([*arguments, "--json", "--split", "all"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["accuracy"], found["pictures"], found["split"]) == (1.0, 4, "all")
    (folder / "own" / "light").rename(folder / "own" / "bright")
    try:
        assert main(arguments) == 2
        assert "has the class 'bright', which the model does not know" in capsys.readouterr().err
    finally:
        (folder / "own" / "bright").rename(folder / "own" / "light")


def test_a_classifier_of_pictures_wants_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--model", str(folder / "model")]) == 2
    assert "is measured on pictures or clips whose right answers are known" in capsys.readouterr().err
    for arguments, said in (
        (["digits", "--num-beams", "3"], "--num-beams 3 has no effect"),
        (["scenes"], "'scenes' is for detection or instances or semantic, not for kind='classification'"),
        (["motions"], "'motions' is neither pictures by name nor a folder"),
        (["digits"], "digits has the class '0', which the model does not know"),
        ([str(folder / "own"), "--split", "test"], "has no part to test on"),
        ([str(folder / "own"), "--split", "some"], "--split is 'some'; expected validation, train, all or test"),
        ([str(folder)], f"{folder / 'model'} holds no files of the class 'model'"),
    ):
        assert main(["eval", "--model", str(folder / "model"), "--data", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_what_is_measured_is_drawn_where_it_is_wanted(folder: Path, tmp_path: Path) -> None:
    data = ["--data", str(folder / "own"), "--output", str(tmp_path / "sheets")]
    assert main(["eval", "--model", str(folder / "model"), *data]) == 0
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == ["confusion.png", "predictions.png"]


def test_a_student_of_two_heads_names_classes_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = DeiTConfig(image_size=8, patch_size=4, dim=4, num_layers=1, num_heads=1, hidden_dim=4, num_classes=3,
                        labels=NAMES)  # fmt: skip
    build(config, head="distilled_image_classification").save_pretrained(tmp_path / "model")
    ImageProcessor(size=(8, 8)).save(tmp_path / "model")
    write_image(tmp_path / "1.png", torch.zeros(3, 9, 9, dtype=torch.uint8))
    assert predict(tmp_path, str(tmp_path / "1.png"), "--output", str(tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in NAMES)
    assert (tmp_path / "out" / "1.png").is_file()
