"""Drawing what is hidden (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners")."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from glassformer.image.datasets import Record
from glassformer.image.draw import draw_sheet
from glassformer.image.processor import ImageProcessor
from glassformer.models.catalog import family_of
from glassformer.models.mae import MAE, MAEConfig
from glassformer.models.outputs import ReconstructionOutput
from glassformer.training.batches import Batch
from glassformer.training.readers import Readers
from glassformer.training.tasks.augmented import augmented, check_not_mixed
from glassformer.training.tasks.pictures import (
    PictureTask,
    Seen,
    pictures_of,
    prepared,
    processor_of,
    resized,
    stacked,
)
from glassformer.training.tasks.task import Measures, Prepared, Validation

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

SHOWN = 8  # pictures on the sheet, each three times


class HiddenPictures(Validation):
    """Pictures of which the same patches are hidden each time; in the end a sheet of what was drawn."""

    more_in_the_end = True

    def __init__(self, pictures: Seen[Record], patches: int, *, batch_size: int, seed: int) -> None:
        self.pictures, self.patches, self.seed = pictures, patches, seed
        self.numbers = pictures.cut(batch_size)
        self._spread: float | None = None

    def batches(self) -> Iterable[Batch]:
        return map(self.batch, self.numbers)

    def batch(self, numbers: Iterable[int]) -> Batch:
        numbers = list(numbers)
        random = np.random.default_rng([self.seed, int(numbers[0])])
        return hidden(stacked(self.pictures.some(numbers)), self.patches, self.pictures.processor, random)

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measures:
        """`explained`: the part of the hidden pixels' spread about the mean of the visible ones that is drawn."""
        if self._spread is None:
            self._spread = float(np.mean([spread(model, batch).mean().item() for batch in self.batches()]))
        drawn = {"predictions.png": self.drawn(model)} if final else {}
        return Measures(metrics={"explained": 1 - loss / self._spread}, pictures=drawn)

    def drawn(self, model: MAE) -> Tensor:
        """Some pictures, beside each what of it was read, and what was drawn."""
        batch, processor = self.batch(self.numbers[0][:SHOWN]), self.pictures.processor
        pixels = batch.inputs["pixel_values"].to(next(model.parameters()).device)
        with torch.no_grad():
            out: ReconstructionOutput = model(pixels, noise=batch.inputs["noise"].to(pixels.device))
        assert out.logits is not None
        grey = ReconstructionOutput(None, torch.zeros_like(out.logits), out.mask, out.ids_restore)
        shown = [pixels, model.fill_in(pixels, grey), model.fill_in(pixels, out)]
        rows = [processor.pixels(each.cpu()).clamp(0, 1) for each in shown]
        names = ("picture", "what is read", "drawn")
        pictures = [(row[i] * 255).round().to(torch.uint8) for i in range(len(pixels)) for row in rows]
        share = f"{model.config.mask_ratio:.0%}"
        title = f"{share} of the patches hidden, and drawn again"
        return draw_sheet(pictures, list(names) * len(pixels), title=title, columns=2 * len(names))


@dataclass(frozen=True, kw_only=True)
class Reconstruction(PictureTask):
    """A masked autoencoder learns from pictures without labels; the baseline is the mean of what is visible."""

    found_in_data: ClassVar[tuple[str, ...]] = ()

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        processor, augment = processor_of(recipe, readers), recipe.pictures.augment
        config: Any = recipe.model
        patches, seed = (config.image_size // config.patch_size) ** 2, recipe.training.seed
        unlabelled = replace(pictures_of(recipe, "classification"), labels=())

        def make(records: list[Record], random: np.random.Generator) -> Batch:
            return hidden(augmented(stacked(records), augment, random), patches, processor, random)

        return prepared(
            recipe,
            unlabelled.each(lambda part: resized(part, processor)),
            make=make,
            validation=lambda part, _, size: HiddenPictures(part, patches, batch_size=size, seed=seed),
            baseline=lambda _: {"explained": 0.0},
        )

    def build(self, config: Any) -> MAE:
        if not isinstance(config, MAEConfig):
            raise ValueError(f"name is {family_of(config)!r}, which draws nothing; 'mae' does")
        return MAE(config)

    def check(self, recipe: "Recipe") -> None:
        check_not_mixed(recipe)

    def next_command(self, folder: Path) -> str:
        return f"glassformer train mae_probe --init.from {folder}/model"


def hidden(pictures: Tensor, patches: int, processor: ImageProcessor, random: np.random.Generator) -> Batch:
    """Pictures, and a number for each of their patches: those with the largest are hidden."""
    noise = torch.from_numpy(random.random((len(pictures), patches), dtype=np.float32))
    inputs = {"pixel_values": processor.normalised(pictures), "noise": noise}
    return Batch(inputs=inputs, target="pixel_values", units=len(pictures))


def spread(model: MAE, batch: Batch) -> Tensor:
    """Of each picture, the mean squared distance of its hidden patches from the mean of the visible ones."""
    device = next(model.parameters()).device
    target, order = model.target(batch.inputs["pixel_values"].to(device)), batch.inputs["noise"].argsort(1).to(device)
    kept = int(target.shape[1] * (1 - model.config.mask_ratio))
    places = order[..., None].expand_as(target)
    visible, others = target.gather(1, places[:, :kept]), target.gather(1, places[:, kept:])
    return (others - visible.mean((1, 2), keepdim=True)).square().mean((1, 2))
