"""The classic mistakes of people who write encoder-decoders and generate from them; see `mutations.py`."""

import math
from dataclasses import replace
from typing import Any

import torch
from mutations import Patch, mistake
from torch import Tensor

from glassformer.generation import GenerationOptions, Prompt, Prompts, beam, processors
from glassformer.models import sequence_to_sequence, t5
from glassformer.models.sequence_to_sequence import Conditioned, SequenceToSequenceModel
from glassformer.ops.mask import Mask
from glassformer.parts import attention, cache, position

# -- positions -----------------------------------------------------------------------------------------------------


@mistake("distances rounded up at the edges of buckets", "t5")
def _(patch: Patch) -> None:
    def wrong(distance: Tensor, num_buckets: int, max_distance: int, *, both_ways: bool) -> Tensor:
        num_buckets = num_buckets // 2 if both_ways else num_buckets
        ahead = num_buckets * (distance > 0) if both_ways else 0
        distance = distance.abs() if both_ways else (-distance).clamp(min=0)
        exact = num_buckets // 2
        far = (distance.clamp(min=1) / exact).log() / math.log(max_distance / exact) * (num_buckets - exact)
        return ahead + torch.where(distance < exact, distance, (exact + far.ceil().long()).clamp(max=num_buckets - 1))

    patch.setattr(position, "distance_bucket", wrong)


@mistake("the decoder's buckets look both ways", "t5")
def _(patch: Patch) -> None:
    right = position.distance_bucket
    patch.setattr(position, "distance_bucket", lambda *args, both_ways: right(*args, both_ways=True))


@mistake("the encoder's buckets look back only", "t5-v1.1")
def _(patch: Patch) -> None:
    right = position.distance_bucket
    patch.setattr(position, "distance_bucket", lambda *args, both_ways: right(*args, both_ways=False))


@mistake("distance from key to query, not from query to key", "t5")
def _(patch: Patch) -> None:
    right = position.distance_bucket
    patch.setattr(
        position, "distance_bucket", lambda distance, *args, both_ways: right(-distance, *args, both_ways=both_ways)
    )


@mistake("with a cache the query's place is counted from 0", "t5", by="decoded_with_a_cache_equals_whole")
def _(patch: Patch) -> None:
    right = position.BucketedBias.forward
    patch.setattr(position.BucketedBias, "forward", lambda self, t, s: right(self, s, s)[:, :, :t])


@mistake("one bias for all blocks where each has its own", "umt5")
def _(patch: Patch) -> None:
    right = t5.T5Stack.forward

    def wrong(self: t5.T5Stack, *args: Any, **options: Any) -> Tensor:
        first = list(self.biases)[:1]
        patch.setattr(self, "biases", torch.nn.ModuleList(first * len(self.biases)))
        return right(self, *args, **options)

    patch.setattr(t5.T5Stack, "forward", wrong)


# -- attention and head --------------------------------------------------------------------------------------------


@mistake("scores divided by the root of the head's width", "t5")
def _(patch: Patch) -> None:
    right = attention.Attention.__init__
    patch.setattr(attention.Attention, "__init__", lambda self, *args, **o: right(self, *args, **o | {"scale": None}))


@mistake("the tied head's input is not scaled", "t5")
def _(patch: Patch) -> None:
    right = t5.T5.__init__
    patch.setattr(t5.T5, "__init__", lambda self, config: right(self, replace(config, scaled=False)))


@mistake("the untied head's input is scaled too", "t5-v1.1")
def _(patch: Patch) -> None:
    right = t5.T5.__init__
    patch.setattr(t5.T5, "__init__", lambda self, config: right(self, replace(config, scaled=True)))


@mistake("cross-attention sees the source's padding", "t5")
def _(patch: Patch) -> None:
    right = t5.T5DecoderBlock.forward
    patch.setattr(t5.T5DecoderBlock, "forward", lambda self, *a, **o: right(self, *a, **o | {"context_mask": Mask()}))


@mistake("the encoder sees the source's padding", "t5-v1.1")
def _(patch: Patch) -> None:
    right = t5.T5EncoderBlock.forward
    patch.setattr(t5.T5EncoderBlock, "forward", lambda self, *a, **o: right(self, *a, **o | {"mask": Mask()}))


@mistake("the target's padding is seen", "t5", by="padded_targets_equal_unpadded")
def _(patch: Patch) -> None:
    right = t5.T5.decode
    patch.setattr(t5.T5, "decode", lambda self, x, c, m=None, dm=None, *, cache=None: right(self, x, c, m, cache=cache))


