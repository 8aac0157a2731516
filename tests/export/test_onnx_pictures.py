"""Models that look at pictures, exported: in ONNX Runtime they say what they say in PyTorch, for any number of them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from properties import redraw

from glassformer.cli import main
from glassformer.export import export_onnx
from glassformer.image.processor import ImageProcessor, load_image_processor
from glassformer.models.catalog import build
from glassformer.models.conditional_detr import ConditionalDETRConfig
from glassformer.models.deit import DeiTConfig
from glassformer.models.detr import DETRConfig
from glassformer.models.dinov2_registers import DINOv2WithRegistersConfig
from glassformer.models.mae import MAE, MAEConfig
from glassformer.models.mask2former_config import Mask2FormerConfig
from glassformer.models.resnet import ResNetConfig
from glassformer.models.segformer import SegFormerConfig
from glassformer.models.swin import SwinConfig
from glassformer.models.swinv2 import SwinV2Config
from glassformer.models.timesformer import TimeSformerConfig
from glassformer.models.videomae_config import VideoMAEConfig
from glassformer.models.vit import ViTConfig
from glassformer.models.vivit import ViViTConfig

runtime = pytest.importorskip("onnxruntime")
# As small as shows all that a program holds: exporting takes as long as there are layers.
TINY: dict[str, Any] = dict(image_size=8, patch_size=4, dim=16, num_layers=1, num_heads=2, num_classes=5)
HIDDEN: dict[str, Any] = dict(hidden_dim=32)
VIT = ViTConfig(**TINY, **HIDDEN)
REGISTERS = DINOv2WithRegistersConfig(**TINY, hidden_ratio=2, gated=True, num_registers=2)
WINDOWS: dict[str, Any] = dict(image_size=10, patch_size=2, dim=8, num_heads=(1,), window_size=3, num_classes=5)
SWIN = SwinConfig(**WINDOWS, depths=(2,))  # 5 × 5 places: windows are filled up, and shifted
EYES = ResNetConfig(stem_dim=4, dims=(8,), depths=(1,), block="basic", num_classes=5)
SEGFORMER = SegFormerConfig(
    dims=(8, 12), depths=(1, 1), num_heads=(1, 2), patch_sizes=(7, 3), strides=(4, 2), reductions=(2, 1),
    hidden_ratios=(2, 2), decoder_dim=10, num_classes=5,
)  # fmt: skip
DETECTOR: dict[str, Any] = dict(
    backbone=EYES, num_queries=5, dim=16, num_encoder_layers=1, num_heads=2, hidden_dim=20, num_classes=3
)
MASK2FORMER = Mask2FormerConfig(
    backbone=SwinConfig(
        image_size=64, patch_size=2, dim=4, depths=(2, 1, 1, 1), num_heads=(1, 1, 1, 1), window_size=2, path_dropout=0.0
    ),
    dim=32, num_heads=2, num_encoder_layers=1, encoder_hidden_dim=20, hidden_dim=20, num_classes=3, mask_dim=8,
    num_layers=1, num_queries=5, num_points=20,
)  # fmt: skip


def redrawn(config: Any, head: str | None) -> Any:
    torch.manual_seed(0)
    return redraw(build(config, head=head)).eval()


def equal(model: Any, path: Path, *inputs: tuple[torch.Tensor, ...], tolerance: float = 1e-5) -> None:
    """In ONNX Runtime the program gives every tensor that the model gives, for each of these inputs."""
    program = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = [each.name for each in program.get_inputs()]
    names = [each.name for each in program.get_outputs()]
    for tensors in inputs:
        with torch.no_grad():
            wanted = model(*tensors)
        assert names == [
            field.name for field in fields(wanted) if isinstance(getattr(wanted, field.name), torch.Tensor)
        ]
        feed = {name: tensor.numpy() for name, tensor in zip(given, tensors, strict=True)}
        for name, found in zip(names, program.run(None, feed), strict=True):
            ours = wanted[name].numpy()
            assert found.shape == ours.shape
            assert np.abs(found - ours).max() < tolerance * np.abs(ours).max(), name


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(
    ("config", "head"),
    [
        pytest.param(VIT, "image_classification", id="vit"),
        pytest.param(VIT, None, id="vit-encoder"),
        pytest.param(SWIN, "image_classification", id="swin"),
        pytest.param(
            SwinV2Config(**WINDOWS, depths=(2,), trained_window_sizes=(0,)), "image_classification", id="swinv2"
        ),
        pytest.param(DeiTConfig(**TINY, **HIDDEN), "image_classification", id="deit"),
        pytest.param(REGISTERS, "image_classification", id="dinov2-with-registers"),
    ],
)
def test_any_number_of_pictures_gives_what_the_model_gives(config: Any, head: str | None, tmp_path: Path) -> None:
    model = redrawn(config, head)
    (path,) = export_onnx(model, tmp_path)
    size = config.image_size
    equal(model, path, (noise(1, 3, size, size),), (noise(5, 3, size, size),))


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(TimeSformerConfig(**TINY, **HIDDEN, num_frames=2), id="timesformer"),
        pytest.param(ViViTConfig(**TINY, **HIDDEN, num_frames=2, tubelet_frames=2), id="vivit"),
        pytest.param(VideoMAEConfig(**TINY, **HIDDEN, num_frames=2, tubelet_frames=2), id="videomae"),
    ],
)
def test_any_number_of_clips_gives_what_the_model_gives(config: Any, tmp_path: Path) -> None:
    model = redrawn(config, "video_classification")
    (path,) = export_onnx(model, tmp_path)
    equal(model, path, (noise(1, 2, 3, 8, 8),), (noise(4, 2, 3, 8, 8),))


@pytest.mark.parametrize(
    ("config", "head"),
    [
        pytest.param(SEGFORMER, "semantic_segmentation", id="segformer"),
        pytest.param(SEGFORMER, "image_classification", id="segformer-class"),
        pytest.param(EYES, "image_classification", id="resnet"),
    ],
)
def test_a_model_that_names_no_size_is_exported_for_pictures_of_any(
    config: Any, head: str | None, tmp_path: Path
) -> None:
    model = redrawn(config, head)
    (path,) = export_onnx(model, tmp_path)
    equal(model, path, (noise(1, 3, 45, 61),), (noise(3, 3, 96, 64),))


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(DETRConfig(**DETECTOR, num_decoder_layers=1), id="detr"),
        pytest.param(ConditionalDETRConfig(**DETECTOR, num_decoder_layers=2), id="conditional-detr"),
    ],
)
def test_a_detector_exported_reads_pictures_of_any_size_and_where_they_are_filled_up(
    config: Any, tmp_path: Path
) -> None:
    model = redrawn(config, "object_detection")
    (path,) = export_onnx(model, tmp_path)
    present = torch.ones(3, 57, 40, dtype=torch.int64)
    present[1, 30:], present[2, :, 21:] = 0, 0
    equal(model, path, (noise(1, 3, 45, 61), torch.ones(1, 45, 61, dtype=torch.int64)), (noise(3, 3, 57, 40), present))
    with torch.no_grad():
        whole = model(noise(3, 3, 57, 40), torch.ones_like(present)).logits
        assert (model(noise(3, 3, 57, 40), present).logits - whole).abs().amax((1, 2)).tolist()[0] == 0
    assert not torch.allclose(model(noise(3, 3, 57, 40), present).logits[1], whole[1], rtol=1e-3)


def test_masks_are_exported_for_pictures_of_the_size_asked_for(tmp_path: Path) -> None:
    model = redrawn(MASK2FORMER, "universal_segmentation")
    (path,) = export_onnx(model, tmp_path, picture_size=(37, 30))
    equal(model, path, (noise(1, 3, 37, 30),), (noise(3, 3, 37, 30),), tolerance=1e-4)


def test_exporting_a_model_in_training_counts_no_pictures(tmp_path: Path) -> None:
    model = redrawn(EYES, "image_classification").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_onnx(model, tmp_path, picture_size=(32, 32))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {name: value for name, value in TINY.items() if name != "num_classes"}
    MAE(MAEConfig(**small, decoder_dim=16, decoder_num_layers=1, decoder_num_heads=1)).save_pretrained(tmp_path / "mae")
    assert main(["convert", str(tmp_path / "mae"), str(tmp_path / "onnx"), "--onnx"]) == 2
    assert (
        "MAE draws what is hidden from it, which is how it is trained; export its `encoder`" in capsys.readouterr().err
    )
    redrawn(VIT, None).save_pretrained(tmp_path / "vit")
    for size, said in (("9 8", "9 × 8 pixels are no whole number of patches"), ("0 8", "none of them 0")):
        options = ["--onnx", "--onnx-size", *size.split()]
        assert main(["convert", str(tmp_path / "vit"), str(tmp_path / "onnx"), *options]) == 2
        assert said in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "vit"), str(tmp_path / "onnx"), "--onnx-size", "8", "8"]) == 2
    assert "--onnx-size 8 8 is of ONNX files; give --onnx too" in capsys.readouterr().err
    assert not (tmp_path / "onnx").exists()


def test_convert_writes_the_program_and_the_processor_beside_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    model = redrawn(VIT, "image_classification")
    model.save_pretrained(source)
    processor = ImageProcessor(size=(8, 12), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    processor.save(source)
    assert main(["convert", str(source), str(target), "--onnx", "--onnx-size", "8", "12"]) == 0
    said = capsys.readouterr().out
    assert "with its image processor" in said
    assert float(said.split("differ from ours by ")[1].split()[0]) < 1e-5
    assert load_image_processor(target) == processor
    equal(model, target / "model.onnx", (noise(2, 3, 8, 12),))
