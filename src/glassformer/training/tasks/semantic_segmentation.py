"""A class for each pixel (Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation")."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from glassformer.image.datasets import Record
from glassformer.image.draw import draw_sheet
from glassformer.image.postprocess import semantic_maps
from glassformer.image.processor import ImageProcessor
from glassformer.metrics.segmentation import UNLABELLED, class_ious, mean_iou, pixel_accuracy, pixel_counts
from glassformer.training.batches import Batch
from glassformer.training.readers import Readers
from glassformer.training.tasks.heads import head_of
from glassformer.training.tasks.pictures import (
    PictureTask,
    Seen,
    labelled,
    pictures_of,
    prepared,
    processor_of,
)
from glassformer.training.tasks.segments import SHOWN, check_flips_alone, coloured, flipped, whole
from glassformer.training.tasks.task import Measures, Prepared, Validation

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

COUNTED = 500  # pictures in which the commonest class is looked for


class ShownMaps(Validation):
    """Pictures, each with the class that the model finds most probable at each pixel; in the end a sheet of some."""

    more_in_the_end = True

    def __init__(self, pictures: Seen[Record], labels: tuple[str, ...], batch_size: int) -> None:
        self.pictures, self.labels, self.processor = pictures, labels, pictures.processor
        self.numbers = pictures.cut(batch_size)
        self.room = SHOWN

    def batches(self) -> Iterable[Batch]:
        self.room = SHOWN
        return (mapped(self.pictures.some(numbers), self.processor) for numbers in self.numbers)

    def keep(self, batch: Batch, output: Any) -> tuple[Any, list[Tensor], list[Tensor]]:
        """How often each class was taken for each; and of the first pictures what is said, and what is there."""
        there = batch.inputs["labels"].cpu()
        said = [each.cpu() for each in semantic_maps(output.logits.float(), [tuple(there.shape[1:])] * len(there))]
        counts = pixel_counts([each.numpy() for each in said], list(there.numpy()), len(self.labels))
        shown, self.room = min(len(said), self.room), self.room - min(len(said), self.room)
        return counts, said[:shown], list(there[:shown])

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measures:
        counts = np.sum([each[0] for each in kept], axis=0)
        metrics = {"mean_iou": mean_iou(counts), "pixel_accuracy": pixel_accuracy(counts)}
        if not final:
            return Measures(metrics=metrics)
        for label, iou in zip(self.labels, class_ious(counts), strict=True):
            metrics |= {} if iou is None else {f"iou {label}": iou}
        said, there = ([one for each in kept for one in each[place]] for place in (1, 2))
        return Measures(metrics=metrics, pictures={"predictions.png": self.drawn(said, there, metrics["mean_iou"])})

    def drawn(self, said: Sequence[Tensor], there: Sequence[Tensor], mean: float) -> Tensor:
        """The first pictures, each beside its classes as they are and as they are found."""
        pictures, captions = [], []
        for i, (found, true) in enumerate(zip(said, there, strict=True)):
            names = [self.labels[number] for number in true.unique().tolist() if number != UNLABELLED]
            own = mean_iou(pixel_counts([found.numpy()], [true.numpy()], len(self.labels)))
            pictures += [self.processor.resized(self.pictures.records[i].picture), coloured(true), coloured(found)]
            captions += ["picture", ", ".join(names[1:] or names), f"found: IoU {own:.2f}"]
        title = f"picture, what is there, what is found: mean IoU {mean:.3f} of {len(self.pictures):,} pictures"
        return draw_sheet(pictures, captions, title=title, columns=6, cell=136)


@dataclass(frozen=True, kw_only=True)
class SemanticSegmentation(PictureTask):
    """A model that looks at pictures learns the class of each pixel; the baseline says the commonest everywhere."""

    metric: ClassVar[str] = "mean_iou"

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        # Our maps number the classes by name; a released model's processor may shift its own maps' numbers.
        processor = replace(processor_of(recipe, readers), reduce_labels=False)
        pictures = labelled(recipe, pictures_of(recipe, "semantic")).each(lambda part: whole(part, processor))
        flip, num_classes = recipe.pictures.augment.flip, len(pictures.labels)
        common = commonest(pictures.train, num_classes)
        return prepared(
            recipe,
            pictures,
            make=lambda records, random: mapped(flipped(records, flip, random), processor),
            validation=ShownMaps,
            baseline=lambda part: everywhere(common, part, num_classes),
        )

    def build(self, config: Any) -> Any:
        return head_of(config, "semantic_segmentation")

    def check(self, recipe: "Recipe") -> None:
        check_flips_alone(recipe)


def mapped(records: Sequence[Record], processor: ImageProcessor) -> Batch:
    """The batch of some records that have maps."""
    maps = [record.semantic for record in records]
    out = processor([record.picture for record in records], semantic=maps)  # type: ignore[arg-type]
    inputs = {name: out[name] for name in ("pixel_values", "labels")}
    return Batch(inputs=inputs, target="labels", units=len(records), ignored=UNLABELLED)


def commonest(pictures: Seen[Record], num_classes: int) -> int:
    """The class of most pixels."""
    counts = np.zeros(num_classes, np.int64)
    for record in pictures.some(range(min(COUNTED, len(pictures)))):
        numbers = np.asarray(record.semantic).ravel()
        counts += np.bincount(numbers[numbers != UNLABELLED], minlength=num_classes)[:num_classes]
    return int(counts.argmax())


def everywhere(number: int, pictures: Seen[Record], num_classes: int) -> dict[str, float]:
    """What is reached by one class for every pixel."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    for record in pictures.some(range(len(pictures))):
        there = np.asarray(record.semantic)
        counts += pixel_counts([np.full_like(there, number)], [there], num_classes)
    return {"mean_iou": mean_iou(counts), "pixel_accuracy": pixel_accuracy(counts)}
