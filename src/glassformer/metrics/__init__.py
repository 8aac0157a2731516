"""How good predictions are: functions of predictions and references, on Python's own types.

From 0 to 1, but for BLEU (0 to 100, as everybody gives it) and perplexity. Equal to scikit-learn, seqeval,
rouge-score, sacrebleu and SQuAD's script, of which only sacrebleu is needed: pip install 'glassformer[metrics]'.
"""

from glassformer.metrics.answers import exact_match, squad_f1
from glassformer.metrics.entities import entities, entity_f1
from glassformer.metrics.judge import METRICS, judge
from glassformer.metrics.labels import accuracy, confusion, confusion_matrix, f1, top_k
from glassformer.metrics.likelihood import bits_per_byte, perplexity
from glassformer.metrics.overlap import bleu, rouge

__all__ = [
    "METRICS",
    "accuracy",
    "bits_per_byte",
    "bleu",
    "confusion",
    "confusion_matrix",
    "entities",
    "entity_f1",
    "exact_match",
    "f1",
    "judge",
    "perplexity",
    "rouge",
    "squad_f1",
    "top_k",
]
