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

TINYSHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
TINYSHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TINYSHAKESPEARE_VARIABLE = "GLASSFORMER_TINYSHAKESPEARE"

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
        if not text.strip():
            raise ValueError(f"{name} is empty: there is no text to learn from")
        if len(text) < _SHORTEST:
            raise ValueError(f"{name} is too short: {len(text)} characters, and a corpus needs at least {_SHORTEST}")
        cut = len(text) * 9 // 10
        return cls(name, text[:cut], text[cut:])


def load_corpus(spec: str | Path = "python-docs") -> Corpus:
    """The corpus that `spec` names.

    - "python-docs": the reference of the Python language, which ships inside Python (465 kB of English);
    - "python-stdlib": the sources of the standard library, tests left out (16 MB or so of Python);
    - "tinyshakespeare": 1.1 MB of plays, downloaded once, or the copy that $GLASSFORMER_TINYSHAKESPEARE points to;
    - a file in UTF-8, a folder (all its files, subfolders too, nothing hidden), or a glob such as "notes/**/*.md".

    The first two differ a little from one version of Python to the next.

    Raises:
        FileNotFoundError: nothing is called that.
        OSError: a file cannot be read, or the download fails.
        ValueError: a file is binary, not UTF-8, or the text is empty or too short, and it is named; or `spec` is empty.
    """
    name = str(spec)
    if name in _NAMED:
        return Corpus.split(name, _NAMED[name]())
    if not name.strip():
        raise ValueError("the name of the corpus is empty: give 'python-docs', a file, a folder or a glob")
    path = Path(name).expanduser()
    if path.is_file():
        return Corpus.split(name, read_text(path))
    if path.is_dir():
        return Corpus.split(name, _join(_files_below(path)))
    if any(sign in name for sign in "*?["):
        files = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())
        if not files:
            raise FileNotFoundError(f"no file matches {name!r}")
        return Corpus.split(name, _join(files))
    raise FileNotFoundError(f"{name!r} is neither a corpus by name nor a file or folder{did_you_mean(name, _NAMED)}")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, its line ends as they are.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is binary or in another encoding; says at which byte.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror}") from error
    return decoded(content, path)


def decoded(content: bytes, path: Path) -> str:
    """The text that these bytes of `path` are. Raises ValueError as `read_text` does."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path} is UTF-16 text, by its first two bytes; expected UTF-8: save it so")
    if b"\0" in content:
        raise ValueError(f"{path} is binary, not text: byte {content.index(0)} is NUL")
    try:
        return content.decode().removeprefix("\ufeff")  # the mark that some editors put in front
    except UnicodeDecodeError as error:
        wrong = content[error.start]
        raise ValueError(f"{path} is not UTF-8 text: byte {error.start} is 0x{wrong:02x} ({error.reason})") from error


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
