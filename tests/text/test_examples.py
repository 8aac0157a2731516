"""Examples: files, pairs, columns, parts, sets joined; and one sentence for each that is wrong."""

import gzip
import json
import sys
import types
from pathlib import Path

import pytest

from glassformer.text import load_examples, published
from glassformer.text.examples import GENERATED, read_examples
from glassformer.text.fields import FIELDS

TEXT, TAGS, QUESTIONS, PAIRS = (
    FIELDS[task] for task in ("classification", "tagging", "question_answering", "translation")
)


def write(path, content, encoding="utf-8"):
    content = content if isinstance(content, bytes) else content.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def reviews(count, first=0):
    return [
        {"text": f"review, number {i}\nof many", "label": ("bad", "good")[i % 2]} for i in range(first, first + count)
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".csv.gz", ".jsonl.gz"])
def test_every_kind_of_file_gives_the_same_examples(tmp_path, suffix):
    rows = reviews(20)
    kind = suffix.removesuffix(".gz")
    if kind in (".csv", ".tsv"):
        sign = "," if kind == ".csv" else "\t"
        lines = [sign.join(("label", "text")), *(f'{row["label"]}{sign}"{row["text"]}"' for row in rows)]
        content = "\ufeff" + "\r\n".join(lines) + "\r\n"
    else:
        content = json.dumps({"data": rows}) if kind == ".json" else "\n".join(map(json.dumps, rows)) + "\n\n"
    loaded = load_examples(write(tmp_path / f"a{suffix}", content), fields=TEXT)
    assert sorted([*loaded.train, *loaded.validation], key=str) == sorted(rows, key=str)
    assert (len(loaded.train), len(loaded.validation)) == (18, 2)
    assert loaded.labels == ("bad", "good")


def test_columns_are_renamed_and_a_second_file_validates(tmp_path):
    first = write(tmp_path / "a.csv", "id,body,stars\n1,one,5\n2,two,1\n")
    second = write(tmp_path / "b.csv", "body,stars\nthree,1\n")
    loaded = load_examples(f"{first}?text=body&label=stars&validation={second}", fields=TEXT)
    assert loaded.train == [{"text": "one", "label": "5"}, {"text": "two", "label": "1"}]
    assert loaded.validation == [{"text": "three", "label": "1"}]


def test_a_pair_of_files_goes_line_by_line(tmp_path):
    lines = [f"Zeile\u2028 {i}" for i in range(30)]
    german = write(tmp_path / "a.de.gz", "\n".join(lines))
    english = write(tmp_path / "a.en", "".join(f"line {i}\r\n" for i in range(30)))
    loaded = load_examples(f"{german}::{english}", fields=PAIRS)
    found = {each["source"]: each["target"] for each in (*loaded.train, *loaded.validation)}
    assert found == {line: f"line {i}" for i, line in enumerate(lines)}
    whole = load_examples(f"{german}::{english}?validation={german}::{english}", fields=PAIRS)
    assert whole.train == whole.validation


def test_text_files_hold_columns_with_tabs_or_a_token_a_line(tmp_path):
    plain = write(tmp_path / "a.txt", "".join(f"text {i}\t{i % 2}\n" for i in range(10)))
    assert load_examples(plain, fields=TEXT).train[0] == {"text": "text 0", "label": "0"}
    sentences = "-DOCSTART- -X- O\n\n" + "".join(f"Anna{i} NNP B-PER\ncame VBD O\n\n" for i in range(10)).rstrip("\n")
    for name in ("b.txt", "b.conll"):
        tagged = load_examples(write(tmp_path / name, sentences), fields=TAGS)
        assert tagged.train[0] == {"tokens": ["Anna0", "came"], "tags": ["B-PER", "O"]}
        assert len(tagged.train) + len(tagged.validation) == 10
        assert tagged.labels == ("B-PER", "O")


