"""What a trained model says of texts: classes, tags, answers, targets; and how probable it finds a text. And what it
sees in pictures: classes, boxes, masks.

Texts are cut where a model has no room for more, sorted by length, and computed in batches; what comes back is in the
order of the inputs.
"""

from glassformer.prediction.answers import predict_answers
from glassformer.prediction.clip_classes import predict_clip_classes
from glassformer.prediction.image_boxes import predict_boxes
from glassformer.prediction.image_classes import predict_image_classes
from glassformer.prediction.image_masks import predict_class_maps, predict_masks
from glassformer.prediction.labels import predict_classes, predict_tags
from glassformer.prediction.likelihood import Likelihood, text_likelihood
from glassformer.prediction.targets import predict_targets
from glassformer.prediction.task import predict, task_of

__all__ = [
    "Likelihood",
    "predict",
    "predict_answers",
    "predict_boxes",
    "predict_class_maps",
    "predict_classes",
    "predict_clip_classes",
    "predict_image_classes",
    "predict_masks",
    "predict_tags",
    "predict_targets",
    "task_of",
    "text_likelihood",
]
