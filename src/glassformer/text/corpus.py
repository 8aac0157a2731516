"""Text to learn from, much of it already on the machine; every corpus is split once and for all, 90 to 10."""

import glob
import hashlib
import os
import sysconfig
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from glassformer.foundation.atomic import atomic_file, cache_folder
from glassformer.foundation.suggest import did_you_mean
from glassformer.text.examples import found, options_of
from glassformer.text.plain import read_text
from glassformer.text.rows import Row, column, kind_of

TINYSHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
TINYSHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TINYSHAKESPEARE_VARIABLE = "GLASSFORMER_TINYSHAKESPEARE"

TABLES = (".csv", ".tsv", ".jsonl", ".json")
"""Files of rows, each of which has a text; they may end in .gz."""

_SHORTEST = 20  # characters: below, the tenth for validation could not even hold a pair of neighbours


@dataclass(frozen=True)
class Corpus:
    """A text in two parts: the first nine tenths to train on, the rest to validate on."""

    name: str
    train: str
    validation: str

    @classmethod
    def split(cls, name: str, text: str) -> "Corpus":
        """The one split: by position, so that no line of the validation text stands between lines trained on.

        Raises:
            ValueError: the text is empty, blank or too short to be split.
        """
        _check(name, text)
        cut = len(text) * 9 // 10
        return cls(name, text[:cut], text[cut:])


def load_corpus(spec: str | Path = "python-docs") -> Corpus:
    """The corpus that `spec` names.

    - "python-docs": the reference of the Python language, which ships inside Python (465 kB of English);
    - "python-stdlib": the sources of the standard library, tests left out (16 MB or so of Python);
    - "tinyshakespeare": 1.1 MB of plays, downloaded once, or the copy that $GLASSFORMER_TINYSHAKESPEARE points to;
    - a file in UTF-8, a folder (all its files, subfolders too, nothing hidden), or a glob such as "notes/**/*.md";
    - a file of rows (.csv .tsv .jsonl .json, also .gz: see `glassformer.text.rows.read_rows`), or a glob for such
      files: what stands in their column "text";
    - "hf:NAME" or "hf:NAME:CONFIG": the same of a data set of Hugging Face's hub, by their package `datasets`.

    Of rows, after a "?" stand the column, if its name is another, and what to validate on, if that is apart:
    "reviews.csv?text=body&validation=more.csv".

    The first two differ a little from one version of Python to the next.

    Raises:
        FileNotFoundError: nothing is called that.
        OSError: a file cannot be read, or the download fails.
        ValueError: a file is binary, not UTF-8, damaged, without that column, or the text is empty or too short, and it
            is named; or `spec` is empty.
    """
    name = str(spec)
    if name in _NAMED:
        return Corpus.split(name, _NAMED[name]())
    if not name.strip():
        raise ValueError("the name of the corpus is empty: give 'python-docs', a file, a folder or a glob")
    if (source := options_of(name)[0]).startswith("hf:") or kind_of(Path(source)) in TABLES:
        return _of_rows(name)
    path = Path(name).expanduser()
    if path.is_file():
        return Corpus.split(name, read_text(path))
    if path.is_dir():
        return Corpus.split(name, _join(_files_below(path)))
    if _is_glob(name):
        return Corpus.split(name, _join(_matches(name)))
    raise FileNotFoundError(f"{name!r} is neither a corpus by name nor a file or folder{did_you_mean(name, _NAMED)}")


def _check(name: str, text: str) -> None:
    """Raise ValueError for a text that is empty, blank or too short."""
    if not text.strip():
        raise ValueError(f"{name} is empty: there is no text to learn from")
    if len(text) < _SHORTEST:
        raise ValueError(f"{name} is too short: {len(text)} characters, and a corpus needs at least {_SHORTEST}")


