"""Continuing a prompt: greedy, sampled or beam search; whole or streamed; as ids or as text."""

from glassformer.generation.decode import Generative, generate, stream
from glassformer.generation.options import GenerationOptions
from glassformer.generation.processors import LogitsProcessor, MinP, RepetitionPenalty, Temperature, TopK, TopP
from glassformer.generation.text import generate_text, stream_text

__all__ = [
    "GenerationOptions",
    "Generative",
    "LogitsProcessor",
    "MinP",
    "RepetitionPenalty",
    "Temperature",
    "TopK",
    "TopP",
    "generate",
    "generate_text",
    "stream",
    "stream_text",
]