@pytest.mark.parametrize(
    "answers",
    ["ten", ["ten"], [{"text": "ten", "start": 6}], {"text": ["ten"], "answer_start": [6]}, {"text": "ten"}],
)
def test_answers_may_be_written_as_usual(tmp_path, answers):
    rows = [{"context": f"it is ten, {i}", "question": "when?", "answers": answers} for i in range(4)]
    loaded = load_examples(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))), fields=QUESTIONS)
    assert loaded.train[0]["answers"] == [{"text": "ten", "start": 6}]


ANSWERS = [{"text": "ten", "answer_start": 6}, {"text": "it", "answer_start": 0}]


def test_squads_nesting_is_taken_apart(tmp_path):
    asked = [
        {"id": "1", "question": "when?", "answers": ANSWERS},
        {"id": "2", "question": "unanswerable?", "answers": []},
    ]
    articles = [{"title": "x", "paragraphs": [{"context": f"it is ten {i}", "qas": asked}]} for i in range(3)]
    loaded = load_examples(write(tmp_path / "a.json", json.dumps({"version": "1", "data": articles})), fields=QUESTIONS)
    assert len(loaded.train) + len(loaded.validation) == 3
    assert loaded.train[0]["answers"] == [{"text": "ten", "start": 6}, {"text": "it", "start": 0}]


def test_the_tenth_put_aside_shares_no_input_and_follows_the_seed(tmp_path):
    content = "text,label\n" + "".join(f"text {i % 50},{i % 2}\n" for i in range(400))
    source = write(tmp_path / "a.csv", content)
    loaded = load_examples(source, fields=TEXT)
    assert (len(loaded.train), len(loaded.validation)) == (360, 40)
    assert not {each["text"] for each in loaded.train} & {each["text"] for each in loaded.validation}
    assert load_examples(source, fields=TEXT) == loaded
    assert load_examples(source, fields=TEXT, seed=1) != loaded


def test_sets_joined_are_one_and_keep_their_parts_apart(tmp_path):
    both = load_examples("dates?train=50&validation=5+numbers?train=30&validation=5", fields=PAIRS)
    assert (len(both.train), len(both.validation)) == (80, 10)
    own = write(tmp_path / "own.tsv", "source\ttarget\nzwölf\t12\ndreizehn\t13\n")
    assert len(load_examples(f"{own}+dates?train=50", fields=PAIRS).train) == 51
    assert load_examples("translate", fields=PAIRS).train == load_examples("dates+numbers", fields=PAIRS).train


SLOW = {"python-stdlib-summaries"}  # parses all of the standard library


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in GENERATED]
)
def test_a_generated_set_is_the_same_each_time_and_nothing_is_in_both_parts(name):
    fields = GENERATED[name][1]
    loaded = load_examples(name, fields=fields)
    assert load_examples(name, fields=fields) == loaded
    assert load_examples(name, fields=fields, seed=1) != loaded
    key = fields[0]
    assert not {str(each[key]) for each in loaded.train} & {str(each[key]) for each in loaded.validation}
    assert all(tuple(each) == fields for each in (*loaded.train, *loaded.validation))
    assert min(len(loaded.train), 5 * len(loaded.validation)) > 100


