"""A mask and a class for each object, by models that predict sets of masks (Cheng et al. 2021, 2022)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from glassformer.image.datasets import Record
from glassformer.image.draw import draw_masks, draw_sheet
from glassformer.image.postprocess import instance_segments
from glassformer.image.processor import ImageProcessor, mask_labels
from glassformer.metrics.coco_ap import coco_ap
from glassformer.training.batches import Batch, cut
from glassformer.training.data import Pictures
from glassformer.training.readers import Readers
from glassformer.training.tasks.heads import head_of
from glassformer.training.tasks.pictures import Seen, classes_of, loader_of, pictures_of, processor_of
from glassformer.training.tasks.segments import SHOWN, check_flips_alone, flipped, whole
from glassformer.training.tasks.task import Measured, Prepared, Task, Validation

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

SURE = 0.5  # the score from which a mask is drawn
SHADES = 5  # of each colour, for the baseline
LEAST = 12  # pixels of a region that the baseline takes for an object


class Masks(Validation):
    """Pictures, each with the masks that the model finds and their scores; in the end a sheet of some."""

    more_in_the_end = True

    def __init__(self, pictures: Seen, labels: tuple[str, ...], processor: ImageProcessor, batch_size: int) -> None:
        self.pictures, self.labels, self.processor = pictures, labels, processor
        self.numbers = cut(np.arange(len(pictures)), batch_size)

    def batches(self) -> Iterable[Batch]:
        return (masked(self.pictures.some(numbers), self.processor) for numbers in self.numbers)

    def keep(self, batch: Batch, output: Any) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """What is found and what is there, for each picture."""
        there = batch.inputs["mask_labels"]
        size = tuple(batch.inputs["pixel_values"].shape[2:])
        found = instance_segments(
            output.class_queries_logits.float(), output.masks_queries_logits.float(), [size] * len(there),
            threshold=0.0, working_size=size,
        )  # fmt: skip
        said = [{"scores": each.scores, "classes": each.classes, "masks": each.masks} for each in found]
        classes = batch.inputs["class_labels"]
        true = [{"classes": of, "masks": masks.bool()} for of, masks in zip(classes, there, strict=True)]
        pairs = zip(said, true, strict=True)
        return [tuple({name: value.cpu() for name, value in each.items()} for each in pair) for pair in pairs]  # type: ignore[misc]

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measured:
        said, there = zip(*(pair for pairs in kept for pair in pairs), strict=True)
        metrics = mask_ap(said, there)
        pictures = {"predictions.png": self.drawn(said, there, metrics)} if final else {}
        return Measured(metrics=metrics, pictures=pictures)

    def drawn(
        self, said: Sequence[Mapping[str, Tensor]], there: Sequence[Mapping[str, Tensor]], metrics: Mapping[str, float]
    ) -> Tensor:
        """The first pictures, each with the masks that are there, beside those that are surer than not."""
        sheets, captions = [], []
        for i, (found, true) in enumerate(zip(said[:SHOWN], there, strict=False)):
            picture = self.processor.resized(self.pictures.records[i].picture)
            sure = found["scores"] >= SURE
            masks, classes, scores = (found[name][sure] for name in ("masks", "classes", "scores"))
            sheets.append(draw_masks(picture, true["masks"], true["classes"], labels=self.labels))
            sheets.append(draw_masks(picture, masks, classes, labels=self.labels, scores=scores))
            captions += [f"there: {len(true['classes'])}", f"found: {len(scores)}"]
        title = (
            f"masks that are there, and found (above {SURE:g}): AP {metrics['mask_ap']:.3f} of {len(said):,} pictures"
        )
        return draw_sheet(sheets, captions, title=title, columns=4, cell=240)


@dataclass(frozen=True, kw_only=True)
class MaskSegmentation(Task):
    """A model learns the objects of pictures by their masks; the baseline takes regions of one colour for objects."""

    data: ClassVar[type] = Pictures
    reads: ClassVar[tuple[str, ...]] = ("processor",)
    unit: ClassVar[str] = "pictures"
    metric: ClassVar[str] = "mask_ap"
    found_in_data: ClassVar[tuple[str, ...]] = ("labels", "num_classes")

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        pictures, processor = pictures_of(recipe, "instances"), replace(processor_of(recipe, readers), pad=True)
        labels = classes_of(recipe, pictures)
        if labels != pictures.labels:
            raise ValueError(f"[model] labels are {labels}; the objects of {pictures.name} are of {pictures.labels}")
        train, validation, test = (
            whole(part, processor) for part in (pictures.train, pictures.validation, pictures.test)
        )

        def make(records: list[Record], random: np.random.Generator) -> Batch:
            return masked(flipped(records, recipe.pictures.augment.flip, random), processor)

        size = recipe.evaluation.batch_size
        return Prepared(
            readers=Readers(processor=processor),
            batches=loader_of(recipe, train, make),
            validation=Masks(validation, labels, processor, size),
            data=f"{pictures}, of {len(labels)} classes",
            settings={"labels": labels, "num_classes": len(labels)},
            baseline=regions(validation, processor),
            test=Masks(test, labels, processor, size) if len(test) else None,
            test_baseline=regions(test, processor) if len(test) else {},
        )

    def build(self, config: Any) -> Any:
        return head_of(config, "universal_segmentation")

    def check(self, recipe: "Recipe") -> None:
        check_flips_alone(recipe)

    def flops_per_unit(self, model: Any, recipe: "Recipe") -> None:
        """Not known of every model that looks at pictures."""

    def next_command(self, folder: Path) -> str:
        return f"glassformer predict --model {folder} PICTURE.png"


def masked(records: Sequence[Record], processor: ImageProcessor) -> Batch:
    """The batch of some records that have objects with masks."""
    objects = [record.objects for record in records]
    out = processor([record.picture for record in records], objects=objects)  # type: ignore[arg-type]
    masks, classes = mask_labels(out["labels"])
    inputs = {"pixel_values": out["pixel_values"], "mask_labels": masks, "class_labels": classes}
    return Batch(inputs=inputs, target="class_labels", units=len(records))


def mask_ap(said: Sequence[Mapping[str, Tensor]], there: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """COCO's average precision of masks, by names that say so."""
    return {f"mask_{name}": value for name, value in coco_ap(said, there, kind="masks").items()}


def regions(pictures: Seen, processor: ImageProcessor) -> dict[str, float]:
    """What is reached without learning: regions of nearly one colour, the smaller the surer, of the first class.

    One class for all, as colours say nothing of it: so many classes, so much less is right.
    """
    from scipy.ndimage import label

    said, there = [], []
    for record in pictures.some(range(len(pictures))):
        batch = masked([record], processor)
        there.append({"classes": batch.inputs["class_labels"][0], "masks": batch.inputs["mask_labels"][0].bool()})
        picture = processor.pixels(batch.inputs["pixel_values"][0])
        shades = (picture * (SHADES - 1)).round().long()
        colours = (shades[0] * SHADES + shades[1]) * SHADES + shades[2]
        masks = []
        for colour in colours.unique():
            labelled: Any = label((colours == colour).numpy())
            masks += [torch.from_numpy(labelled[0] == i) for i in range(1, labelled[1] + 1)]
        masks = [mask for mask in masks if LEAST <= mask.sum() <= mask.numel() // 4]
        scores = torch.tensor([1 - float(mask.float().mean()) for mask in masks])
        kept = torch.stack(masks) if masks else torch.zeros(0, *colours.shape, dtype=torch.bool)
        said.append({"scores": scores, "classes": torch.zeros(len(masks), dtype=torch.long), "masks": kept})
    return mask_ap(said, there)
