"""Properties of detectors: padding is not read and moves nobody, queries and objects are sets; see `properties.py`."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from declaration import Declared
from properties import Outputs, Property, build, close, close_outputs, loss_and_gradients, rows, run, without_labels
from torch import Tensor


def of_queries(outputs: Outputs) -> Outputs:
    """The outputs without the encoder's, which has a row for each place of the grid, padding's unspecified."""
    return {name: value for name, value in outputs.items() if name != "encoder_last_hidden_state"}


def places_of_padding_are_not_read(case: Declared) -> None:
    """Whatever the backbone says of a place outside its picture, no output of a query notices."""
    model, inputs = build(case), without_labels(case, case.inputs())
    expected = of_queries(run(model, inputs))

    def other(_: Any, given: Any, grid: Tensor) -> Tensor:
        present = F.interpolate(inputs["pixel_mask"][None].double(), size=grid.shape[2:])[0].bool()
        assert not present.all()
        return torch.where(present[:, None], grid, grid.flip(1) + 3)

    with model.body.encoder.project.register_forward_hook(other):
        again = run(model, inputs)
    for name, value in expected.items():
        assert torch.equal(again[name], value), name


def a_picture_filled_up_is_the_picture_alone(case: Declared) -> None:
    """Behind a backbone that sees each place by itself, padding below and to the right changes no query's output."""
    model = build(case)
    stride, width = case.config.backbone.stride, case.config.backbone.dims[-1]
    picture = torch.randn(1, case.config.backbone.channels, 2 * stride, 3 * stride, dtype=torch.float64)
    mixed = torch.randn(width, picture.shape[1], dtype=torch.float64)

    def grids(pixels: Tensor) -> list[Tensor]:
        return [torch.einsum("bcyx,dc->bdyx", F.avg_pool2d(pixels, stride), mixed)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.body.encoder.backbone, "grids", grids)
        alone = of_queries(run(model, {"pixel_values": picture}))
        for more in ((stride, 0), (0, stride), (2 * stride, stride)):
            filled = F.pad(picture, (0, more[0], 0, more[1]), value=5.0)
            mask = F.pad(torch.ones(1, *picture.shape[2:]), (0, more[0], 0, more[1]))
            padded = of_queries(run(model, {"pixel_values": filled, "pixel_mask": mask}))
            close_outputs(padded, alone, 1e-12, f"padded by {more}")
            for dtype in (torch.bool, torch.int32):
                again = run(model, {"pixel_values": filled, "pixel_mask": mask.to(dtype)})
                assert torch.equal(again["logits"], run(model, {"pixel_values": filled, "pixel_mask": mask})["logits"])


def queries_are_a_set(case: Declared) -> None:
    """In another order they give the same predictions in that order."""
    model, inputs = build(case), without_labels(case, case.inputs())
    expected, order = of_queries(run(model, inputs)), torch.randperm(case.config.num_queries)
    with torch.no_grad():
        model.body.query_position.weight.copy_(model.body.query_position.weight[order])
    again = of_queries(run(model, inputs))
    close_outputs(again, {name: value[:, order] for name, value in expected.items()}, 1e-12, "in order")


def objects_are_a_set(case: Declared) -> None:
    """In another order they give the same loss and gradients, with more objects than queries too."""
    model, inputs = build(case), case.inputs()
    loss, gradients = loss_and_gradients(model, inputs)
    labels = []
    for label in inputs["labels"]:
        order = torch.randperm(len(label["boxes"]))
        labels.append({name: value[order] for name, value in label.items()})
    again, others = loss_and_gradients(model, inputs | {"labels": labels})
    close(again, loss, 1e-13, "loss")
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-10, atol=1e-11)


def pictures_without_objects_teach_classes_alone(case: Declared) -> None:
    """Their loss is finite, and asks nothing of boxes."""
    model, inputs = build(case), case.inputs()
    none = {"class_labels": torch.zeros(0, dtype=torch.long), "boxes": torch.zeros(0, 4)}
    loss, gradients = loss_and_gradients(model, inputs | {"labels": [none] * 3})
    assert loss.isfinite()
    assert loss > 0
    assert gradients["class_head.weight"].abs().max() > 0
    assert all((gradient == 0).all() for name, gradient in gradients.items() if name.startswith("box_head"))


def every_parameter_learns_but_those_of_the_first_self_attention(case: Declared) -> None:
    """The queries begin as zeros, so there all values are equal, and of that layer only the biases after it learn."""
    model = build(case)
    _, gradients = loss_and_gradients(model, case.inputs())
    dead = [name for name, gradient in gradients.items() if not (gradient.abs() > 1e-12).any()]
    first, blind = "body.decoder.blocks.0.attention", ("attention.key.bias", "attention.key_place.bias")
    assert not [name for name in dead if not name.startswith(f"{first}.") and not name.endswith(blind)]
    assert f"{first}.value.weight" in dead
    assert f"{first}.value.bias" not in dead


def learns_one_batch(case: Declared) -> None:
    """Some steps on pictures with fewer objects than queries drive the loss far down."""
    torch.manual_seed(0)
    model, inputs = case.build().train(), rows(case.inputs(batch=4), [0, 1, 3])
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(50):
        loss, _ = loss_and_gradients(model, inputs)
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0], (losses[0], losses[-1])


DETECTOR: list[Property] = [
    places_of_padding_are_not_read,
    a_picture_filled_up_is_the_picture_alone,
    queries_are_a_set,
    objects_are_a_set,
    pictures_without_objects_teach_classes_alone,
    every_parameter_learns_but_those_of_the_first_self_attention,
    learns_one_batch,
]
