"""What a run trains for: each task is one file, from the recipe to batches, the model with its head, and measures."""

from glassformer.training.tasks.classification import Classification
from glassformer.training.tasks.denoising import Denoising
from glassformer.training.tasks.language_model import LanguageModelling
from glassformer.training.tasks.masked_lm import MaskedLanguageModelling
from glassformer.training.tasks.question_answering import QuestionAnswering
from glassformer.training.tasks.tagging import Tagging
from glassformer.training.tasks.task import Measured, Prepared, Task, Validation
from glassformer.training.tasks.translation import Translation

TASKS: dict[str, type[Task]] = {
    "language_model": LanguageModelling,
    "masked_lm": MaskedLanguageModelling,
    "classification": Classification,
    "tagging": Tagging,
    "question_answering": QuestionAnswering,
    "denoising": Denoising,
    "translation": Translation,
}
"""[task] name -> its settings and what they do."""

__all__ = ["TASKS", "LanguageModelling", "Measured", "Prepared", "Task", "Validation"]
