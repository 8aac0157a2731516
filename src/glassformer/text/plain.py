"""The text of a file in UTF-8, or a sentence that says what else the file is."""

from pathlib import Path


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
