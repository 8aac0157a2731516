"""What a run trains for: each task is one file, from the recipe to batches, the model with its head, and measures.

A new one is a `Task` and a `Validation` in a file here, and a row in `TASKS`; `image_classification` shows it whole.

    class attributes   `data` (Texts, Pictures: the kind of [data]), `reads` ("tokenizer", "processor": what is saved
                       with the model), `unit` (what is counted as read), `metric` (chosen by), `found_in_data`
    prepare            the data, as batches for `model(**inputs)`, whose output has a `loss`. Of pictures (a
                       `PictureTask`): `pictures_of`, `labelled`, `Seen`, and `prepared` makes all of these. Generated
                       ones come by their numbers: `Rows(Counting(batch_size=..., seed=...), make)`, those to validate
                       on by another seed
    Batch              `labels` may be a list with the objects of each picture; `counted` is then the pictures, else
                       the entries but `ignored` (255 in semantic maps)
    Validation         `batches`, `keep` (what to remember of a batch's output), `measure` (metrics of all that was
                       kept; with `final`, and `more_in_the_end`, also `predictions.png` by `glassformer.image.draw`)
    build              the model: `head_of(config, "image_classification")`
"""

from glassformer.training.tasks.classification import Classification
from glassformer.training.tasks.denoising import Denoising
from glassformer.training.tasks.detection import Detection
from glassformer.training.tasks.distillation import Distillation
from glassformer.training.tasks.image_classification import ImageClassification
from glassformer.training.tasks.language_model import LanguageModelling
from glassformer.training.tasks.mask_segmentation import MaskSegmentation
from glassformer.training.tasks.masked_lm import MaskedLanguageModelling
from glassformer.training.tasks.masked_video import MaskedVideo
from glassformer.training.tasks.question_answering import QuestionAnswering
from glassformer.training.tasks.reconstruction import Reconstruction
from glassformer.training.tasks.semantic_segmentation import SemanticSegmentation
from glassformer.training.tasks.tagging import Tagging
from glassformer.training.tasks.task import Measures, Prepared, Task, Validation
from glassformer.training.tasks.translation import Translation
from glassformer.training.tasks.video_classification import VideoClassification

TASKS: dict[str, type[Task]] = {
    "language_model": LanguageModelling,
    "masked_lm": MaskedLanguageModelling,
    "classification": Classification,
    "tagging": Tagging,
    "question_answering": QuestionAnswering,
    "denoising": Denoising,
    "translation": Translation,
    "image_classification": ImageClassification,
    "semantic_segmentation": SemanticSegmentation,
    "mask_segmentation": MaskSegmentation,
    "detection": Detection,
    "reconstruction": Reconstruction,
    "distillation": Distillation,
    "video_classification": VideoClassification,
    "masked_video": MaskedVideo,
}
"""[task] name -> its settings and what they do."""

__all__ = ["TASKS", "LanguageModelling", "Measures", "Prepared", "Task", "Validation"]
