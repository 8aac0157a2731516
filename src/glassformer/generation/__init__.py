"""Continuing a prompt: greedy, sampled or beam search; whole or streamed; as ids or as text."""

from glassformer.generation.decode import Decoder, Generative, Prompt, generate, stream
from glassformer.generation.options import GenerationOptions
from glassformer.generation.processors import (
    ForcedToken,
    LogitsProcessor,
    MinLength,
    MinP,
    NoRepeatNGram,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)
from glassformer.generation.prompt import Prompts
from glassformer.generation.text import generate_text, prompt_ids, stream_text

__all__ = [
    "Decoder",
    "ForcedToken",
    "GenerationOptions",
    "Generative",
    "LogitsProcessor",
    "MinLength",
    "MinP",
    "NoRepeatNGram",
    "Prompt",
    "Prompts",
    "RepetitionPenalty",
    "Temperature",
    "TopK",
    "TopP",
    "generate",
    "generate_text",
    "prompt_ids",
    "stream",
    "stream_text",
]
