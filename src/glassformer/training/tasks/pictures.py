"""What the tasks share that learn from pictures, or clips: where these come from, which classes they have, at what
size they are seen."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from glassformer.foundation.suggest import did_you_mean
from glassformer.image.datasets import PictureSet, Record, Records, load_pictures, put_aside
from glassformer.image.objects import Objects
from glassformer.image.processor import IGNORED_CLASS, ImageProcessor
from glassformer.image.processor_file import FAMILIES
from glassformer.models import catalog
from glassformer.training.batches import Batch, ExampleLoader, Rows
from glassformer.training.readers import Readers
from glassformer.training.settings import is_default
from glassformer.video.datasets import ClipRecord, ClipSet

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe


@dataclass(frozen=True)
class Parts:
    """Pictures or clips to learn from, to choose by, and to look at once, in the end, if there are such."""

    name: str
    labels: tuple[str, ...]
    train: Records[Any, Any]
    validation: Records[Any, Any]
    test: Records[Any, Any]
    unit: str

    def __str__(self) -> str:
        said = f"{self.name}: {len(self.train):,} {self.unit}, {len(self.validation):,} more to validate on"
        return f"{said}, {len(self.test):,} to test on" if len(self.test) else said

    def named(self, labels: Sequence[str]) -> "Parts":
        """The same with the classes' numbers in `labels`, among which are all of theirs."""
        number = numbers_by_name(self.name, self.labels, labels)
        train, validation, test = (renumbered(part, number) for part in (self.train, self.validation, self.test))
        return replace(self, labels=tuple(labels), train=train, validation=validation, test=test)


def pictures_of(recipe: "Recipe", kind: str) -> Parts:
    """The pictures that the recipe names, with what the kind says of them (see `glassformer.image.load_pictures`)."""
    return parts_of(recipe, load_pictures(recipe.pictures.source, kind, seed=recipe.pictures.split), "pictures")


def parts_of(recipe: "Recipe", found: PictureSet | ClipSet, unit: str) -> Parts:
    """The parts of what was found; what [data] test puts aside is drawn from that which is there to learn from.

    Raises ValueError where nothing is there to learn from, and where there is a part to test on already.
    """
    data = recipe.pictures
    train, validation, test = (as_records(part) for part in (found.train, found.validation, found.test))
    if not len(train):
        raise ValueError(f"{found.name} has no {unit} to learn from")
    if data.test:
        if len(test):
            raise ValueError(
                f"[data] test={data.test} puts {unit} aside, and {found.name} has {len(test):,} to test on"
            )
        kept, put_by = put_aside(train.entries, [0] * len(train), data.test, data.split + 1)
        train, test = Records(kept, train.read), Records(put_by, train.read)
    return Parts(found.name, found.labels, train, validation, test, unit)


def as_records(pictures: Sequence[Any]) -> Records[Any, Any]:
    """Pictures, or clips, as what is read by its entry."""
    return pictures if isinstance(pictures, Records) else Records(range(len(pictures)), pictures.__getitem__)


def renumbered(records: Records[Any, Any], numbers: Sequence[int]) -> Records[Any, Any]:
    """Records whose class i is called `numbers[i]`, as the model has it: of the whole, its objects, its pixels."""
    if list(numbers) == list(range(len(numbers))):
        return records
    table = torch.tensor([*numbers, *[IGNORED_CLASS] * (IGNORED_CLASS + 1 - len(numbers))])  # also: nobody's pixels

    def read(entry: Any) -> Record | ClipRecord:
        record: Record | ClipRecord = records.read(entry)
        said: dict[str, Any] = {} if record.label is None else {"label": numbers[record.label]}
        if isinstance(record, Record) and (objects := record.objects) is not None:
            said["objects"] = Objects(classes=table[objects.classes], boxes=objects.boxes, masks=objects.masks)
        if isinstance(record, Record) and record.semantic is not None:
            said["semantic"] = table[record.semantic.long()].byte()
        return replace(record, **said)

    return Records(records.entries, read)


