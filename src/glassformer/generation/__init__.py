"""Continuing a prompt: greedy, sampled or beam search; streamed; as ids or as text."""

from glassformer.generation.decode import generate, stream
from glassformer.generation.options import GenerationOptions
from glassformer.generation.processors import LogitsProcessor, MinP, RepetitionPenalty, Temperature, TopK, TopP

__all__ = [
    "GenerationOptions",
    "LogitsProcessor",
    "MinP",
    "RepetitionPenalty",
    "Temperature",
    "TopK",
    "TopP",
    "generate",
    "stream",
]
