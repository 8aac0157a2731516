"""Models of others are open forward and backward: nn.Transformer, nn.MultiheadAttention, Hugging Face's BERT."""

from pathlib import Path

import pytest
import torch
from torch import nn

from glassformer.models import BERT
from glassformer.parts import use_kernels
from glassformer.tracing import xray


def test_nn_transformer_is_differentiated_where_it_was_computed() -> None:
    model = nn.Transformer(16, 4, 2, 2, 32, dropout=0.0, batch_first=True)
    trace = xray(model, torch.randn(2, 5, 16), torch.randn(2, 3, 16), backward=True)
    assert trace.error is None
    assert trace.gradients.keys() == {name for name, _ in model.named_parameters()}
    for path in ("encoder.layers.1.linear1", "decoder.layers.0.multihead_attn", "decoder.layers.1.linear2"):
        products = [operation for operation in trace.find(path).operations() if operation.flops]
        forward = sum(operation.flops for operation in products if not operation.is_backward)
        backward = sum(operation.flops for operation in products if operation.is_backward)
        fused = any("scaled_dot_product" in operation.name for operation in products)
        assert backward == 2 * forward or (fused and backward > 2 * forward), path  # fused: scores are made again
    source, target = 2 * 5, 2 * 3
    linears = 2 * 16 * (2 * (4 * 16 + 2 * 32) * source + 2 * (4 * 16 + 2 * 32) * target)
    cross = 2 * 16 * 2 * (2 * 16 * target + 2 * 16 * source)
    attended = sum(4 * 16 * t * s * 2 * 2 for t, s in ((5, 5), (3, 3), (3, 5)))
    assert trace.forward_flops == linears + cross + attended


def test_attention_of_torch_runs_as_one_operator_or_as_many_and_both_are_told() -> None:
    layer = nn.MultiheadAttention(16, 4, batch_first=True)
    x = torch.randn(2, 5, 16)
    fused = xray(layer, x, x, x, need_weights=False)
    plain = xray(layer, x, x, x, need_weights=True)
    names = [{operation.name for operation in trace.operations} for trace in (fused, plain)]
    assert any("scaled_dot_product" in name for name in names[0])
    assert "aten._softmax" in names[1]
    assert fused.flops == plain.flops


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_berts_of_a_folder_cost_the_same_in_both_libraries_and_look_at_the_same(
    tmp_path: Path, implementation: str
) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=12, initializer_range=0.4,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path)
    theirs = transformers.BertModel.from_pretrained(tmp_path, attn_implementation=implementation).eval()
    ours = use_kernels(BERT.from_pretrained(tmp_path), linear="reference", attend="reference").eval()
    ids = torch.randint(50, (2, 7))
    traces = [xray(model, ids, backward=True, attention=True) for model in (theirs, ours)]
    assert [trace.error for trace in traces] == [None, None]
    assert traces[0].forward_flops == traces[1].forward_flops
    torch.testing.assert_close(traces[0].output.last_hidden_state, traces[1].output.last_hidden_state)
    assert list(traces[0].weights) == [f"encoder.layer.{i}.attention.self" for i in range(2)]
    for layer in range(2):
        torch.testing.assert_close(traces[0].attention(layer), traces[1].attention(layer))
    pairs = {"encoder.layer.1.intermediate.dense.weight": "blocks.1.feed_forward.up.weight",
             "encoder.layer.0.attention.self.query.bias": "blocks.0.attention.query.bias",
             "embeddings.word_embeddings.weight": "embed.weight"}  # fmt: skip
    for one, other in pairs.items():
        assert traces[0].gradients[one].abs_max == pytest.approx(traces[1].gradients[other].abs_max, rel=1e-3)