@mistake("the last norm of the encoder forgotten", "t5")
def _(patch: Patch) -> None:
    def wrong(self: t5.T5, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x, mask = self.embed(input_ids), sequence_to_sequence.padding(attention_mask)
        bias = self.encoder.biases[0](x.shape[1], x.shape[1])
        for block in self.encoder.blocks:
            x = block(x, mask=mask, score_bias=bias)
        return x

    patch.setattr(t5.T5, "encode", wrong)


# -- the cache -----------------------------------------------------------------------------------------------------


@mistake(
    "keys of the context are computed again at each step", "t5-v1.1", by="cached_context_is_read_and_not_made_again"
)
def _(patch: Patch) -> None:
    patch.setattr(cache.LayerCache, "remember", lambda self, context, make: make())


@mistake("an old context's keys serve a new one", "umt5", by="cached_context_is_read_and_not_made_again")
def _(patch: Patch) -> None:
    def wrong(self: cache.LayerCache, context: Tensor, make: Any) -> Any:
        self.context = self.context or (context, *make())
        return self.context[1:]

    patch.setattr(cache.LayerCache, "remember", wrong)


@mistake("beams of a source take the sources in turn", "t5", by="targets_that_share_a_source_equal_each_with_its_own")
def _(patch: Patch) -> None:
    right = attention.rearrange
    patch.setattr(attention, "rearrange", lambda x, how, **n: right(x, how.replace("(r n)", "(n r)"), **n))


# -- labels and generation -----------------------------------------------------------------------------------------


@mistake(
    "labels shifted behind padding instead of the start token",
    "t5-v1.1",
    by="labels_alone_are_shifted_behind_the_start_token",
)
def _(patch: Patch) -> None:
    def wrong(self: SequenceToSequenceModel, labels: Tensor) -> Tensor:
        ids = torch.cat([torch.full_like(labels[:, :1], self.config.pad_token_id), labels[:, :-1]], 1)
        return ids.masked_fill(ids == -100, self.config.pad_token_id)

    patch.setattr(SequenceToSequenceModel, "shift_right", wrong)


@mistake("labels are not shifted", "t5", by="labels_alone_are_shifted_behind_the_start_token")
def _(patch: Patch) -> None:
    patch.setattr(SequenceToSequenceModel, "shift_right", lambda self, labels: labels.clamp(min=0))


@mistake("generation begins with padding instead of the start token", "t5-v1.1", by="generation_equals_hugging_face")
def _(patch: Patch) -> None:
    right = SequenceToSequenceModel.prompt

    def wrong(self: SequenceToSequenceModel, ids: Prompts, mask: Tensor | None, options: GenerationOptions) -> Prompt:
        prompt = right(self, ids, mask, options)
        return prompt._replace(input_ids=torch.full_like(prompt.input_ids, self.config.pad_token_id))  # type: ignore

    patch.setattr(SequenceToSequenceModel, "prompt", wrong)


@mistake("generation forgets the source's mask", "t5", by="generation_equals_hugging_face")
def _(patch: Patch) -> None:
    right = Conditioned.__init__
    patch.setattr(Conditioned, "__init__", lambda self, model, source, present: right(self, model, source, None))


@mistake("a target does not end at the config's end token", "t5", by="targets_end_as_the_config_says")
def _(patch: Patch) -> None:
    right = SequenceToSequenceModel.prompt

    def wrong(self: SequenceToSequenceModel, ids: Prompts, mask: Tensor | None, options: GenerationOptions) -> Prompt:
        prompt = right(self, ids, mask, options)
        return prompt._replace(options=replace(prompt.options, eos_token_id=options.eos_token_id))

    patch.setattr(SequenceToSequenceModel, "prompt", wrong)


@mistake("beams are worth their sum, whatever the length penalty", "t5", by="generation_equals_hugging_face")
def _(patch: Patch) -> None:
    right = beam.beam_search

    def wrong(model: Any, prompts: Tensor, present: Tensor | None, options: GenerationOptions, new: int) -> Tensor:
        return right(model, prompts, present, replace(options, length_penalty=0.0), new)

    patch.setattr("glassformer.generation.decode.beam_search", wrong)


@mistake("the start token counts in the length penalty", "t5-v1.1", by="generation_equals_hugging_face")
def _(patch: Patch) -> None:
    right = beam.beam_search

    def wrong(model: Any, prompts: Tensor, present: Tensor | None, options: GenerationOptions, new: int) -> Tensor:
        class Longer(float):
            def __pow__(self, power: float) -> float:  # type: ignore[override]
                return (float(self) + 1.0) ** power

        patch.setattr(beam, "float", lambda x: x if isinstance(x, str) else Longer(x), raising=False)
        return right(model, prompts, present, options, new)

    patch.setattr("glassformer.generation.decode.beam_search", wrong)


@mistake("the repetition penalty divides logits below 0 too", "t5", by="generation_equals_hugging_face")
def _(patch: Patch) -> None:
    def wrong(self: processors.RepetitionPenalty, ids: Tensor, logits: Tensor) -> Tensor:
        return logits.scatter(1, ids, logits.gather(1, ids) / self.penalty)

    patch.setattr(processors.RepetitionPenalty, "__call__", wrong)
