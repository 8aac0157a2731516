"""What a run trains for: each task is one file, from the recipe to batches, the model with its head, and measures."""

from glassformer.training.tasks.language_model import LanguageModelling
from glassformer.training.tasks.task import Measured, Prepared, Task, Validation

TASKS: dict[str, type[Task]] = {
    "language_model": LanguageModelling,
}
"""[task] name -> its settings and what they do."""

__all__ = ["TASKS", "LanguageModelling", "Measured", "Prepared", "Task", "Validation"]
