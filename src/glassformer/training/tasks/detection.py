"""Objects in pictures, a class and a box each (Carion et al. 2020, "End-to-End Object Detection with Transformers")."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from glassformer.image.datasets import Record
from glassformer.image.draw import draw_boxes, draw_sheet
from glassformer.image.objects import Objects, centre_boxes
from glassformer.image.postprocess import Detections, sigmoid_detections, softmax_detections
from glassformer.image.processor import ImageProcessor
from glassformer.metrics.coco_ap import ap_of_classes, coco_ap
from glassformer.models.set_loss import OneClass, Targets
from glassformer.parts.batch_norm import thaw_batch_norm
from glassformer.training.batches import Batch
from glassformer.training.places import PlaceObjective, box_place_loss, check_place_weight, check_places
from glassformer.training.readers import Readers
from glassformer.training.tasks.heads import head_of
from glassformer.training.tasks.pictures import (
    ROOM,
    PictureTask,
    Seen,
    labelled,
    pictures_of,
    prepared,
    processor_of,
)
from glassformer.training.tasks.segments import check_flips_alone, flipped, whole
from glassformer.training.tasks.task import Measures, Prepared, Validation, own_loss

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

SHOWN = 24  # pictures on the sheet of predictions
SURE = 0.4  # what is drawn there


class ShownBoxes(Validation):
    """Pictures, and what the model finds in them; in the end each class's precision and a sheet too.

    Between two measures it tells `match_changes`: the share of objects that are now given to another query than the
    time before (Li et al. 2022, "DN-DETR", equation 6), among those of the first pictures.
    """

    more_in_the_end = True

    def __init__(self, pictures: Seen[Record], labels: tuple[str, ...], batch_size: int) -> None:
        self.pictures, self.labels, self.processor = pictures, labels, pictures.processor
        self.numbers = pictures.cut(batch_size)
        self.matched: Tensor | None = None

    def batches(self) -> Iterable[Batch]:
        return (detected(self.pictures.some(numbers), self.processor) for numbers in self.numbers)

    def keep(self, batch: Batch, output: Any) -> Any:
        """Logits and boxes, and what they were to be."""
        return output.logits.float(), output.pred_boxes.float(), batch.inputs["labels"]

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measures:
        found = [one for logits, boxes, _ in kept for one in detections(model, logits, boxes)]
        there = [relative(label) for _, _, labels in kept for label in labels]
        metrics = precision(found, there)
        if final:
            sheet = self.drawn(found, there, metrics["ap50"])
            said, true = ([self.in_pixels(i, one) for i, one in enumerate(each)] for each in (found, there))
            of_classes = ap_of_classes(said, true, len(self.labels), kind="boxes")
            metrics |= coco_ap(said, true) | {f"ap {self.labels[number]}": ap for number, ap in of_classes.items()}
            return Measures(metrics=metrics, pictures={"predictions.png": sheet})
        matched = torch.cat([matches(model, *some) for some in kept])
        if self.matched is not None and len(self.matched) == len(matched):
            metrics["match_changes"] = (self.matched != matched).float().mean().item()
        self.matched = matched
        return Measures(metrics=metrics)

    def in_pixels(self, number: int, found: Detections | Objects) -> dict[str, Any]:
        """What is in a picture, in its own pixels: there are small and large objects."""
        rows, columns = self.pictures[number].picture.shape[1:]
        return {**vars(found), "boxes": found.boxes * found.boxes.new_tensor([columns, rows] * 2)}

    def drawn(self, found: Sequence[Detections], there: Sequence[Objects], ap50: float) -> Tensor:
        """The first pictures, with what was found in them."""
        cells, said = [], []
        for i, (one, objects) in enumerate(islice(zip(found, there, strict=True), SHOWN)):
            picture = self.pictures[i].picture
            scale = torch.tensor([picture.shape[2], picture.shape[1]] * 2)
            sure = one.scores >= SURE
            cells.append(draw_boxes(picture, one.boxes[sure] * scale, one.classes[sure], labels=self.labels,
                                    scores=one.scores[sure]))  # fmt: skip
            said.append(f"{int(sure.sum())} found, {len(objects)} there")
        title = (
            f"what is found with {SURE} or more, in the first {len(cells)} of {len(found):,} pictures: AP50 {ap50:.3f}"
        )
        return draw_sheet(cells, said, title=title, columns=6, cell=240)


@dataclass(frozen=True, kw_only=True)
class Detection(PictureTask):
    """A detector learns where things are and what; the baseline gives each picture the objects of another one.

    learn_norms   the backbone's batch norms measure their batches and learn, as training from scratch wants; they are
                  frozen again in what is saved
    place_weight  of the loss of every place of the picture, beside the queries' (see `training.places`)
    """

    learn_norms: bool = False
    place_weight: float | None = None

    metric: ClassVar[str] = "ap"

    def __post_init__(self) -> None:
        check_place_weight(self.place_weight)

    def check(self, recipe: "Recipe") -> None:
        check_flips_alone(recipe)

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        processor, flip = processor_of(recipe, readers), recipe.pictures.augment.flip
        pictures = labelled(recipe, pictures_of(recipe, "detection")).each(lambda part: whole(part, processor, ROOM))
        return prepared(
            recipe,
            pictures,
            make=lambda records, random: detected(flipped(records, flip, random), processor),
            validation=ShownBoxes,
            baseline=lambda part: unseen(pictures.train, part),
            objective=PlaceObjective(box_place_loss, self.place_weight) if self.place_weight else own_loss,
        )

    def build(self, config: Any) -> Any:
        model = head_of(config, "object_detection")
        if self.learn_norms:
            thaw_batch_norm(model)
        if self.place_weight:
            check_places(model)
        return model


def detected(records: Sequence[Record], processor: ImageProcessor) -> Batch:
    """The batch of some records; a mask of pixels only where some are padding.

    Boxes are in parts of their own pictures: Hugging Face's processors count them in parts of the padded one, which a
    detector, whose places are counted on the picture alone, cannot know.
    """
    objects = [one.objects for one in records if one.objects is not None]
    inputs = processor([one.picture for one in records], objects=objects)
    for label, one in zip(inputs["labels"], records, strict=True):
        assert one.objects is not None
        label["boxes"] = centre_boxes(one.objects.boxes, one.picture.shape[1:])
    if "pixel_mask" in inputs and inputs["pixel_mask"].all():
        del inputs["pixel_mask"]
    return Batch(inputs=inputs, target="labels", units=len(records))


def relative(label: dict[str, Tensor]) -> Objects:
    """What is asked of a picture, its boxes' corners in parts of the picture."""
    centre, extent = label["boxes"].split(2, dim=1)
    return Objects(classes=label["class_labels"], boxes=torch.cat([centre - extent / 2, centre + extent / 2], dim=1))


