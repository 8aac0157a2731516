"""Corpora: what is on the machine, files, folders, globs, one download; and what is wrong with the others."""

import csv
import gzip
import hashlib
import io
import json
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.text import corpus
from glassformer.text.corpus import Corpus, load_corpus

LOCAL_COPY = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"
SAMPLE = "One line of text.\nAnother, ünïcode.\r\n"


@given(st.text(min_size=20).filter(str.strip))
def test_the_split_is_ninety_to_ten_by_position_and_loses_nothing(text):
    whole = Corpus.split("a text", text)
    assert whole.train + whole.validation == text
    assert len(whole.train) == len(text) * 9 // 10
    assert whole.validation


def test_python_docs_is_the_default_and_always_the_same():
    docs = load_corpus()
    assert docs == load_corpus("python-docs")
    assert len(docs.train) > 300_000
    assert "assert" in docs.train


def test_python_stdlib_is_the_librarys_sources_without_its_tests():
    sources = load_corpus("python-stdlib")
    assert len(sources.train) > 5_000_000
    assert "class OrderedDict" in sources.train
    assert "\0" not in sources.train


def test_a_file_is_read_as_it_is_but_for_the_byte_order_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + SAMPLE.encode())
    loaded = load_corpus(path)
    assert loaded.train + loaded.validation == SAMPLE
    assert loaded.name == str(path)


