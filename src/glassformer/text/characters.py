"""The two simplest tokenizers: one token for each character, and one for each byte of UTF-8."""

import json
from collections import Counter
from collections.abc import Iterable

from glassformer.text.tokenizer import BytesTokenizer, numbered_after


class CharacterTokenizer(BytesTokenizer):
    """One token for each character of `characters`, ids in that order; special tokens come after them."""

    file_name = "glassformer_tokenizer.json"

    def __init__(self, characters: str, *, special_tokens: Iterable[str] = ()) -> None:
        if not characters:
            raise ValueError("a character tokenizer needs at least one character")
        commonest, times = Counter(characters).most_common(1)[0]
        if times > 1:
            raise ValueError(f"character {commonest!r} is given {times} times to a character tokenizer: give it once")
        self.characters = characters
        vocabulary = {character.encode(): index for index, character in enumerate(characters)}
        added = numbered_after(vocabulary, special_tokens)
        super().__init__(vocabulary, added, added)
        self._ids = {character: index for index, character in enumerate(characters)}

    @classmethod
    def train(cls, text: str, *, special_tokens: Iterable[str] = ()) -> "CharacterTokenizer":
        """The characters that `text` holds, in the order of their code points."""
        return cls("".join(sorted(set(text))), special_tokens=special_tokens)

    def _encode_ordinary(self, text: str, position: int) -> list[int]:
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            unknown = error.args[0]
            raise ValueError(
                f"character {unknown!r} (U+{ord(unknown):04X}) at position {position + text.index(unknown)} "
                f"is not among the {len(self.characters)} characters that this tokenizer knows"
            ) from error

    def to_json(self) -> str:
        content = {"type": "characters", "characters": self.characters, "special_tokens": list(self.special_tokens)}
        return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


class ByteTokenizer(BytesTokenizer):
    """One token for each byte of UTF-8: the id is the byte; special tokens start at 256."""

    file_name = "glassformer_tokenizer.json"

    def __init__(self, *, special_tokens: Iterable[str] = ()) -> None:
        vocabulary = {bytes([byte]): byte for byte in range(256)}
        added = numbered_after(vocabulary, special_tokens)
        super().__init__(vocabulary, added, added)

    def _encode_ordinary(self, text: str, position: int) -> list[int]:
        return list(text.encode())

    def to_json(self) -> str:
        return json.dumps({"type": "bytes", "special_tokens": list(self.special_tokens)}, indent=2) + "\n"
