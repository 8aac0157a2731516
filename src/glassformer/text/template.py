"""What stands around a text, and around two, before a model sees them: [CLS] a [SEP] b [SEP]."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Items = tuple[tuple[str, int], ...]  # a token's name, or $A or $B for a text; and its token type


@dataclass(frozen=True)
class Template:
    """Tokens and the places of texts, each with its token type; by default nothing stands around a text.

    single  around one text, $A      pair  around two, $A and $B      ids  the ids of the tokens that both name
    """

    single: Items = (("$A", 0),)
    pair: Items = (("$A", 0), ("$B", 1))
    ids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, single: str, pair: str, ids: Mapping[str, int]) -> "Template":
        """From texts such as "[CLS] $A [SEP]" and "[CLS] $A [SEP] $B:1 [SEP]:1"; a token type that is not 0 is said.

        Raises ValueError where a token has no id, or a text is not there once.
        """
        return cls(_items(single), _items(pair), {token: (index,) for token, index in ids.items()})

    def __post_init__(self) -> None:
        for texts, items in ((["$A"], self.single), (["$A", "$B"], self.pair)):
            if sorted(name for name, _ in items if name in ("$A", "$B")) != texts:
                raise ValueError(f"a template must name {' and '.join(texts)} once, not {items}")
            for name, _ in items:
                if name not in self.ids and name not in texts:
                    raise ValueError(f"a template names {name!r}, which has no id (those that have: {list(self.ids)})")

    def around(self, first: Sequence[int], second: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
        """The ids of one text or of two with what stands around them, and the token type of each id."""
        ids: list[int] = []
        types: list[int] = []
        for name, kind in self.single if second is None else self.pair:
            new = first if name == "$A" else second if name == "$B" else self.ids[name]
            ids += new or ()
            types += [kind] * len(new or ())
        return ids, types

    def lengths(self) -> tuple[int, int]:
        """How many tokens stand before one text, and how many behind it."""
        lengths = [0, 0]
        for before, name in _before(self.single):
            lengths[not before] += len(self.ids[name])
        return lengths[0], lengths[1]

    def ends(self) -> tuple[str | None, str | None]:
        """The names of the first token before one text and of the last behind it, None where there is none."""
        before = [name for is_before, name in _before(self.single) if is_before]
        after = [name for is_before, name in _before(self.single) if not is_before]
        return before[0] if before else None, after[-1] if after else None

    @classmethod
    def from_json(cls, processor: Mapping[str, Any] | None) -> "Template":
        """A `post_processor` of a `tokenizer.json`. Raises ValueError naming one that is not known."""
        if processor is None:
            return cls()
        kind = processor.get("type")
        if kind == "ByteLevel":  # about offsets alone
            return cls()
        if kind == "Sequence":
            templates = [cls.from_json(part) for part in processor["processors"]]
            return next((template for template in templates if template != cls()), cls())
        if kind in ("BertProcessing", "RobertaProcessing"):
            (cls_token, cls_id), (sep_token, sep_id) = processor["cls"], processor["sep"]
            single = f"{cls_token} $A {sep_token}"
            second = f"$B:1 {sep_token}:1" if kind == "BertProcessing" else f"{sep_token} $B {sep_token}"
            return cls.parse(single, f"{single} {second}", {cls_token: cls_id, sep_token: sep_id})
        if kind == "TemplateProcessing":
            ids = {name: tuple(token["ids"]) for name, token in processor["special_tokens"].items()}
            return cls(_from_pieces(processor["single"]), _from_pieces(processor["pair"]), ids)
        raise ValueError(f"the post_processor {kind!r} is not implemented")

    def to_json(self) -> dict[str, Any] | None:
        """The `post_processor` of a `tokenizer.json` that does the same."""
        if self == Template():
            return None
        return {
            "type": "TemplateProcessing",
            "single": [_to_piece(name, kind) for name, kind in self.single],
            "pair": [_to_piece(name, kind) for name, kind in self.pair],
            "special_tokens": {
                name: {"id": name, "ids": list(ids), "tokens": [name] * len(ids)} for name, ids in self.ids.items()
            },
        }


def begin_and_end(begin: str | None, end: str | None, ids: Mapping[str, int]) -> Template:
    """A token before each text, one behind it, or both. Raises ValueError where one has no id."""
    around = [[(begin, kind)] * (begin is not None) + [(text, kind)] + [(end, kind)] * (end is not None)
              for text, kind in (("$A", 0), ("$B", 1))]  # fmt: skip
    for token in (begin, end):
        if token is not None and token not in ids:
            raise ValueError(f"{token!r} should stand around each text, but is no special token")
    tokens = {token: (ids[token],) for token in (begin, end) if token is not None}
    return Template(tuple(around[0]), tuple(around[0] + around[1]), tokens)  # type: ignore[arg-type]


def _items(text: str) -> Items:
    items = []
    for word in text.split():
        name, colon, kind = word.rpartition(":")
        items.append((name, int(kind)) if colon and kind.isdigit() else (word, 0))
    return tuple(items)


def _before(items: Items) -> Iterator[tuple[bool, str]]:
    """The tokens of a template of one text, each with whether it stands before the text."""
    seen = False
    for name, _ in items:
        if name == "$A":
            seen = True
        else:
            yield not seen, name


def _from_pieces(pieces: list[Mapping[str, Any]]) -> Items:
    items = []
    for piece in pieces:
        content = piece.get("Sequence") or piece["SpecialToken"]
        items.append((f"${content['id']}" if "Sequence" in piece else content["id"], content["type_id"]))
    return tuple(items)


def _to_piece(name: str, kind: int) -> dict[str, Any]:
    if name in ("$A", "$B"):
        return {"Sequence": {"id": name[1:], "type_id": kind}}
    return {"SpecialToken": {"id": name, "type_id": kind}}
