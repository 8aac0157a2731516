"""Drawing what is hidden of a clip (Tong et al. 2022, "VideoMAE: Masked Autoencoders Are Data-Efficient Learners")."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from glassformer.image.processor import ImageProcessor
from glassformer.models.catalog import family_of
from glassformer.models.videomae import VideoMAE, tubes
from glassformer.models.videomae_config import VideoMAEConfig
from glassformer.training.batches import Batch
from glassformer.training.readers import Readers
from glassformer.training.tasks.augmented import augmented, check_not_mixed
from glassformer.training.tasks.clips import clips_of, draw_clips, framed
from glassformer.training.tasks.pictures import PictureTask, Seen, prepared, processor_of, stacked
from glassformer.training.tasks.task import Measures, Prepared, Validation
from glassformer.video.datasets import ClipRecord

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

SHOWN = 4  # clips on the sheet, each three times


class HiddenClips(Validation):
    """Clips of which the same tubes are hidden each time; in the end a sheet of what was drawn."""

    more_in_the_end = True

    def __init__(
        self, clips: Seen[ClipRecord], config: VideoMAEConfig, ratio: float, *, batch_size: int, seed: int
    ) -> None:
        self.clips, self.config, self.ratio, self.seed = clips, config, ratio, seed
        self.numbers = clips.cut(batch_size)
        self._spread: float | None = None

    def batches(self) -> Iterable[Batch]:
        return map(self.batch, self.numbers)

    def batch(self, numbers: Iterable[int]) -> Batch:
        """The clips of these numbers; what is hidden of them depends on the first."""
        numbers = list(numbers)
        random = np.random.default_rng([self.seed, int(numbers[0])])
        return hidden(stacked(self.clips.some(numbers)), self.config, self.ratio, self.clips.processor, random)

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measures:
        """`explained`: the part of the hidden pixels' spread about their clip's mean that is drawn."""
        if self._spread is None:
            self._spread = float(np.mean([spread(model, batch) for batch in self.batches()]))
        pictures = {"predictions.png": self.drawn(model)} if final else {}
        return Measures(metrics={"explained": 1 - loss / self._spread}, pictures=pictures)

    def drawn(self, model: VideoMAE) -> Tensor:
        """Some clips, below each what of it was read, and what was drawn."""
        batch, processor = self.batch(self.numbers[0][:SHOWN]), self.clips.processor
        device = next(model.parameters()).device
        pixels, mask = (batch.inputs[name].to(device) for name in ("pixel_values", "bool_masked_pos"))
        with torch.no_grad():
            drawn = model(pixels, mask).logits
        shown = [pixels, model.fill_in(pixels, mask, torch.zeros_like(drawn)), model.fill_in(pixels, mask, drawn)]
        rows = [(processor.pixels(each.cpu()).clamp(0, 1) * 255).round().to(torch.uint8) for each in shown]
        names = ("clip", "what is read", "drawn")
        title = f"{self.ratio:.0%} of the places hidden, at all times, and drawn again"
        return draw_clips([(name, row[i]) for i in range(len(pixels)) for name, row in zip(names, rows, strict=True)],
                          title=title)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MaskedVideo(PictureTask):
    """A masked autoencoder learns from clips without labels; the baseline draws each tubelet's mean.

    `mask_ratio` of the places are hidden, each at all times (the paper's 0.9 is for 14 × 14 places).
    """

    mask_ratio: float = 0.9
    unit: ClassVar[str] = "clips"
    found_in_data: ClassVar[tuple[str, ...]] = ()

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        processor, augment = processor_of(recipe, readers), recipe.pictures.augment
        config, ratio, seed = self.config_of(recipe.model), self.mask_ratio, recipe.training.seed
        tubes(config, 1, ratio)  # raises where nothing could be hidden, before anything is read
        unlabelled = replace(clips_of(recipe), labels=())

        def make(records: list[ClipRecord], random: np.random.Generator) -> Batch:
            return hidden(augmented(stacked(records), augment, random), config, ratio, processor, random)

        return prepared(
            recipe,
            unlabelled.each(lambda part: framed(part, processor, config.num_frames)),
            make=make,
            validation=lambda part, _, size: HiddenClips(part, config, ratio, batch_size=size, seed=seed),
            baseline=lambda _: {"explained": 0.0},
        )

    def build(self, config: Any) -> VideoMAE:
        return VideoMAE(self.config_of(config))

    def config_of(self, config: Any) -> VideoMAEConfig:
        """The model's settings. ValueError for a model that draws no clips."""
        if not isinstance(config, VideoMAEConfig):
            raise ValueError(f"name is {family_of(config)!r}, which draws no clips; 'videomae' does")
        return config

    def check(self, recipe: "Recipe") -> None:
        check_not_mixed(recipe)

    def next_command(self, folder: Path) -> str:
        return f"glassformer train videomae_motion --init.from {folder}/model"


def hidden(
    clips: Tensor, config: VideoMAEConfig, ratio: float, processor: ImageProcessor, random: np.random.Generator
) -> Batch:
    """Clips, bytes or floats in [0, 1], and which of their tubelets are hidden."""
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    masks = tubes(config, len(clips), ratio, generator)
    inputs = {"pixel_values": processor.normalised(clips), "bool_masked_pos": masks}
    return Batch(inputs=inputs, target="pixel_values", units=len(clips))


def spread(model: VideoMAE, batch: Batch) -> float:
    """The mean squared distance of the hidden tubelets' targets from their mean."""
    device = next(model.parameters()).device
    target = model.target(batch.inputs["pixel_values"].to(device))[batch.inputs["bool_masked_pos"].to(device)]
    target = target - (0 if model.config.normalized_pixels else target.mean())
    return float(target.square().mean())
