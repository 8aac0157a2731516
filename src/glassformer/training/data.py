"""The [data] section: what a run learns from. Its kind is the task's, so that a recipe need not say it."""

from dataclasses import dataclass, field

SIZED = ("bpe", "wordpiece", "unigram")  # tokenizers that are trained to a size


@dataclass(frozen=True, kw_only=True)
class Texts:
    """[data] of a task that reads text. A batch has `batch_size` rows of `context` tokens, or of at most so many."""

    corpus: str = "python-docs"  # a name, a file, a folder or a glob: see glassformer.text.load_corpus
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
    """[data.augment]: how pictures differ from one time that they are seen to the next; 0 changes nothing.

    Each picture draws its own: a shift of up to `shift` of its width and height, a turn of up to `rotate` degrees, a
    scale from 1 - `scale` to 1 + `scale`, a mirror image with probability `flip`, and so on.
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    flip: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """[data] of a task that looks at pictures."""

    source: str = "digits"  # a name, a folder, a file: see glassformer.image.load_pictures
    image_size: int | None = None  # pixels of a side, as the model sees it; none: the model's image_size
    test: float = 0.0  # the part of the pictures to learn from that is put aside, and looked at once, in the end
    augment: Augmentation = field(default_factory=Augmentation)
    batch_size: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.test < 1:
            raise ValueError(f"test={self.test} is no part of the pictures; expected 0 or more, and less than 1")


Data = Texts | Pictures
DATA = {"texts": Texts, "pictures": Pictures}
"""The kinds of [data]."""
