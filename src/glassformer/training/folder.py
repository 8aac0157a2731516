"""The run folder: what is in it, who may write to it.

runs/NAME/recipe.toml       the recipe, resolved
runs/NAME/tokenizer.json    or glassformer_tokenizer.json; preprocessor_config.json where pictures are looked at
runs/NAME/metrics.jsonl     see glassformer.training.metrics
runs/NAME/checkpoints/      see glassformer.training.checkpoint
runs/NAME/best/             the weights that were best on the validation data
runs/NAME/result.json       what they reach: loss, metrics, the baseline's, the time it took
runs/NAME/*.png             pictures of their predictions, where the task draws some
runs/NAME/model/            the same as a Hugging Face folder, with the tokenizer or image processor
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glassformer.foundation.atomic import atomic_file
from glassformer.training.checkpoint import Checkpoints
from glassformer.training.metrics import METRICS
from glassformer.training.readers import READER_FILES, Readers
from glassformer.training.recipe import Recipe, load_recipe

PICTURES = ("predictions.png", "confusion.png")  # that tasks may draw in the end
RECIPE, RESULT, MODEL_FOLDER, LOCK = "recipe.toml", "result.json", "model", ".lock"
OWN_FILES = (RECIPE, METRICS, RESULT, *READER_FILES, *PICTURES)
OWN_FOLDERS = ("checkpoints", "best", MODEL_FOLDER, "tensorboard")


def is_run(folder: str | Path) -> bool:
    """Whether a folder holds a run (and so `load_run` is to open it, not `from_pretrained`)."""
    return (Path(folder) / RECIPE).is_file()


def check_folder(folder: Path, recipe: Recipe, *, resume: bool, overwrite: bool) -> None:
    """Raise where a run may not be resumed, or begun, in this folder. Nothing is changed."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"the run folder {folder} is a file; expected a folder, or a name that is free")
    if resume and overwrite:
        raise ValueError("resume and overwrite exclude each other: go on with the run, or start it anew")
    if resume and not is_run(folder):
        raise FileNotFoundError(f"{folder} holds no run to go on with (it has no {RECIPE})")
    if resume and (differences := recipe.differences(load_recipe(folder / RECIPE))):
        raise ValueError(f"{folder} holds a run of another recipe, which cannot go on with this one; here "
                         + "; ".join(differences))  # fmt: skip
    if not resume and not overwrite and is_run(folder):
        raise FileExistsError(f"{folder} holds a run already; go on with it (--resume), remove it "
                              "(--overwrite), or choose another folder (--run-folder)")  # fmt: skip


def begin_folder(folder: Path, recipe: Recipe, readers: Readers) -> None:
    """Remove an earlier run, and nothing but it; write down the recipe, and what makes the model's inputs."""
    clear(folder)
    readers.save(folder)
    with atomic_file(folder / RECIPE) as file:
        file.write(recipe.to_toml().encode())


def clear(folder: Path) -> None:
    """Remove a run, and nothing but it."""
    for name in OWN_FILES:  # the recipe goes first: what is left when this is interrupted is no run
        (folder / name).unlink(missing_ok=True)
    for name in OWN_FOLDERS:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)


def clear_unsaved(folder: Path) -> None:
    """Remove a run that ended before it had saved any weights: nothing could go on from it."""
    checkpoints = Checkpoints(folder)
    if not checkpoints.steps() and not checkpoints.best.is_file():
        clear(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in the folder, which is made if need be. The lock ends with the process.

    Where no run is there in the end, nothing is left of the lock and of the folders that were made for it.

    Raises BlockingIOError where another process trains there. On Windows nobody is kept out.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder):
            try:
                yield
            finally:
                if not is_run(folder):
                    (folder / LOCK).unlink(missing_ok=True)
    finally:
        for path in made:
            if not any(path.iterdir()):
                path.rmdir()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock file. BlockingIOError where another process holds it."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, f"another process is training in {folder}") from error
        yield
