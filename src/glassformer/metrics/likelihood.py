"""What a text's probability says of a language model."""

import math


def perplexity(nats: float, tokens: int) -> float:
    """exp of the mean −log p of a token: as unsure as among so many equally probable ones; inf past 10³⁰⁴."""
    if tokens < 1:
        raise ValueError(f"tokens is {tokens}; a perplexity needs at least one predicted token")
    mean = nats / tokens
    return math.exp(mean) if mean < 700 else math.inf


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """−log₂ p of a text by its bytes, which compares models with different tokenizers."""
    if num_bytes < 1:
        raise ValueError(f"num_bytes is {num_bytes}; bits per byte need at least one byte")
    return nats / math.log(2) / num_bytes
