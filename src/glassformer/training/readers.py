"""What makes a model's inputs of texts and of pictures: it is saved with the model, and so the same ever after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassformer.image.processor import ImageProcessor, load_image_processor
from glassformer.image.processor_file import FILE as PROCESSOR_FILE
from glassformer.text import Tokenizer, load_tokenizer
from glassformer.text.tokenizer import TOKENIZER_FILES

READER_FILES = (*TOKENIZER_FILES, PROCESSOR_FILE)
SHOWN = 80  # characters of a text


@dataclass(frozen=True, kw_only=True)
class Readers:
    """A tokenizer for texts, a processor for pictures; both for a model that reads both."""

    tokenizer: Tokenizer | None = None
    processor: ImageProcessor | None = None

    def save(self, folder: Path) -> None:
        """Write each as Hugging Face's libraries read it."""
        for reader in (self.tokenizer, self.processor):
            if reader is not None:
                reader.save(folder)

    @classmethod
    def load(cls, folder: Path, names: Sequence[str]) -> "Readers":
        """Those of these names ("tokenizer", "processor"). FileNotFoundError where the folder has not each."""
        load = {"tokenizer": load_tokenizer, "processor": load_image_processor}
        return cls(**{name: load[name](folder) for name in names})

    def special_tokens(self) -> dict[str, Any] | None:
        """What a model's `config.json` should say of the tokenizer."""
        end = None if self.tokenizer is None else self.tokenizer.end_of_text
        return None if end is None else {"eos_token_id": end}

    def shown(self, inputs: Mapping[str, Any]) -> str:
        """The first row of a model's inputs, in a few words: "reads 'Some text'"."""
        if self.tokenizer is not None and "input_ids" in inputs:
            text = self.tokenizer.decode(inputs["input_ids"][0].tolist())
            return f"reads {text if len(text) <= SHOWN else text[: SHOWN - 3] + '...'!r}"
        if "pixel_values" in inputs:
            pixels = inputs["pixel_values"][0]
            low, high = pixels.min().item(), pixels.max().item()
            return f"has pixels of {tuple(pixels.shape)} from {low:.4g} to {high:.4g}"
        return f"holds {', '.join(inputs)}"
