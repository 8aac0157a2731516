"""What the tasks share that learn from pictures, or clips: where these come from, which classes they have, at what
size they are seen."""

from abc import ABC
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from glassformer.foundation.suggest import did_you_mean
from glassformer.image.datasets import PictureSet, Record, Records, load_pictures, put_aside
from glassformer.image.objects import Objects
from glassformer.image.processor import IGNORED_CLASS, ImageProcessor
from glassformer.image.processor_file import FAMILIES
from glassformer.models import catalog
from glassformer.training.batches import Batch, ExampleLoader, Rows, cut
from glassformer.training.data import Pictures
from glassformer.training.readers import Readers
from glassformer.training.settings import is_default
from glassformer.training.tasks.task import Objective, Prepared, Task, Validation, own_loss
from glassformer.video.datasets import ClipRecord, ClipSet

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe


R = TypeVar("R", Record, ClipRecord)
ROOM = 1 << 29  # bytes of pictures that are kept in memory


@dataclass(frozen=True, kw_only=True)
class PictureTask(Task, ABC):
    """A task that learns from pictures, or clips."""

    data: ClassVar[type] = Pictures
    reads: ClassVar[tuple[str, ...]] = ("processor",)
    unit: ClassVar[str] = "pictures"
    found_in_data: ClassVar[tuple[str, ...]] = ("labels", "num_classes")

    def flops_per_unit(self, model: Any, recipe: "Recipe") -> None:
        """Not known of every model that looks at pictures."""

    def next_command(self, folder: Path) -> str:
        return f"glassformer predict --model {folder} PICTURE.png"


class Seen(Generic[R]):
    """Records as the model sees them: each is read, and `view` of it taken, when it is first asked for.

    They stay in memory as far as there is room, so that files are decoded once.
    """

    def __init__(
        self, records: Records[Any, R], processor: ImageProcessor, view: Callable[[R], R], room: int = ROOM
    ) -> None:
        self.records, self.processor, self.view, self.room = records, processor, view, room
        self.kept: dict[int, R] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> R:
        found = self.kept.get(number)
        if found is None:
            found = self.view(self.records[number])
            if (size := pixels_of(found).nbytes) <= self.room:
                self.room -= size
                self.kept[number] = found
        return found

    def some(self, numbers: Iterable[Any]) -> list[R]:
        """Some of them."""
        return [self[int(number)] for number in numbers]

    def cut(self, batch_size: int) -> list[NDArray[np.int64]]:
        """All numbers in batches to be measured on; one by one where pictures differ in size as the model sees them."""
        return cut(np.arange(len(self)), batch_size if self.processor.one_size else 1)


def resized(records: Records[Any, Record], processor: ImageProcessor, room: int = ROOM) -> Seen[Record]:
    """Records with their pictures at the size that the model sees them in."""
    return Seen(records, processor, lambda one: replace(one, picture=processor.resized(one.picture)), room)


P = TypeVar("P", bound=Sized)
Q = TypeVar("Q", bound=Sized)


@dataclass(frozen=True)
class Parts(Generic[P]):
    """Pictures or clips to learn from, to choose by, and to look at once, in the end, if there are such.

    `labels` are the names of their classes; of those whose classes nobody asks for there are none.
    """

    name: str
    labels: tuple[str, ...]
    train: P
    validation: P
    test: P
    unit: str

    def __str__(self) -> str:
        train, validation, test = (len(part) for part in (self.train, self.validation, self.test))
        said = f"{self.name}: {train:,} {self.unit}, {validation:,} more to validate on"
        said += f", {test:,} to test on" if test else ""
        return f"{said}, of {len(self.labels)} classes" if self.labels else said

    def each(self, change: Callable[[P], Q]) -> "Parts[Q]":
        """The same with each part changed."""
        train, validation, test = (change(part) for part in (self.train, self.validation, self.test))
        return Parts(self.name, self.labels, train, validation, test, self.unit)


def prepared(
    recipe: "Recipe",
    pictures: Parts[Seen[R]],
    make: Callable[[list[R], np.random.Generator], Batch],
    validation: Callable[[Seen[R], tuple[str, ...], int], Validation],
    baseline: Callable[[Seen[R]], Mapping[str, float]],
    objective: Objective = own_loss,
) -> Prepared:
    """What a task learns from.

    Args:
        make: the batch of some records, drawn anew each time that they are seen.
        validation: how a part is gone through, with the names of the classes, in batches of this size.
        baseline: what something simple reaches on a part.
    """
    train, held_out, test = pictures.train, pictures.validation, pictures.test
    labels, size = pictures.labels, recipe.evaluation.batch_size
    return Prepared(
        readers=Readers(processor=train.processor),
        batches=loader_of(recipe, train, make),
        validation=validation(held_out, labels, size),
        data=str(pictures),
        objective=objective,
        settings={"labels": labels, "num_classes": len(labels)} if labels else {},
        baseline=baseline(held_out),
        test=validation(test, labels, size) if len(test) else None,
        test_baseline=baseline(test) if len(test) else {},
    )


def pictures_of(recipe: "Recipe", kind: str) -> Parts[Records[Any, Any]]:
    """The pictures that the recipe names, with what the kind says of them (see `glassformer.image.load_pictures`)."""
    return parts_of(recipe, load_pictures(recipe.pictures.source, kind, seed=recipe.pictures.split), "pictures")


def parts_of(recipe: "Recipe", found: PictureSet | ClipSet, unit: str) -> Parts[Records[Any, Any]]:
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


def labelled(recipe: "Recipe", pictures: Parts[Records[Any, Any]]) -> Parts[Records[Any, Any]]:
    """The pictures, their classes named and numbered as the model has them."""
    labels = classes_of(recipe, pictures)
    numbers = numbers_by_name(pictures.name, pictures.labels, labels)
    return replace(pictures.each(lambda part: renumbered(part, numbers)), labels=labels)


def classes_of(recipe: "Recipe", pictures: Parts[Any]) -> tuple[str, ...]:
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


def pixels_of(record: Record | ClipRecord) -> UInt8[Tensor, "*t 3 y x"]:
    """A record's picture, or its clip."""
    return record.picture if isinstance(record, Record) else record.clip


def stacked(records: Sequence[Record | ClipRecord]) -> UInt8[Tensor, "b *t 3 y x"]:
    """The pictures, or the clips, of records that are of one size."""
    return torch.stack([pixels_of(record) for record in records])


def loader_of(
    recipe: "Recipe", pictures: Seen[R], make: Callable[[list[R], np.random.Generator], Batch]
) -> Rows[NDArray[np.int64]]:
    """Training batches of pictures or clips, each once in an epoch in a new order: `make(records, random)`."""
    numbers: ExampleLoader[NDArray[np.int64]] = ExampleLoader(
        [1] * len(pictures),
        lambda numbers: numbers,
        batch_size=recipe.data.batch_size,
        seed=recipe.training.seed,
        content=list(map(str, pictures.records.entries)),  # a resumed run must have the same
    )
    return Rows(numbers, lambda some, random: make(pictures.some(some), random))