def _of_rows(name: str) -> Corpus:
    """The texts of rows; in two parts where these are told apart."""
    source, columns = options_of(name)
    second = columns.pop("validation", None)
    text, validation = _texts(source, columns)
    if second is not None:
        validation = _texts(second, columns)[0]
    if validation is None:
        return Corpus.split(name, text)
    _check(name, text)
    _check(f"what {name} is validated on", validation)
    return Corpus(name, text, validation)


def _texts(source: str, columns: dict[str, str]) -> tuple[str, str | None]:
    """The texts of a data set, a file or the files that match, a line end between them; and those to validate on."""
    sources = [str(path) for path in _matches(source)] if _is_glob(source) else [source]
    parts = [found(each, ("text",), columns) for each in sources]
    validation = [row for _, rows in parts for row in rows or ()]
    train, named = [row for rows, _ in parts for row in rows], columns.get("text", "text")
    return _joined(train, named), _joined(validation, named) if validation else None


def _joined(rows: list[Row], named: str) -> str:
    texts = [(row.place, column(row, named)) for row in rows]
    for place, text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{place} has {str(text)[:40]!r} as {named}; expected a text")
    return "\n".join([text for _, text in texts])


def _is_glob(name: str) -> bool:
    return any(sign in name for sign in "*?[") and not name.startswith("hf:") and not Path(name).expanduser().is_file()


def _matches(name: str) -> list[Path]:
    pattern = str(Path(name).expanduser())
    files = sorted(Path(match) for match in glob.glob(pattern, recursive=True) if Path(match).is_file())
    if not files:
        raise FileNotFoundError(f"no file matches {name!r}")
    return files


def _join(files: list[Path]) -> str:
    return "\n".join([read_text(file) for file in files])


def _files_below(folder: Path) -> list[Path]:
    def is_content(path: Path) -> bool:
        parts = path.relative_to(folder).parts
        return path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts)

    files = sorted(path for path in folder.rglob("*") if is_content(path))
    if not files:
        raise ValueError(f"{folder} is empty: there is no text to learn from")
    return files


def _python_docs() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise FileNotFoundError("this Python has no reference inside (pydoc_data): choose another corpus") from error
    return "\n".join([topics[topic] for topic in sorted(topics)])


def _python_stdlib() -> str:
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3"}
    files = [path for path in sorted(root.rglob("*.py")) if not left_out & set(path.relative_to(root).parts)]
    if not files:
        raise FileNotFoundError(f"this Python has no sources of its standard library in {root}: choose another corpus")
    sources = []
    for path in files:
        with tokenize.open(path) as file:  # minds the encoding that a source declares
            sources.append(file.read())
    return "\n".join(sources)


def _tinyshakespeare() -> str:
    local = os.environ.get(TINYSHAKESPEARE_VARIABLE)
    if local:
        path = Path(local).expanduser()
        text = read_text(path)
        if _sha256(path.read_bytes()) != TINYSHAKESPEARE_SHA256:
            raise ValueError(f"{path} (from ${TINYSHAKESPEARE_VARIABLE}) is not tiny Shakespeare: its sha256 differs")
        return text
    path = cache_folder() / "tinyshakespeare.txt"
    if not path.is_file() or _sha256(path.read_bytes()) != TINYSHAKESPEARE_SHA256:
        _download(TINYSHAKESPEARE_URL, TINYSHAKESPEARE_SHA256, path)
    return read_text(path)


def _download(url: str, sha256: str, path: Path) -> None:
    try:
        with urlopen(url, timeout=30) as answer:
            content = answer.read()
    except OSError as error:
        raise OSError(
            f"cannot download tiny Shakespeare from {url} ({error}): "
            f"set ${TINYSHAKESPEARE_VARIABLE} to a copy, or give its path as the corpus"
        ) from error
    if _sha256(content) != sha256:
        raise ValueError(f"what {url} sent is not tiny Shakespeare: sha256 {_sha256(content)}, expected {sha256}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(content)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_NAMED: dict[str, Callable[[], str]] = {
    "python-docs": _python_docs,
    "python-stdlib": _python_stdlib,
    "tinyshakespeare": _tinyshakespeare,
}
