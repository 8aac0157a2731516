"""From a path or a hub id to a folder on this machine."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")


def resolve(path_or_id: str | os.PathLike[str], files: Sequence[str]) -> Path:
    """The folder that is meant: a folder here, or a hub id (`openai-community/gpt2`, or with `@revision`), downloaded.

    Of what the hub has, `files` are downloaded, in which * stands for any letters, and nothing else.

    Raises:
        FileNotFoundError: neither a folder here nor a hub id; or the hub has no such model.
        NotADirectoryError: a file.
        ModuleNotFoundError: a hub id, and `huggingface_hub` is not installed.
        OSError: the hub cannot be reached, and the model was not downloaded before.
    """
    path, name = Path(path_or_id).expanduser(), os.fspath(path_or_id)
    if name and path.is_dir():
        return path
    if name and path.exists():
        raise NotADirectoryError(f"{name} is a file; give the folder that holds it and config.json: {path.parent}")
    if not isinstance(path_or_id, str) or not HUB_ID.fullmatch(name):
        raise FileNotFoundError(f"there is no folder {name!r} (and it is not the form of a hub id, 'owner/model')")
    return download(name, files)


def download(hub_id: str, files: Sequence[str]) -> Path:
    """Files of a model from the Hugging Face hub, or from its cache on this machine."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ModuleNotFoundError(
            f"there is no folder {hub_id!r}; to download it from the Hugging Face hub: pip install 'glassformer[hub]'"
        ) from error
    repository, _, revision = hub_id.partition("@")
    try:
        folder = huggingface_hub.snapshot_download(repository, revision=revision or None, allow_patterns=[*files])
    except errors.GatedRepoError as error:
        raise PermissionError(
            f"{repository!r} is gated: agree at https://huggingface.co/{repository} and log in (hf auth login)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"the hub's {repository!r} has no revision {revision!r}") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise FileNotFoundError(
            f"there is no folder {hub_id!r}, and no model {repository!r} on the hub (a private one needs hf auth login)"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise OSError(
            f"there is no folder {hub_id!r} here, the Hugging Face hub cannot be reached, and its cache does not hold "
            f"{repository!r}; connect, or give a folder"
        ) from error
    except Exception as error:  # of its own, of httpx, of the disk: all say why, and all mean that there is no model
        raise OSError(f"the download of {repository!r} from the Hugging Face hub failed: {error}") from error
    return Path(folder)
