"""Models that look at pictures, exported: in ONNX Runtime they say what they say in PyTorch, for any number of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassformer.cli import main
from glassformer.export import export_onnx
from glassformer.image.processor import ImageProcessor, load_image_processor
from glassformer.models.catalog import build
from glassformer.models.deit import DeiTConfig
from glassformer.models.swin import SwinConfig
from glassformer.models.vit import ViTConfig

runtime = pytest.importorskip("onnxruntime")
TINY: dict[str, Any] = dict(image_size=16, patch_size=4, dim=16, num_layers=2, num_heads=2, hidden_dim=32)
VIT = ViTConfig(**TINY, num_classes=5)
SWIN = SwinConfig(
    image_size=20, patch_size=2, dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4, num_classes=5
)  # 10 × 10 places: windows are filled up, and shifted


def redrawn(config: Any, head: str | None) -> Any:
    torch.manual_seed(0)
    model = build(config, head=head)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


@pytest.mark.parametrize(
    ("config", "head"),
    [
        pytest.param(VIT, "image_classification", id="vit"),
        pytest.param(VIT, None, id="vit-encoder", marks=pytest.mark.slow),
        pytest.param(SWIN, "image_classification", id="swin", marks=pytest.mark.slow),
        pytest.param(DeiTConfig(**TINY, num_classes=5), "image_classification", id="deit", marks=pytest.mark.slow),
    ],
)
def test_any_number_of_pictures_gives_what_the_model_gives(config: Any, head: str | None, tmp_path: Path) -> None:
    model = redrawn(config, head)
    (path,) = export_onnx(model, tmp_path)
    program = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in program.get_outputs()]
    assert names[0] == ("last_hidden_state" if head is None else "logits")
    assert [given.name for given in program.get_inputs()] == ["pixel_values"]
    for number in (1, 5):
        pictures = torch.randn(number, 3, config.image_size, config.image_size)
        with torch.no_grad():
            wanted = model(pictures)
        for name, found in zip(names, program.run(None, {"pixel_values": pictures.numpy()}), strict=True):
            ours = wanted[name].numpy()
            assert found.shape == ours.shape
            assert np.abs(found - ours).max() < 1e-5 * np.abs(ours).max()


def test_convert_writes_the_program_and_the_processor_beside_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    redrawn(VIT, "image_classification").save_pretrained(source)
    processor = ImageProcessor(size=(16, 16), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    processor.save(source)
    assert main(["convert", str(source), str(target), "--onnx"]) == 0
    said = capsys.readouterr().out
    assert "with its image processor" in said
    assert "model.onnx" in said
    assert load_image_processor(target) == processor