BAD = {
    "missing column": ("a.csv", "txt,label\nx,1\n", r"a\.csv, line 2 has no column 'text' \(did you mean 'txt'\?\)"),
    "header alone": ("a.csv", "text,label\n", r"a\.csv is empty: there are no examples"),
    "empty": ("a.jsonl", "\n \n", r"a\.jsonl is empty"),
    "empty json": ("a.json", "", r"a\.json is empty"),
    "too few columns": ("a.csv", "text,label\nx,1\n\ny\n", r"a\.csv, line 4 has 1 columns, and the first line names 2"),
    "open quote": ("a.csv", 'text,label\n"x,1\ny,2\n', r"a\.csv, line 3 is damaged"),
    "doubled column": ("a.csv", "text,text\nx,1\n", r"a\.csv, line 1 names the column 'text' twice"),
    "broken line": (
        "a.jsonl",
        '{"text": "x", "label": 1}\n{"text": "y"\n',
        r"a\.jsonl, line 2 is not JSON: .* at char",
    ),
    "broken json": ("a.json", '[\n{"text": "x",\n]', r"a\.json, line 3 is not JSON"),
    "no object": ("a.jsonl", '["x", 1]\n', r"a\.jsonl, line 1 is .* expected an object"),
    "no list": ("a.json", '{"text": "x"}', r"a\.json holds no list of examples"),
    "empty text": ("a.csv", "text,label\nx,1\n ,2\n", r"a\.csv, line 3 has an empty text"),
    "no text": ("a.jsonl", '{"text": ["x"], "label": 1}', r"line 1 has .* as text; expected a text"),
    "one label": ("a.csv", "text,label\nx,1\ny,1\n", r"every example has the label '1'; at least two are needed"),
    "one input": ("a.csv", "text,label\nx,1\nx,2\n", r"has 1 different input: too few to put a tenth aside"),
    "other encoding": ("a.csv", "text,label\nü,1\n".encode("latin-1"), r"a\.csv is not UTF-8 text: byte 11 is 0xfc"),
    "binary": ("a.jsonl", b"\0\1", r"a\.jsonl is binary"),
    "no gzip": ("a.csv", None, r"a\.csv\.gz is not a whole gzip file"),
    "columns of a text": ("a.txt", "x\t1\ny\n", r"a\.txt, line 2 has 1 columns .* expected 2: text, label"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_sentence_that_says_where(tmp_path, case):
    name, content, said = BAD[case]
    source = write(tmp_path / name, content or b"")
    if content is None:
        source += ".gz"
        (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"text,label\n" * 100)[:-9])
    with pytest.raises(ValueError, match=said) as caught:
        load_examples(source, fields=TEXT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "content", "said"),
    [
        (TAGS, [{"tokens": ["a", "b"], "tags": ["O"]}], "line 1 has 2 tokens and 1 tags"),
        (TAGS, [{"tokens": [], "tags": []}], "line 1 has .* as tokens; expected a list of words"),
        (
            QUESTIONS,
            [{"context": "x", "question": "q", "answers": "y"}],
            "the answer 'y' does not stand in the context",
        ),
        (QUESTIONS, [{"context": "xy", "question": "q", "answers": [{"text": "y", "start": 0}]}], "'y' does not stand"),
        (QUESTIONS, [{"context": "xy", "question": "q", "answers": []}], "line 1 has no answer"),
        (QUESTIONS, [{"context": "xy", "question": "q", "answers": {"text": ["y"], "start": []}}], "as many texts"),
        (PAIRS, [{"source": "x"}], r"no column 'target' .*; say which holds it: 'FILE\?target="),
    ],
)
def test_a_bad_example_is_one_sentence_that_says_where(tmp_path, fields, content, said):
    source = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, content)))
    with pytest.raises(ValueError, match=said):
        load_examples(source, fields=fields)


def test_a_tag_without_a_token_and_pairs_without_partners_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"a\.txt, line 2 has a token, 'came', and no tag"):
        load_examples(write(tmp_path / "a.txt", "Anna B-PER\ncame\n"), fields=TAGS)
    one, two = write(tmp_path / "a.de", "x\n\nz\n"), write(tmp_path / "a.en", "a\nb\n")
    with pytest.raises(ValueError, match=r"a\.de has 3 lines and .*a\.en has 2"):
        load_examples(f"{one}::{two}", fields=PAIRS)
    three = write(tmp_path / "b.en", "a\nb\nc\n")
    with pytest.raises(ValueError, match=r"a\.de, line 2 is empty"):
        load_examples(f"{one}::{three}", fields=PAIRS)
    with pytest.raises(ValueError, match="is not a pair of files"):
        load_examples(f"{one}::{two}::{three}", fields=PAIRS)
    with pytest.raises(ValueError, match="two columns, and context, question, answers are needed"):
        load_examples(f"{one}::{three}", fields=QUESTIONS)
    with pytest.raises(FileNotFoundError, match="there is no file missing"):
        load_examples(f"{one}::missing", fields=PAIRS)


