"""A mask and a class for each object, by models that predict sets of masks (Cheng et al. 2021, 2022)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from glassformer.image.datasets import Record
from glassformer.image.draw import draw_masks, draw_sheet
from glassformer.image.postprocess import instance_segments
from glassformer.image.processor import ImageProcessor, mask_labels
from glassformer.metrics.coco_ap import ap_of_classes, coco_ap, from_run_lengths, run_lengths
from glassformer.training.batches import Batch
from glassformer.training.places import PlaceObjective, check_place_weight, mask_place_loss
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
from glassformer.training.tasks.segments import SHOWN, check_flips_alone, flipped, whole
from glassformer.training.tasks.task import Measures, Prepared, Validation, own_loss

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

SURE = 0.5  # the score from which a mask is drawn
SHADES = 5  # of each colour, for the baseline
LEAST = 12  # pixels of a region that the baseline takes for an object


class ShownMasks(Validation):
    """Pictures, each with the masks that the model finds and their scores; in the end a sheet of some."""

    more_in_the_end = True

    def __init__(self, pictures: Seen[Record], labels: tuple[str, ...], batch_size: int) -> None:
        self.pictures, self.labels, self.processor = pictures, labels, pictures.processor
        self.numbers = pictures.cut(batch_size)

    def batches(self) -> Iterable[Batch]:
        return (masked(self.pictures.some(numbers), self.processor) for numbers in self.numbers)

    def keep(self, batch: Batch, output: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """What is found and what is there, for each picture."""
        there = batch.inputs["mask_labels"]
        size = tuple(batch.inputs["pixel_values"].shape[2:])
        found = instance_segments(
            output.class_queries_logits.float(), output.masks_queries_logits.float(), [size] * len(there),
            threshold=0.0, working_size=size,
        )  # fmt: skip
        said = [compact(each.classes, each.masks, scores=each.scores.cpu()) for each in found]
        true = [compact(classes, masks) for classes, masks in zip(batch.inputs["class_labels"], there, strict=True)]
        return list(zip(said, true, strict=True))

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measures:
        said, there = zip(*(pair for pairs in kept for pair in pairs), strict=True)
        metrics = mask_ap(said, there)
        if not final:
            return Measures(metrics=metrics)
        pictures = {"predictions.png": self.drawn(said, there, metrics)}
        of_classes = ap_of_classes(said, there, len(self.labels), kind="masks")
        metrics |= {f"mask_ap {self.labels[number]}": ap for number, ap in of_classes.items()}
        return Measures(metrics=metrics, pictures=pictures)

    def drawn(
        self, said: Sequence[Mapping[str, Any]], there: Sequence[Mapping[str, Any]], metrics: Mapping[str, float]
    ) -> Tensor:
        """The first pictures, each with the masks that are there, beside those that are surer than not."""
        sheets, captions = [], []
        for i, (found, true) in enumerate(zip(said[:SHOWN], there, strict=False)):
            picture = self.processor.resized(self.pictures.records[i].picture)
            sure, size = found["scores"] >= SURE, tuple(picture.shape[1:])
            classes, scores = found["classes"][sure], found["scores"][sure]
            masks = [mask for mask, yes in zip(found["masks"], sure.tolist(), strict=True) if yes]
            sheets.append(draw_masks(picture, unpacked(true["masks"], size), true["classes"], labels=self.labels))
            sheets.append(draw_masks(picture, unpacked(masks, size), classes, labels=self.labels, scores=scores))
            captions += [f"there: {len(true['classes'])}", f"found: {len(scores)}"]
        title = (
            f"masks that are there, and found (above {SURE:g}): AP {metrics['mask_ap']:.3f} of {len(said):,} pictures"
        )
        return draw_sheet(sheets, captions, title=title, columns=4, cell=240)


@dataclass(frozen=True, kw_only=True)
class MaskSegmentation(PictureTask):
    """A model learns the objects of pictures by their masks; the baseline takes regions of one colour for objects.

    place_weight  of the loss of every place that the queries read, beside theirs (see `training.places`)
    """

    place_weight: float | None = None

    metric: ClassVar[str] = "mask_ap"

    def __post_init__(self) -> None:
        check_place_weight(self.place_weight)

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        processor, flip = replace(processor_of(recipe, readers), pad=True), recipe.pictures.augment.flip
        pictures = labelled(recipe, pictures_of(recipe, "instances")).each(lambda part: whole(part, processor))
        return prepared(
            recipe,
            pictures,
            make=lambda records, random: masked(flipped(records, flip, random), processor),
            validation=ShownMasks,
            baseline=lambda part: regions(part, processor),
            objective=PlaceObjective(mask_place_loss, self.place_weight) if self.place_weight else own_loss,
        )

    def build(self, config: Any) -> Any:
        return head_of(config, "universal_segmentation")

    def check(self, recipe: "Recipe") -> None:
        check_flips_alone(recipe)


def compact(classes: Tensor, masks: Tensor, **more: Any) -> dict[str, Any]:
    """Masks and their classes, to be kept: all pictures' are kept together, and a mask is large."""
    return {"classes": classes.cpu(), "masks": run_lengths(masks.cpu()), **more}


def unpacked(masks: Sequence[Mapping[str, Any]], size: tuple[int, ...]) -> Tensor:
    """Masks (m, y, x) of a picture of this size, which may have been padded: what lies beyond is cut off."""
    rows, columns = size
    return torch.from_numpy(from_run_lengths(masks, (rows, columns)))[:, :rows, :columns]


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


def regions(pictures: Seen[Record], processor: ImageProcessor) -> dict[str, float]:
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
