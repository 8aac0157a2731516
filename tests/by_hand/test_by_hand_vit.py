"""ViT by hand: equal to the torch models in outputs, loss and every gradient, at any size of picture; learns digits."""

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mirrors import agrees_with_differences, check_gradients, close, close_gradients, draw, redraw, twin

from glassformer.by_hand import AdamW, ViT, ViTConfig, ViTForImageClassification, cross_entropy
from glassformer.by_hand.models.pretrained import Pretrained
from glassformer.by_hand.parts.patch import GridPosition, PatchEmbedding, bicubic
from glassformer.models import vit
from glassformer.parts import patch

SHAPE: dict[str, Any] = dict(image_size=12, patch_size=4, channels=2, dim=24, num_layers=2, num_heads=4, hidden_dim=40)
CONFIGS = {
    "plain": ViTConfig(**SHAPE, num_classes=5),
    "mean, no bias, other gelu": ViTConfig(
        **SHAPE, num_classes=3, labels=("a", "b", "c"), pooling="mean", attention_bias=False, activation="gelu_tanh",
        norm_eps=0.1,
    ),
}  # fmt: skip
SIZES = [(12, 12), (8, 20)]
CLASSES = np.array([0, 2, 1])


def build(kind: type, name: str) -> Pretrained:
    model = kind(CONFIGS[name])
    redraw(model)
    return model


def build_torch(ours: Pretrained) -> Any:
    """The torch model with the same numbers."""
    config = vit.ViTConfig(**{field.name: getattr(ours.config, field.name) for field in fields(ours.config)})
    return twin(ours, getattr(vit, type(ours).__name__)(config))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("size", SIZES)
def test_outputs_and_every_gradient_the_pixels_too_equal_the_torch_encoder(name, size):
    ours: Any = build(ViT, name)
    theirs = build_torch(ours)
    pixels = draw(3, 2, *size)
    given = torch.tensor(pixels, requires_grad=True)
    (hidden, pooled), out = ours(pixels), theirs(given)
    close(hidden, out.last_hidden_state)
    close(pooled, out.pooler_output)
    dx, d_pooled = draw(*hidden.shape), draw(*pooled.shape)
    d_pixels = ours.backward(dx, d_pooled)
    ((out.last_hidden_state * torch.tensor(dx)).sum() + (out.pooler_output * torch.tensor(d_pooled)).sum()).backward()
    close_gradients(ours, theirs)
    close(d_pixels, given.grad)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("size", SIZES)
def test_logits_loss_and_every_gradient_equal_the_torch_head(name, size):
    ours = build(ViTForImageClassification, name)
    theirs = build_torch(ours)
    pixels = draw(3, 2, *size)
    given = torch.tensor(pixels, requires_grad=True)
    logits = ours(pixels)
    loss, d_logits = cross_entropy(logits, CLASSES)
    d_pixels = ours.backward(d_logits)
    out = theirs(given, labels=torch.tensor(CLASSES))
    out.loss.backward()
    close(logits, out.logits)
    assert loss == pytest.approx(out.loss.item(), rel=1e-10)
    close_gradients(ours, theirs)
    close(d_pixels, given.grad)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_equal_finite_differences(name):
    model: Any = build(ViTForImageClassification, name)
    pixels = draw(3, 2, 16, 8)
    d_pixels = model.backward(cross_entropy(model(pixels), CLASSES)[1])
    arrays = {key: (parameter.data, parameter.grad) for key, parameter in model.named_parameters()}
    arrays["pixels"] = (pixels, d_pixels)
    agrees_with_differences(lambda: np.asarray(cross_entropy(model(pixels), CLASSES)[0]), arrays)


def test_patches_are_the_torch_parts_and_have_the_gradients_of_differences():
    ours = PatchEmbedding(2, 3, 5)
    redraw(ours)
    theirs = twin(ours, patch.PatchEmbedding(2, 3, 5))
    image = draw(2, 2, 6, 9)
    close(ours(image), theirs(torch.tensor(image)))
    check_gradients(ours, image)
    with pytest.raises(ValueError, match=r"7 × 9 pixels is no whole number of patches; .* multiples of 3"):
        ours(draw(1, 2, 7, 9))


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (9, 2), (1, 4)])
def test_positions_are_the_torch_parts_at_any_size_and_have_the_gradients_of_differences(shape):
    ours = GridPosition(4, 5, before=1)
    redraw(ours)
    theirs: Any = twin(ours, patch.GridPosition(4, 5, before=1))
    out = ours(*shape)
    close(out, theirs(*shape))
    dy = draw(3, *out.shape[1:])
    ours.backward(dy)
    (theirs(*shape) * torch.tensor(dy)).sum().backward()
    close_gradients(ours, theirs)
    parameter = ours.weight
    agrees_with_differences(lambda: (ours(*shape) * dy).sum(), {"weight": (parameter.data, parameter.grad)})


