"""SentencePiece models of fairseq's families: XLM-RoBERTa, CamemBERT, mBART (`sentencepiece.bpe.model`).

fairseq numbers a vocabulary by itself: its own special tokens come first, the model's pieces behind them, the mask and
mBART's languages last. The text is cut by the same library; only the ids are others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassformer.foundation.suggest import did_you_mean
from glassformer.text.sentencepiece import SentencePieceTokenizer, opened
from glassformer.text.special import family
from glassformer.text.template import Template

FILE = "sentencepiece.bpe.model"
ROBERTA = "<s> $A </s>", "<s> $A </s> </s> $B </s>"
# Liu et al. 2020, "Multilingual Denoising Pre-training", in the order of the released vocabulary.
MBART_LANGUAGES = (
    "ar_AR", "cs_CZ", "de_DE", "en_XX", "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN",
    "hi_IN", "it_IT", "ja_XX", "kk_KZ", "ko_KR", "lt_LT", "lv_LV", "my_MM", "ne_NP",
    "nl_XX", "ro_RO", "ru_RU", "si_LK", "tr_TR", "vi_VN", "zh_CN",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """How a family numbers its tokens: `first` by their places, the pieces from `skipped` on, then `last`."""

    kind: str
    first: tuple[str, ...] = ("<s>", "<pad>", "</s>", "<unk>")
    skipped: int = 3  # pieces of the model that `first` stands for: <unk>, <s> and </s>
    last: tuple[str, ...] = ("<mask>",)
    template: tuple[str, str] = ROBERTA

    def ids(self, pieces: list[str]) -> dict[str, int]:
        """Token -> id; what is behind the pieces follows upon fairseq's own count of them."""
        ids = {token: index for index, token in enumerate(self.first)}
        rest = pieces[self.skipped :]
        return ids | {token: len(ids) + index for index, token in enumerate((*rest, *self.last))}


NUMBERINGS = {
    "xlm-roberta": Numbering(kind="XLMRobertaTokenizer"),
    "camembert": Numbering(
        kind="CamembertTokenizer",
        first=("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"),
        skipped=1,
    ),
    "mbart": Numbering(
        kind="MBartTokenizer", last=(*MBART_LANGUAGES, "<mask>"), template=("$A </s> {0}", "$A $B </s> {0}")
    ),
}


def read_fairseq(folder: Path, config: Mapping[str, Any]) -> SentencePieceTokenizer:
    """The tokenizer of a folder with a `sentencepiece.bpe.model`.

    An mBART text ends with its language, `src_lang` of the folder's `tokenizer_config.json` (en_XX if it has none).

    Raises:
        ValueError: the file is damaged, the family is none of these, or the language none of mBART's.
    """
    path, names = folder / FILE, {each.kind: name for name, each in NUMBERINGS.items()}
    kind = family(folder, config, (*NUMBERINGS, *names), FILE) or "xlm-roberta"
    numbering = NUMBERINGS[names.get(kind, kind)]
    language = config.get("src_lang") or "en_XX"
    if language not in MBART_LANGUAGES:
        raise ValueError(
            f"{folder} has src_lang={language!r}, no language of mBART's{did_you_mean(str(language), MBART_LANGUAGES)}"
        )
    try:
        inner = opened(path.read_bytes())
        ids = numbering.ids([inner.id_to_piece(index) for index in range(inner.get_piece_size())])
        single, pair = (text.format(language) for text in numbering.template)
        special = {name: ids[name] for name in ("<s>", "</s>", *numbering.first, *numbering.last)}
        around = {name: ids[name] for name in (single + " " + pair).split() if not name.startswith("$")}
        return SentencePieceTokenizer(
            path.read_bytes(), ids=ids, special_tokens=special, template=Template.parse(single, pair, around),
            file_name=FILE, kind=numbering.kind,
        )  # fmt: skip
    except KeyError as error:
        raise ValueError(f"{path}: the vocabulary lacks {error.args[0]!r}, which {numbering.kind} needs") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