def numbers_by_name(source: str, labels: Sequence[str], names: Sequence[str]) -> list[int]:
    """The place of each of a source's classes among the model's. Raises ValueError for one that the model lacks."""
    for label in labels:
        if label not in names:
            raise ValueError(
                f"{source} has the class {label!r}, which the model does not know{did_you_mean(label, names)}"
            )
    return [names.index(label) for label in labels]


ROOM = 1 << 29  # bytes of resized pictures that are kept in memory


def processor_of(recipe: "Recipe", readers: Readers) -> ImageProcessor:
    """The processor that there is already, else one for the model's family and the size that the recipe names.

    Raises ValueError where neither [data] nor the model says the size.
    """
    if readers.processor is not None:
        return readers.processor
    config: Any = recipe.model
    size = recipe.pictures.image_size or getattr(config, "image_size", None)
    if size is None:
        raise ValueError("[data] image_size is not given: how many pixels of a side shall the model see?")
    model_type = catalog.MODELS[catalog.family_of(config)].config_table.model_type
    family = next((name for name, each in FAMILIES.items() if model_type in each.models), "vit")
    return ImageProcessor(size=(size, size), family=family)


def classes_of(recipe: "Recipe", pictures: Parts) -> tuple[str, ...]:
    """The classes' names: the model's own where the pictures' are among them, else the pictures'.

    Raises ValueError where [model] asks for others, or for another number, and [init] does not bring them.
    """
    config: Any = recipe.model
    said, count = config.labels, config.num_classes
    if said is not None and set(pictures.labels) <= set(said):
        return said
    if recipe.init.source is None:
        if said is not None:
            strange = min(set(pictures.labels) - set(said))
            raise ValueError(f"{pictures.name} has the class {strange!r}, which is not among the [model] labels")
        if not is_default(config, "num_classes") and count != len(pictures.labels):
            raise ValueError(f"[model] num_classes={count}, but {pictures.name} has {len(pictures.labels)} classes")
    return pictures.labels


class Seen:
    """Records with their pictures at the size that the model sees them in, each read when it is first asked for.

    They stay in memory as far as there is room, so that files are decoded once.
    """

    def __init__(self, records: Records[Any, Record], processor: ImageProcessor, room: int = ROOM) -> None:
        self.records, self.processor, self.room = records, processor, room
        self.kept: dict[int, Record] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Record:
        found = self.kept.get(number)
        if found is None:
            record = self.records[number]
            found = replace(record, picture=self.processor.resized(record.picture))
            if found.picture.nbytes <= self.room:
                self.room -= found.picture.nbytes
                self.kept[number] = found
        return found

    def some(self, numbers: Iterable[Any]) -> list[Record]:
        """Some of them."""
        return [self[int(number)] for number in numbers]


def rows_at_once(processor: ImageProcessor, batch_size: int) -> int:
    """How many pictures make a batch to be measured on: one where they differ in size as the model sees them."""
    return batch_size if processor.one_size else 1


def stacked(records: Sequence[Record]) -> UInt8[Tensor, "b 3 y x"]:
    """The pictures of records that are of one size."""
    return torch.stack([record.picture for record in records])


def labels_of(records: Sequence[Record | ClipRecord]) -> Int[Tensor, "b"]:
    """The classes of records that have one each."""
    return torch.tensor([record.label for record in records])


def classified(pictures: Tensor, labels: Tensor, processor: ImageProcessor) -> Batch:
    """The batch of pictures or clips of the model's size, bytes or floats in [0, 1], and their classes."""
    inputs = {"pixel_values": processor.normalised(pictures), "labels": labels}
    return Batch(inputs=inputs, target="labels", units=len(pictures))


def loader_of(
    recipe: "Recipe", pictures: Seen, make: Callable[[list[Record], np.random.Generator], Batch]
) -> Rows[NDArray[np.int64]]:
    """Training batches of pictures, each once in an epoch in a new order: `make(records, random)`."""
    numbers: ExampleLoader[NDArray[np.int64]] = ExampleLoader(
        [1] * len(pictures),
        lambda numbers: numbers,
        batch_size=recipe.data.batch_size,
        seed=recipe.training.seed,
        content=list(map(str, pictures.records.entries)),  # a resumed run must have the same
    )
    return Rows(numbers, lambda some, random: make(pictures.some(some), random))
