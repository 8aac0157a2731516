"""The [data] section: what a run learns from. Its kind is the task's, so that a recipe need not say it."""

from dataclasses import dataclass, field

from glassformer.image.transforms import (
    ColourJitter,
    CutMix,
    Mixup,
    OneOf,
    RandAugment,
    RandomAffine,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
    Transform,
)

SIZED = ("bpe", "wordpiece", "unigram")  # tokenizers that are trained to a size


@dataclass(frozen=True, kw_only=True)
class Texts:
    """[data] of a task that reads text. A batch has `batch_size` rows of `context` tokens, or of at most so many."""

    corpus: str = "python-docs"  # a name, a file, a folder, a glob, hf:NAME: see glassformer.text.load_corpus
    examples: str | None = None  # for tasks that learn from examples: see glassformer.text.load_examples
    tokenizer: str | None = None  # characters, bytes, bpe, ..., or a folder that holds one; none: [init]'s, characters
    vocab_size: int | None = None  # of a tokenizer that is trained to a size
    context: int = 128
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.tokenizer in SIZED and self.vocab_size is None:
            raise ValueError(f"tokenizer {self.tokenizer!r} needs a vocab_size, for example 1024")
        if self.tokenizer not in SIZED and self.vocab_size is not None:
            name = self.tokenizer or "characters"
            raise ValueError(f"vocab_size={self.vocab_size} has no meaning for the tokenizer {name!r}")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """[data.augment]: how a picture differs from one time that it is seen to the next; where all is 0 it does not.

    Each picture draws its own, and so does each clip, whose frames change alike. See `glassformer.image.transforms`.
    """

    crop: float = 0.0  # at least this part of its area is seen, made as large as it was; 0: all (Szegedy et al. 2015)
    shift: float = 0.0  # up to this part of its width and height
    rotate: float = 0.0  # up to so many degrees
    scale: float = 0.0  # from 1 - scale to 1 + scale times as large
    flip: float = 0.0  # the probability of its mirror image
    colour: float = 0.0  # brightness, contrast and saturation, from 1 - colour to 1 + colour times as much
    randaugment: float = 0.0  # two operations drawn from fourteen, of this strength of 30 (Cubuk et al. 2020)
    erase: float = 0.0  # the probability that a rectangle of it is erased (Zhong et al. 2020)
    mixup: float = 0.0  # α: it is blended with another one, and so are their classes (Zhang et al. 2018)
    cutmix: float = 0.0  # α: a rectangle of another one is put in (Yun et al. 2019); with mixup, half the batches each

    def __post_init__(self) -> None:
        self.transforms()
        self.mixing(1)

    def transforms(self) -> tuple[Transform, ...]:
        """What is done to a batch, in order. Raises ValueError for what cannot be."""
        made: list[tuple[object, Transform]] = [
            (self.crop, RandomResizedCrop(None, area=(self.crop or 1.0, 1.0))),
            (self.shift or self.rotate or self.scale,
             RandomAffine(shift=self.shift, rotate=self.rotate, scale=self.scale)),
            (self.flip, RandomFlip(self.flip)),
            (self.randaugment, RandAugment(magnitude=self.randaugment)),
            (self.colour, ColourJitter(brightness=self.colour, contrast=self.colour, saturation=self.colour)),
            (self.erase, RandomErasing(probability=self.erase)),
        ]  # fmt: skip
        return tuple(transform for wanted, transform in made if wanted)

    def mixing(self, num_classes: int) -> tuple[Transform, ...]:
        """What is done to a batch and its classes then. Raises ValueError for what cannot be."""
        made: list[Transform] = [Mixup(num_classes=num_classes, alpha=self.mixup)] if self.mixup else []
        made += [CutMix(num_classes=num_classes, alpha=self.cutmix)] if self.cutmix else []
        return (OneOf(tuple(made)),) if len(made) > 1 else tuple(made)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """[data] of a task that looks at pictures."""

    source: str = "digits"  # a name, a folder, a file: see glassformer.image.load_pictures
    image_size: int | None = None  # pixels of a side, as the model sees it; none: the model's image_size
    test: float = 0.0  # the part of the pictures to learn from that is put aside, and looked at once, in the end
    split: int = 0  # by which the parts are drawn; the same for every seed of training, so that runs can be compared
    augment: Augmentation = field(default_factory=Augmentation)
    batch_size: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.test < 1:
            raise ValueError(f"test={self.test} is no part of the pictures; expected 0 or more, and less than 1")


Data = Texts | Pictures
DATA = {"texts": Texts, "pictures": Pictures}
"""The kinds of [data]."""
