"""What a trained model says of texts: classes, tags, answers, targets; and how probable it finds a text.

Inputs are cut where a model has no room for more, sorted by length, and computed in batches; what comes back is in the
order of the inputs.
"""

from glassformer.prediction.answers import predict_answers
from glassformer.prediction.labels import predict_classes, predict_tags
from glassformer.prediction.likelihood import Likelihood, text_likelihood
from glassformer.prediction.targets import predict_targets
from glassformer.prediction.task import predict, task_of

__all__ = [
    "Likelihood",
    "predict",
    "predict_answers",
    "predict_classes",
    "predict_tags",
    "predict_targets",
    "task_of",
    "text_likelihood",
]
