"""Paths and hub ids."""

import sys
from functools import partial

import pytest

from glassformer.foundation import hub

resolve = partial(hub.resolve, files=("config.json",))


def test_a_folder_is_itself(tmp_path, monkeypatch):
    assert resolve(tmp_path) == tmp_path
    (tmp_path / "openai-community" / "gpt2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("openai-community/gpt2").is_dir(), "a folder that is here is meant before the hub"


def test_a_file_is_refused_with_its_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=f"is a file; give the folder .*{tmp_path}$"):
        resolve(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["./nothing", "/nothing", "a/b/c", "../a", "two words", "", "a//b", "~/nothing-here"])
def test_what_is_neither_a_folder_nor_an_id_is_refused(name):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        resolve(name)


def test_without_huggingface_hub_the_command_to_install_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'glassformer\[hub\]'"):
        resolve("someone/something")


def test_offline_is_said_in_one_sentence(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match="hub cannot be reached, and its cache does not hold 'someone/something'"):
        resolve("someone/something")


def failing(error: type[Exception]):
    def download(repository: str, **options):
        raise error.__new__(error, "no")  # their constructors ask for a whole HTTP response

    return download


@pytest.mark.parametrize(
    ("name", "kind", "fault"),
    [
        ("GatedRepoError", PermissionError, "is gated: agree at https://huggingface.co/someone/something"),
        ("RevisionNotFoundError", FileNotFoundError, "has no revision 'v2'"),
        ("RepositoryNotFoundError", FileNotFoundError, "no model 'someone/something' on the hub"),
        ("HFValidationError", FileNotFoundError, "no model 'someone/something' on the hub"),
        ("LocalEntryNotFoundError", OSError, "cannot be reached"),
        ("OfflineModeIsEnabled", OSError, "cannot be reached"),
        ("XetDownloadError", OSError, "the download of 'someone/something' .* failed"),
        ("HfHubHTTPError", OSError, "the download of 'someone/something' .* failed"),
    ],
)
def test_each_failure_of_the_hub_has_its_sentence(monkeypatch, name, kind, fault):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    error = getattr(pytest.importorskip("huggingface_hub.errors"), name)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing(error))
    with pytest.raises(kind, match=fault):
        resolve("someone/something@v2")


def test_the_files_that_are_asked_for_are_downloaded(monkeypatch, tmp_path):
    huggingface_hub, asked = pytest.importorskip("huggingface_hub"), {}

    def download(name: str, **options) -> str:
        asked.update(name=name, **options)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("someone/something@v2") == tmp_path
    assert asked == {"name": "someone/something", "revision": "v2", "allow_patterns": ["config.json"]}