def detections(model: Any, logits: Tensor, boxes: Tensor) -> list[Detections]:
    """All that a detector says of some pictures, sure or not, corners in parts of the picture."""
    read = softmax_detections if isinstance(model.criterion.classes, OneClass) else sigmoid_detections
    return read(logits, boxes, [(1, 1)] * len(logits), threshold=0.0)


def matches(model: Any, logits: Tensor, boxes: Tensor, labels: Sequence[dict[str, Tensor]]) -> Tensor:
    """The query to which each object of some pictures is given; −1 where there are more objects than queries."""
    targets = Targets.of(labels, len(logits), model.config.num_classes, boxes)
    query, which = model.criterion.match(logits, boxes, targets)
    return torch.full((len(targets.classes),), -1).index_put((which,), query)


def precision(found: Sequence[Detections], there: Sequence[Objects]) -> dict[str, float]:
    """AP, AP50 and AP75 of all classes."""
    measured = coco_ap([vars(one) for one in found], [vars(one) for one in there])
    return {name: measured[name] for name in ("ap", "ap50", "ap75")}


def unseen(train: Seen[Record], pictures: Seen[Record], most: int = 500) -> dict[str, float]:
    """What is reached without looking: each picture is said to hold what another one does, of those to learn from."""
    count = min(len(pictures), len(train), most)
    guesses, there = ([one for one in part.some(range(count)) if one.objects is not None] for part in (train, pictures))
    found = [Detections(scores=torch.ones(len(one.objects)), classes=one.objects.classes, boxes=one.objects.boxes)
             for one in guesses if one.objects is not None]  # fmt: skip
    return precision(found, [one.objects for one in there if one.objects is not None])