def test_labels_that_were_never_learned_are_refused(tmp_path):
    first, second = (write(tmp_path / name, text) for name, text in (
        ("a.csv", "text,label\nx,good\ny,bad\n"), ("b.csv", "text,label\nx,goood\n")
    ))  # fmt: skip
    with pytest.raises(ValueError, match=r"the label 'goood' of the validation .* \(did you mean 'good'\?\)"):
        load_examples(f"{first}?validation={second}", fields=TEXT)


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        ("sentimnt", FileNotFoundError, r"'sentimnt' is neither .* \(did you mean 'sentiment'\?\)"),
        ("dates", ValueError, "'dates' has source, target; text, label are needed"),
        ("sentiment?trian=5", ValueError, r"'sentiment' has no option 'trian' \(did you mean 'train'\?\)"),
        ("sentiment?train=many", ValueError, "'sentiment' has train=many; expected a number of examples"),
        ("", ValueError, "the name of the examples is empty"),
        ("none.csv", OSError, "cannot read none.csv: No such file"),
        ("none.csv?lable=x", ValueError, r"is given lable=x, which is no option \(did you mean 'label'\?\)"),
    ],
)
def test_an_unknown_name_or_option_is_answered_with_the_nearest(source, kind, said):
    with pytest.raises(kind, match=said):
        load_examples(source, fields=TEXT)


def test_every_example_can_be_read_whatever_its_part(tmp_path):
    one = write(tmp_path / "a+b.csv", "text,label\nx,1\n")  # too little to be split
    assert read_examples(one, fields=TEXT) == [{"text": "x", "label": "1"}]
    more = write(tmp_path / "c.csv", "text,label\ny,2\n")
    assert [each["text"] for each in read_examples(f"{one}?validation={more}", fields=TEXT)] == ["x", "y"]
    assert len(read_examples("dates?train=9&validation=3", fields=PAIRS)) == 12
    assert len(read_examples("dates?train=9&validation=3+numbers?train=5&validation=2", fields=PAIRS)) == 19