@pytest.mark.parametrize(("size", "wanted"), [(5, 13), (14, 3), (1, 4), (6, 6)])
def test_cubic_interpolation_keeps_constants_and_equals_torch(size, wanted):
    matrix = bicubic(size, wanted)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
    line = torch.eye(size, dtype=torch.float64)[None, :, :, None]
    expected = F.interpolate(line, size=(wanted, 1), mode="bicubic", align_corners=False)
    close(matrix, expected[0, :, :, 0].T)


@pytest.mark.parametrize("labels", [("a", "b", "c"), None])
@pytest.mark.parametrize("kind", [ViT, ViTForImageClassification], ids=lambda kind: kind.__name__)
def test_a_folder_is_read_as_the_torch_model_reads_it(kind, labels, tmp_path):
    ours = kind(replace(CONFIGS["plain"], num_classes=3, labels=labels, attention_bias=labels is None))
    redraw(ours)
    theirs = build_torch(ours).eval().float()
    theirs.save_pretrained(tmp_path)
    read = kind.from_pretrained(tmp_path)
    assert read.config == ours.config
    pixels = draw(2, 2, 12, 12).astype(np.float32)
    got, out = read(pixels), theirs(torch.tensor(pixels))
    close(got[1] if kind is ViT else got, out.pooler_output if kind is ViT else out.logits, 1e-5)


def test_what_the_folder_says_otherwise_is_refused(tmp_path):
    build_torch(build(ViT, "plain")).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pooler_act": "relu"}))
    with pytest.raises(ValueError, match="pooler_act='relu'; only 'tanh' is implemented"):
        ViT.from_pretrained(tmp_path)


def test_a_hundred_digits_are_learned_by_heart():
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    pixels, classes = (digits.images[:100, None] / 8 - 1).astype(np.float32), digits.target[:100]
    config = ViTConfig(image_size=8, patch_size=2, channels=1, dim=32, num_layers=2, num_heads=4, hidden_dim=64,
                       num_classes=10)  # fmt: skip
    model = ViTForImageClassification(config, seed=1)
    optimizer = AdamW(model.parameters(), learning_rate=3e-3, weight_decay=0.0)
    random = np.random.default_rng(0)
    for _ in range(120):
        rows = random.choice(100, 50, replace=False)
        model.zero_grad()
        model.backward(cross_entropy(model(pixels[rows]), classes[rows])[1])
        optimizer.step()
    assert (model.eval()(pixels).argmax(-1) == classes).mean() >= 0.98


def test_dropout_is_there_where_the_config_says_so():
    model = ViTForImageClassification(replace(CONFIGS["plain"], dropout=0.5))
    pixels = draw(2, 2, 12, 12)
    assert not np.array_equal(model(pixels), model(pixels))
    model.eval()
    assert np.array_equal(model(pixels), model(pixels))


@pytest.mark.parametrize(("pixels", "error", "sentence"), [
    (np.zeros((2, 12, 12)), ValueError, r"shape \(2, 12, 12\); expected \(batch, channels"),
    (np.zeros((1, 2, 12, 12), int), TypeError, "dtype int64; expected floats"),
    (np.zeros((1, 3, 12, 12)), ValueError, "has 3 channels"),
    (np.full((1, 2, 12, 12), np.nan), ValueError, r"holds nan at \(0, 0, 0, 0\)"),
    (np.zeros((1, 2, 12, 10)), ValueError, "12 × 10 pixels is no whole number"),
])  # fmt: skip
def test_bad_pictures_are_named(pixels, error, sentence):
    with pytest.raises(error, match=sentence):
        ViT(CONFIGS["plain"])(pixels)


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"patch_size": 5}, "patch_size=5 does not divide image_size=12"),
    ({"pooling": "max"}, "pooling='max' is unknown"),
    ({"labels": ("a",)}, "1 labels name 5 classes"),
])  # fmt: skip
def test_bad_configs_are_named(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(CONFIGS["plain"], **settings)