def test_a_folder_is_all_its_files_in_order_without_the_hidden_ones(tmp_path):
    for name, text in {"b.txt": "second" * 5, "a/z.md": "first" * 5, ".git/x": "\0", "__pycache__/y.pyc": "\0"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    loaded = load_corpus(str(tmp_path))
    assert loaded.train + loaded.validation == "first" * 5 + "\n" + "second" * 5


def test_a_glob_is_the_files_that_match(tmp_path):
    for name in ("a.md", "b.txt", "deep/c.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name * 9)
    loaded = load_corpus(f"{tmp_path}/**/*.md")
    assert loaded.train + loaded.validation == "a.md" * 9 + "\n" + "deep/c.md" * 9


def test_files_come_in_the_order_of_their_names_whatever_the_disk_says(tmp_path):
    for number in (7, 2, 9, 0, 4, 1, 8, 3, 6, 5):
        (tmp_path / f"{number}.txt").write_text(f"{number}{number}")
    expected = "\n".join(f"{number}{number}" for number in range(10))
    for spec in (tmp_path, f"{tmp_path}/*.txt"):
        loaded = load_corpus(spec)
        assert loaded.train + loaded.validation == expected


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "is empty"),
        (b" \n\t " * 20, "is empty"),
        (b"too short", "is too short: 9 characters, and a corpus needs at least 20"),
        ("text".encode("utf-16") * 9, "is UTF-16 text, by its first two bytes; expected UTF-8"),
        (b"text" * 9 + b"\0" + b"text", "is binary, not text: byte 36 is NUL"),
        (b"text" * 9 + b"\xff text", "is not UTF-8 text: byte 36 is 0xff"),
        ("text ü".encode("latin-1") * 9, "is not UTF-8 text: byte 5 is 0xfc"),
        (b"text" * 9 + "漢".encode()[:2], "is not UTF-8 text: byte 36 is 0xe6"),
    ],
)
def test_a_bad_file_is_named_and_what_is_wrong_with_it(tmp_path, content, named):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.txt") as caught:
        load_corpus(path)
    assert named in str(caught.value)
    if content.strip() and len(content) >= 20:
        with pytest.raises(ValueError, match=r"bad\.txt is"):  # in a folder the file is named, not the folder
            load_corpus(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="name of the corpus is empty"):
        load_corpus("")
    with pytest.raises(FileNotFoundError, match=r"'python-dosc' is neither .* \(did you mean 'python-docs'\?\)"):
        load_corpus("python-dosc")
    with pytest.raises(FileNotFoundError, match=r"no file matches '.*\*\.md'"):
        load_corpus(f"{tmp_path}/*.md")
    with pytest.raises(ValueError, match="is empty: there is no text"):
        load_corpus(tmp_path)


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    path = tmp_path / "locked.txt"
    path.write_text(SAMPLE)

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(OSError, match=r"^cannot read .*locked\.txt: Permission denied$"):
        load_corpus(path)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A stand-in for the download: a file of our own, under its own checksum, and an empty cache."""
    source = tmp_path / "input.txt"
    source.write_text(SAMPLE * 3)
    monkeypatch.setattr(corpus, "TINYSHAKESPEARE_URL", source.as_uri())
    monkeypatch.setattr(corpus, "TINYSHAKESPEARE_SHA256", hashlib.sha256(source.read_bytes()).hexdigest())
    monkeypatch.setenv("GLASSFORMER_CACHE", str(tmp_path / "cache" / "glassformer"))
    monkeypatch.delenv(corpus.TINYSHAKESPEARE_VARIABLE, raising=False)
    return source


def test_tinyshakespeare_is_downloaded_once_and_then_taken_from_the_cache(served, tmp_path):
    first = load_corpus("tinyshakespeare")
    served.unlink()
    assert load_corpus("tinyshakespeare") == first
    assert first.train.startswith("One line")
    assert [path.name for path in (tmp_path / "cache" / "glassformer").iterdir()] == ["tinyshakespeare.txt"]


def test_a_damaged_copy_in_the_cache_is_downloaded_again(served, tmp_path):
    first = load_corpus("tinyshakespeare")
    (tmp_path / "cache" / "glassformer" / "tinyshakespeare.txt").write_text("something else, and long enough")
    assert load_corpus("tinyshakespeare") == first


def test_a_download_with_the_wrong_checksum_is_refused_and_not_kept(served, tmp_path):
    served.write_text("forged" * 20)
    with pytest.raises(ValueError, match="is not tiny Shakespeare: sha256"):
        load_corpus("tinyshakespeare")
    assert not (tmp_path / "cache").exists()


def test_a_failed_download_says_how_to_do_without(served):
    served.unlink()
    with pytest.raises(OSError, match=r"cannot download .* set \$GLASSFORMER_TINYSHAKESPEARE to a copy"):
        load_corpus("tinyshakespeare")


def test_a_local_copy_named_by_the_environment_is_taken_if_it_is_the_right_one(served, tmp_path, monkeypatch):
    copy = tmp_path / "copy.txt"
    copy.write_bytes(served.read_bytes())
    served.unlink()
    monkeypatch.setenv(corpus.TINYSHAKESPEARE_VARIABLE, str(copy))
    assert load_corpus("tinyshakespeare").train.startswith("One line")
    copy.write_text("forged" * 20)
    with pytest.raises(ValueError, match=r"copy\.txt .* is not tiny Shakespeare"):
        load_corpus("tinyshakespeare")
    monkeypatch.setenv(corpus.TINYSHAKESPEARE_VARIABLE, str(tmp_path / "gone.txt"))
    with pytest.raises(OSError, match=r"cannot read .*gone\.txt: No such file"):
        load_corpus("tinyshakespeare")


@pytest.mark.skipif(not LOCAL_COPY.exists(), reason=f"no copy of tiny Shakespeare in {LOCAL_COPY}")
def test_the_true_tinyshakespeare_has_our_checksum_and_the_known_split(monkeypatch):
    monkeypatch.setenv(corpus.TINYSHAKESPEARE_VARIABLE, str(LOCAL_COPY))
    loaded = load_corpus("tinyshakespeare")
    assert (len(loaded.train), len(loaded.validation)) == (1_003_854, 111_540)


TEXTS = ["One, two", 'three "four"', "", "five\nsix ünï", "the last of them"]


def table(kind: str, texts: list[str], name: str) -> bytes:
    """A file of rows with a number and a text."""
    rows = [{"id": n, name: text} for n, text in enumerate(texts)]
    if kind == ".jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind == ".json":
        return json.dumps(rows).encode()
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ["id", name], delimiter="," if kind == ".csv" else "\t")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".json"])
def test_of_rows_the_texts_are_read_not_the_file(tmp_path, kind):
    (tmp_path / f"a{kind}").write_bytes(table(kind, TEXTS, "text"))
    (tmp_path / f"b{kind}.gz").write_bytes(gzip.compress(table(kind, TEXTS[:2] * 9, "body")))
    loaded = load_corpus(tmp_path / f"a{kind}")
    assert loaded.train + loaded.validation == "\n".join(TEXTS)
    loaded = load_corpus(f"{tmp_path}/b{kind}.gz?text=body")
    assert loaded.train + loaded.validation == "\n".join(TEXTS[:2] * 9)


def test_of_rows_that_match_a_glob_all_are_read(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(table(".jsonl", [f"the text of {name}"], "text"))
    loaded = load_corpus(f"{tmp_path}/*.jsonl")
    assert loaded.train + loaded.validation == "the text of a\nthe text of b"
    with pytest.raises(FileNotFoundError, match=r"no file matches .*\.csv"):
        load_corpus(f"{tmp_path}/*.csv")


def test_what_to_validate_on_may_be_a_file_apart(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_bytes(table(".csv", [f"a long, long text of {name}"], "body"))
    loaded = load_corpus(f"{tmp_path}/a.csv?text=body&validation={tmp_path}/b.csv")
    assert (loaded.train, loaded.validation) == ("a long, long text of a", "a long, long text of b")
    (tmp_path / "b.csv").write_bytes(table(".csv", [" "], "body"))
    with pytest.raises(ValueError, match=r"what .* is validated on is empty"):
        load_corpus(f"{tmp_path}/a.csv?text=body&validation={tmp_path}/b.csv")


def test_rows_without_that_column_or_with_no_text_in_it_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(table(".jsonl", TEXTS, "body"))
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1 has no column 'text' \(choose from body, id\)"):
        load_corpus(path)
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1 has '0' as id; expected a text"):
        load_corpus(f"{path}?text=id")
    with pytest.raises(ValueError, match="is given label=id, which is no option"):
        load_corpus(f"{path}?text=body&label=id")


@pytest.mark.parametrize("held", ["validation", "test", None])
def test_texts_of_the_hub_are_read_in_their_parts(monkeypatch, held):
    class Rows(list):
        features = None

    asked = []

    def load_dataset(*names):
        asked.append(names)
        parts = {"train": Rows({"body": f"text {n}"} for n in range(9))}
        return parts if held is None else {**parts, held: Rows({"body": f"other text {n}"} for n in range(3))}

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    loaded = load_corpus("hf:somebody/texts:small?text=body")
    train, other = ("\n".join(f"{kind} {n}" for n in range(count)) for kind, count in (("text", 9), ("other text", 3)))
    assert asked == [("somebody/texts", "small")]
    if held is None:
        assert loaded.train + loaded.validation == train
    else:
        assert (loaded.train, loaded.validation) == (train, other)