@pytest.fixture
def captions(tmp_path, monkeypatch):
    """A stand-in for Multi30k's repository: four files of our own under their own checksums, and an empty cache."""
    folder = tmp_path / "served"
    folder.mkdir()
    sums = {}
    for name in published.MULTI30K_SHA256:
        language = name[-2:]
        content = "".join(f"{language} {name} {i}\n" for i in range(3)).encode()
        write(folder / f"{name}.gz", content)
        sums[name] = published._unpacked_sha256(gzip.compress(content))
    monkeypatch.setattr(published, "MULTI30K_URL", f"{folder.as_uri()}/")
    monkeypatch.setattr(published, "MULTI30K_SHA256", sums)
    monkeypatch.setenv("GLASSFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(published.MULTI30K_VARIABLE, raising=False)
    return folder


def test_multi30k_is_read_from_a_folder_or_downloaded_once(captions, tmp_path):
    named = load_examples(f"multi30k:{captions}", fields=PAIRS)
    assert named.train[0] == {"source": "de train.de 0", "target": "en train.en 0"}
    assert (len(named.train), len(named.validation)) == (3, 3)
    downloaded = load_examples("multi30k", fields=PAIRS)
    assert downloaded.train == named.train
    turned = load_examples("multi30k?source=en&target=de", fields=PAIRS)
    assert turned.train[0] == {"source": "en train.en 0", "target": "de train.de 0"}
    (tmp_path / "cache" / "multi30k" / "val.de.gz").write_bytes(b"damaged")
    assert load_examples("multi30k", fields=PAIRS) == downloaded
    for path in captions.iterdir():
        path.unlink()
    assert load_examples("multi30k", fields=PAIRS) == downloaded


def test_a_forged_or_failed_download_is_refused(captions):
    write(captions / "val.en.gz", "forged\n")
    with pytest.raises(ValueError, match=r"is not Multi30k's val\.en"):
        load_examples("multi30k", fields=PAIRS)
    (captions / "val.en.gz").unlink()
    with pytest.raises(OSError, match=r"cannot download .* set \$GLASSFORMER_MULTI30K to a folder"):
        load_examples("multi30k", fields=PAIRS)
    with pytest.raises(FileNotFoundError, match=r"holds neither val\.en nor val\.en\.gz"):
        load_examples(f"multi30k:{captions}", fields=PAIRS)


TRUE_MULTI30K = Path(__file__).parents[3] / "shared" / "data" / "multi30k"


@pytest.mark.skipif(not TRUE_MULTI30K.is_dir(), reason="no copy of Multi30k beside the repository")
def test_the_true_multi30k_has_our_checksums_and_the_known_sizes():
    for name, sha256 in published.MULTI30K_SHA256.items():
        content = (TRUE_MULTI30K / f"{name}.gz").read_bytes()
        assert published._unpacked_sha256(content) == sha256
    loaded = load_examples(f"multi30k:{TRUE_MULTI30K}", fields=PAIRS)
    assert (len(loaded.train), len(loaded.validation)) == (29_000, 1_014)


class Dataset(list):
    """Rows with features, as `datasets` has them."""

    def __init__(self, rows, **features):
        super().__init__(rows)
        self.features = features


def hub(monkeypatch, **parts):
    """A stand-in for `datasets`; returns what it was asked for."""
    asked = []

    def load_dataset(*arguments):
        asked.append(arguments)
        return parts

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_a_data_set_of_the_hub_is_read_with_its_classes_names(monkeypatch):
    names = types.SimpleNamespace(names=["negative", "positive"])
    train = Dataset([{"sentence": f"s{i}", "label": i % 2} for i in range(4)], sentence=None, label=names)
    asked = hub(monkeypatch, train=train, test=Dataset([{"sentence": "t", "label": 1}], label=names))
    loaded = load_examples("hf:glue:sst2?text=sentence", fields=TEXT)
    assert asked == [("glue", "sst2")]
    assert loaded.train[:2] == [{"text": "s0", "label": "negative"}, {"text": "s1", "label": "positive"}]
    assert loaded.validation == [{"text": "t", "label": "positive"}]
    with pytest.raises(ValueError, match="hf:owner/set, train example 1 has no column 'text'"):
        load_examples("hf:owner/set", fields=TEXT)
    assert asked[-1] == ("owner/set", None)


def test_tags_and_nested_columns_of_the_hub_are_read(monkeypatch):
    tags = types.SimpleNamespace(feature=types.SimpleNamespace(names=["O", "B-PER"]))
    hub(
        monkeypatch, train=Dataset([{"tokens": ["Anna", str(i)], "ner_tags": [1, 0]} for i in range(20)], ner_tags=tags)
    )
    loaded = load_examples("hf:conll?tags=ner_tags", fields=TAGS)
    assert loaded.train[0]["tags"] == ["B-PER", "O"]
    assert len(loaded.validation) == 2
    hub(monkeypatch, train=Dataset([{"translation": {"de": f"d{i}", "en": f"e{i}"}} for i in range(2)]))
    nested = load_examples("hf:wmt?source=translation.de&target=translation.en", fields=PAIRS)
    assert {"source": "d0", "target": "e0"} in [*nested.train, *nested.validation]
    with pytest.raises(ValueError, match=r"has no column 'translation\.fr' \(choose from de, en\)$"):
        load_examples("hf:wmt?source=translation.fr&target=translation.en", fields=PAIRS)


def test_what_is_wrong_with_the_hub_is_said(monkeypatch):
    hub(monkeypatch, test=Dataset([]))
    with pytest.raises(ValueError, match="the data set 'x' has test; a part 'train' is needed"):
        load_examples("hf:x", fields=TEXT)

    def refuse(*_):
        raise ConnectionError("no network")

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", refuse)
    with pytest.raises(OSError, match="cannot load the data set 'x': no network"):
        load_examples("hf:x", fields=TEXT)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'glassformer\[datasets\]'"):
        load_examples("hf:x", fields=TEXT)
