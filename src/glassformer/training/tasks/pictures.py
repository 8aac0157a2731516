"""What the tasks share that learn from pictures: where these come from, at what size, how they differ each time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from glassformer.image.datasets import Record, Records, load_pictures, put_aside
from glassformer.image.processor import ImageProcessor
from glassformer.image.processor_file import FAMILIES
from glassformer.image.transforms import PictureBatch
from glassformer.models import catalog
from glassformer.training.batches import Batch, ExampleLoader, Rows
from glassformer.training.data import Augmentation
from glassformer.training.readers import Readers
from glassformer.training.settings import is_default

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe


@dataclass(frozen=True)
class Parts:
    """Pictures to learn from, to choose by, and to look at once, in the end; none where the recipe puts none aside."""

    name: str
    labels: tuple[str, ...]
    train: Records[Any, Record]
    validation: Records[Any, Record]
    test: Records[Any, Record]

    def __str__(self) -> str:
        said = f"{self.name}: {len(self.train):,} pictures, {len(self.validation):,} more to validate on"
        return f"{said}, {len(self.test):,} to test on" if len(self.test) else said


def pictures_of(recipe: "Recipe", kind: str) -> Parts:
    """The pictures that the recipe names, with what the kind says of them (see `glassformer.image.load_pictures`).

    The test part is drawn from those that are there to learn from.
    """
    data = recipe.pictures
    found = load_pictures(data.source, kind, seed=data.split)
    train, validation = (as_records(part) for part in (found.train, found.validation))
    kept, put_by = train.entries, ()
    if data.test:
        kept, put_by = put_aside(train.entries, [0] * len(train), data.test, data.split + 1)
    return Parts(found.name, found.labels, Records(kept, train.read), validation, Records(put_by, train.read))


def as_records(pictures: Sequence[Record]) -> Records[Any, Record]:
    """Pictures as what is read by its entry."""
    return pictures if isinstance(pictures, Records) else Records(range(len(pictures)), pictures.__getitem__)


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


def changed(batch: PictureBatch, augment: Augmentation, random: np.random.Generator) -> PictureBatch:
    """The batch as it is seen this time, with the objects and maps that are known of it."""
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    for transform in augment.transforms():
        batch = transform(batch, generator)
    return batch


def augmented(
    pictures: UInt8[Tensor, "b 3 y x"], augment: Augmentation, random: np.random.Generator
) -> Float[Tensor, "b 3 y x"]:
    """Pictures alone as they are seen this time, in [0, 1]."""
    return changed(PictureBatch(pictures=pictures.float() / 255), augment, random).pictures


def stacked(records: Sequence[Record]) -> UInt8[Tensor, "b 3 y x"]:
    """The pictures of records that are of one size."""
    return torch.stack([record.picture for record in records])


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
