# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Under the hood, 3: by hand, in PyTorch, in Keras
#
# The same computation three times, with numbers small enough for a pencil: softmax, LayerNorm, attention over four
# tokens, four heads, a feed-forward layer, and a whole encoder layer. Every intermediate result is printed, and below
# it how far each library is from the hand. Where the three differ, it is not by accident: the last digits say which sum
# was taken in which order, and the first digits say which default somebody chose.
#
# "By hand" is `glassformer.by_hand`, NumPy and nothing else. Keras runs on its torch backend, which must be said before
# it is imported.

# %%
import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from glassformer.by_hand import Mask
from glassformer.by_hand.models.transformer_blocks import EncoderBlock, Sublayers
from glassformer.by_hand.numerics import layer_norm, layer_norm_backward, softmax
from glassformer.by_hand.ops.attend import attend, softmax_backward
from glassformer.by_hand.parts.activation import gelu, gelu_tanh, relu
from glassformer.by_hand.parts.attention import Attention
from glassformer.by_hand.parts.feed_forward import FeedForward
from glassformer.tracing import compare, differences, record, side_by_side

plt.rcParams.update({"figure.dpi": 72, "font.size": 10})
torch.manual_seed(0)


def tensor(x: np.ndarray) -> torch.Tensor:
    """The same numbers in PyTorch, in float32."""
    return torch.tensor(np.asarray(x), dtype=torch.float32)


def array(x: np.ndarray) -> np.ndarray:
    """And in NumPy, in float32 as well, so that nobody has an advantage."""
    return np.asarray(x, np.float32)


# %% [markdown]
# ## 1. Softmax, three times
#
# Take logarithms as scores, and the shares come out as fractions: $e^{\log 5} = 5$. The first row must give
# $\frac18, \frac28, \frac58$; in the second all are alike. The third would overflow without the maximum taken off.

# %%
z = array([[np.log(1), np.log(2), np.log(5)], [1, 1, 1], [1000, 999, 0]])
top = z.max(-1, keepdims=True)
e = np.exp(z - top)
total = e.sum(-1, keepdims=True)
print(side_by_side({"z": z, "its maximum": top, "exp(z − max)": e, "their sum": total, "quotient": e / total}))
print()
by_torch, by_keras = F.softmax(tensor(z), dim=-1), keras.ops.softmax(z, axis=-1)
print(side_by_side({"by hand": softmax(z), "torch": by_torch, "keras": by_keras}, differences=True))

# %% [markdown]
# **The classic mistake** is the wrong axis. Nothing fails: the columns add up to 1 instead of the rows, and each *key*
# divides itself among the queries.

# %%
wrong = F.softmax(tensor(z), dim=0)
print(side_by_side({"dim=-1, row sums": by_torch.sum(-1), "dim=0, row sums": wrong.sum(-1)}))

# %% [markdown]
# **Backward**: $\mathrm{d}z_j = p_j (\mathrm{d}p_j - \sum_i \mathrm{d}p_i p_i)$. For the first row and $\mathrm{d}p =
# (8, 0, 0)$ the sum is $8 \cdot \frac18 = 1$; so $\mathrm{d}z = (\frac18 \cdot 7, \frac28 \cdot (-1), \frac58 \cdot
# (-1))$. The libraries get it from autograd (Keras on torch has no other).

# %%
dp = array([[8, 0, 0], [0, 3, 0], [1, 1, 1]])
scores, again = tensor(z).requires_grad_(), tensor(z).requires_grad_()
F.softmax(scores, dim=-1).backward(tensor(dp))
keras.ops.softmax(again).backward(tensor(dp))
hand = softmax_backward(dp.copy(), softmax(z))
print(side_by_side({"dp": dp, "dz by hand": hand, "torch": scores.grad, "keras": again.grad}))
print(differences({"by hand": hand, "torch": scores.grad, "keras": again.grad}))

# %% [markdown]
# The last row shows why: where all outputs gain alike, nobody gains.
#
# ## 2. LayerNorm, three times
#
# $n = (x - \mu) / \sqrt{\operatorname{mean}((x - \mu)^2) + \varepsilon}$. The first row has the mean 2 and the variance
# 1, so $n$ is $\pm 1$; the second has the variance 2 and gives $\pm 1.414$.

# %%
x = array([[1, 1, 3, 3], [2, 4, 4, 6], [0.1, 0.1, 0.2, 0.2]])
gain, bias = array([1, 1, 2, 2]), array([0, 0, 0, 1])
mean = x.mean(-1, keepdims=True)
centred = x - mean
variance = (centred**2).mean(-1, keepdims=True)
normal = centred / np.sqrt(variance + 1e-5)
print(side_by_side({"x": x, "mean": mean, "x − mean": centred, "variance": variance, "n": normal}, decimals=4))
print()


def norms(eps: float) -> dict[str, object]:
    """The three, with the same gain, bias and ε."""
    theirs = keras.layers.LayerNormalization(epsilon=eps)
    theirs.build(x.shape)
    theirs.set_weights([gain, bias])
    return {
        "by hand": layer_norm(x, gain, bias, eps),
        "torch": F.layer_norm(tensor(x), (4,), tensor(gain), tensor(bias), eps),
        "keras": theirs(tensor(x)),
    }


print(side_by_side(norms(1e-5), differences=True))

# %% [markdown]
# **The defaults are not the same.** $\varepsilon$ is $10^{-5}$ in PyTorch, $10^{-3}$ in Keras, $10^{-12}$ in BERT. In
# the first row nobody notices. In the third, whose variance is 0.0025, Keras' default takes 15 % off: ported weights
# "almost work".

# %%
theirs, ours = keras.layers.LayerNormalization(), nn.LayerNorm(4)
print(f"ε: keras {theirs.epsilon:g}, torch {ours.eps:g}")
print(side_by_side({"torch's default": ours(tensor(x)), "keras' default": theirs(tensor(x))}, differences=True))
unbiased = centred / x.std(-1, keepdims=True, ddof=1)
print("\nAnother classic, dividing by d − 1 (which torch.std does unless told otherwise):")
print(side_by_side({"n": normal[:2], "with d − 1": unbiased[:2]}, differences=True))

# %% [markdown]
# **Backward.** The two projections of chapter 1: what is left of $\mathrm{d}x$ adds up to 0 in every row.

# %%
dy = array([[1, 0, 0, 0], [0, 0, 0, 1], [0.1, 0, 0.1, 0]])
given = tensor(x).requires_grad_()
F.layer_norm(given, (4,), tensor(gain), tensor(bias)).backward(tensor(dy))
dx, d_gain, d_bias = layer_norm_backward(dy, x, gain)
print(side_by_side({"dy": dy, "dx by hand": dx, "torch": given.grad}))
print(differences({"by hand": dx, "torch": given.grad}), "\n")
print(side_by_side({"row sums of dx": dx.sum(-1), "d gain": d_gain, "d bias": d_bias}))

# %% [markdown]
# ## 3. Attention, on four tokens
#
# Four tokens, "the cat sat down", of width 4, and one head, so $\sqrt k = 2$. All weights are 0 or ±1: queries, keys,
# values and scores can be checked in the head, and each score is a whole number before it is halved.

# %%
X = array([[1, 0, 1, 0], [0, 2, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1]])
WQ = array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]])
WK = array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
WV = array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 2]])
Q, K, V = X @ WQ, X @ WK, X @ WV
print(side_by_side({"X": X, "Q = X WQ": Q, "K = X WK": K, "V = X WV": V}, decimals=0))
print()
S = Q @ K.T / 2
E = np.exp(S)
sums = E.sum(-1, keepdims=True)
W = E / sums
print(side_by_side({"S = Q Kᵀ / 2": S, "exp S": E, "sums": sums, "W = exp S / sums": W}, decimals=2))
print()
print(side_by_side({"W": W, "V": V, "W V": W @ V}, decimals=2))

# %% [markdown]
# Read the second row, that of "cat": its query (1, 2, 0, 0) fits the key of "sat", (1, 1, 0, 0), best. The product is
# 3, halved 1.5, and $e^{1.5} = 4.48$ is 41 % of the 10.92 in the row: so much of the value of "sat" goes into its
# answer.
#
# The libraries' functions, given the same Q, K and V. Mind the axes: PyTorch has heads before tokens, `(b, h, t, k)`,
# and Keras has them behind, `(b, t, h, k)`. With one head and a mistake there, every token would see itself alone.

# %%
ours, _ = attend(Q[None, None], K[None, None], V[None, None], mask=Mask(), scale=0.5)
by_torch = F.scaled_dot_product_attention(*(tensor(y)[None, None] for y in (Q, K, V)))
by_keras = keras.ops.dot_product_attention(*(tensor(y)[None, :, None] for y in (Q, K, V)))
three = {"by hand": ours[0, 0], "torch": by_torch[0, 0], "keras": by_keras[0, :, 0]}
print(side_by_side(three, decimals=2, differences=True))

# %% [markdown]
# **With a mask.** A token may see itself and the past. Softmax over what is left: rows still add up to 1, and the first
# token can only look at itself. PyTorch is told by a flag or a mask in which True means *visible*; in
# `nn.MultiheadAttention` and `nn.Transformer` True means *hidden*. Keras' masks mean visible. Read the page each time.

# %%
_, causal = attend(Q[None, None], K[None, None], V[None, None], mask=Mask.causal(), scale=0.5)
hidden = torch.ones(4, 4, dtype=torch.bool).triu(1)
single = nn.MultiheadAttention(4, 1, bias=False, batch_first=True)
with torch.no_grad():
    single.in_proj_weight.copy_(tensor(np.concatenate([WQ.T, WK.T, WV.T])))
    _, seen = single(*[tensor(X)[None]] * 3, attn_mask=hidden)
shown = {"visible to": (~hidden).int(), "by hand": causal[0, 0], "torch, True = hidden": seen[0]}
print(side_by_side(shown, decimals=2))
print(differences({"by hand": causal[0, 0], "torch": seen[0]}))

words = ("the", "cat", "sat", "down")
figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.9), layout="constrained", sharey=True)
for ax, name, weights in zip(axes, ("everything visible", "causal"), (W, causal[0, 0]), strict=True):
    image = ax.imshow(weights, cmap="cividis", vmin=0, vmax=1)
    ax.set(title=name, xlabel="looks at", xticks=range(4), xticklabels=words, yticks=range(4), yticklabels=words)
    for i, j in np.ndindex(4, 4):
        ax.text(
            j, i, f"{weights[i, j]:.2f}", ha="center", va="center", color="black" if weights[i, j] > 0.5 else "white"
        )
figure.colorbar(image, ax=axes, label="weight")
plt.show()

# %% [markdown]
# ## 4. Four heads
#
# Width 8, four heads of width 2. The three layers hold the same numbers in three ways, and this is where ports go
# wrong:
#
# | | queries | output | |
# |---|---|---|---|
# | by hand, glassformer | `query.weight` (8, 8) | `output.weight` (8, 8) | $x W^\top$, two rows a head |
# | PyTorch | a third of `in_proj_weight` (24, 8) | `out_proj.weight` (8, 8) | $x W^\top$ |
# | Keras | `query/kernel` (8, 4, 2) | `attention_output/kernel` (4, 2, 8) | $x W$, heads on an axis |

# %%
rng = np.random.default_rng(4)
X8 = array(rng.integers(-1, 2, (1, 4, 8)))
ours = Attention(8, 4, biased="")
for layer in (ours.query, ours.key, ours.value, ours.output):
    layer.weight.assign(array(rng.integers(-1, 2, (8, 8)) * 0.5))

in_torch = nn.MultiheadAttention(8, 4, bias=False, batch_first=True)
in_keras = keras.layers.MultiHeadAttention(num_heads=4, key_dim=2, use_bias=False)
in_keras(tensor(X8), tensor(X8))  # Keras makes its weights at the first call
three = [layer.weight.data for layer in (ours.query, ours.key, ours.value)]
with torch.no_grad():
    in_torch.in_proj_weight.copy_(tensor(np.concatenate(three)))
    in_torch.out_proj.weight.copy_(tensor(ours.output.weight.data))
in_keras.set_weights([*(W.T.reshape(8, 4, 2) for W in three), ours.output.weight.data.T.reshape(4, 2, 8)])

# %%
out = ours(X8)
q = ours.query(X8)[0]
print(side_by_side({"x": X8[0], "queries of all heads": q}, decimals=1))
print()
by_head = q.reshape(4, 4, 2).swapaxes(0, 1)
print(side_by_side({"by head: queries": by_head, "where it looks": ours.weights[0]}, decimals=2))

# %%
with torch.no_grad():
    by_torch, torch_weights = in_torch(*[tensor(X8)] * 3, average_attn_weights=False)
    by_keras, keras_weights = in_keras(tensor(X8), tensor(X8), return_attention_scores=True)
print("weights:", differences({"by hand": ours.weights, "torch": torch_weights, "keras": keras_weights}))
print("output: ", differences({"by hand": out, "torch": by_torch, "keras": by_keras}), "\n")
print(side_by_side({"by hand": out[0], "torch": by_torch[0]}, decimals=2))

# %% [markdown]
# What would have happened had we read Keras' kernel as `(8, 2, 4)`, the two last axes exchanged? The shapes fit once
# flattened, no error is raised, and every head is made of pieces of others:

# %%
mixed = [W.T.reshape(8, 2, 4).swapaxes(1, 2) for W in three]
in_keras.set_weights([*mixed, ours.output.weight.data.T.reshape(4, 2, 8)])
with torch.no_grad():
    print(differences({"by hand": out, "heads and their width exchanged": in_keras(tensor(X8), tensor(X8))}))

# %% [markdown]
# ## 5. Feed-forward
#
# $y = W_2 \max(0, W_1 x + b_1) + b_2$, from 4 to 6 and back. Whole numbers all the way: here the libraries agree to the
# last bit, because sums of small whole numbers are exact in any order.

# %%
up, up_bias = array(rng.integers(-1, 2, (6, 4))), array([0, 0, 1, 0, -1, 0])
down, down_bias = array(rng.integers(-1, 2, (4, 6))), array([0, 1, 0, 0])
feed = FeedForward(4, 6, activation=relu)
feed.load_state_dict({"up.weight": up, "up.bias": up_bias, "down.weight": down, "down.bias": down_bias})
u = feed.up(X)
print(side_by_side({"x": X, "u = W₁ x + b₁": u, "max(0, u)": np.maximum(u, 0), "y": feed(X)}, decimals=0))

in_torch = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))
in_keras = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(6, activation="relu"), keras.layers.Dense(4)])
with torch.no_grad():
    for parameter, value in zip(in_torch.parameters(), (up, up_bias, down, down_bias), strict=True):
        parameter.copy_(tensor(value))
    in_keras.set_weights([up.T, up_bias, down.T, down_bias])  # kernels are (in, out)
    print()
    print(differences({"by hand": feed(X), "torch": in_torch(tensor(X)), "keras": in_keras(tensor(X))}))

# %% [markdown]
# **Which GELU?** The exact one has the normal distribution's $\Phi$ in it; GPT-2 and the code that came with
# BERT have an approximation by tanh. They differ by up to 5e-4: little, but in every number of every layer.

# %%
u = array([[-2, -1, -0.5, 0, 0.5, 1, 2]])
for name, hand, approximate in (("x Φ(x)", gelu(u), "none"), ("with tanh", gelu_tanh(u), "tanh")):
    by_torch = F.gelu(tensor(u), approximate=approximate)
    by_keras = keras.activations.gelu(tensor(u), approximate=approximate == "tanh")
    print(f"{name:10}", differences({"by hand": hand, "torch": by_torch, "keras": by_keras}))
print(side_by_side({"u": u, "x Φ(x)": gelu(u), "with tanh": gelu_tanh(u)}, decimals=4))

# %% [markdown]
# ## 6. A whole encoder layer
#
# Width 4, two heads, 6 wide inside, norms behind the sums. First by hand, part by part; then
# `nn.TransformerEncoderLayer` and a layer put together in Keras, with the same numbers.

# %%
block = EncoderBlock(Sublayers(dim=4, num_heads=2, hidden_dim=6))
drawn = {name: array(rng.integers(-2, 3, value.shape) / 2) for name, value in block.state_dict().items()}
gains = {f"{name}.weight": array([1, 1, 1, 2]) for name in ("attention_norm", "feed_forward_norm")}
block.load_state_dict(drawn | gains)
x = X[None]

attended = block.attention(x)
queries, keys, values = (part(x)[0] for part in (block.attention.query, block.attention.key, block.attention.value))
print(side_by_side({"x": x[0], "queries": queries, "keys": keys, "values": values}, decimals=1))
print()
summed = x + attended
first = block.attention_norm(summed)
print(side_by_side({"weights of both heads": block.attention.weights[0], "attention(x)": attended[0]}, decimals=2))
print()
print(side_by_side({"a = attention(x)": attended[0], "x + a": summed[0], "m = norm(x + a)": first[0]}, decimals=2))
print()
inner = block.feed_forward.up(first)
fed = block.feed_forward(first)
second = block.feed_forward_norm(first + fed)
print(side_by_side({"W₁ m": inner[0], "f = W₂ max(0, W₁ m)": fed[0], "norm(m + f)": second[0]}, decimals=2))
print()
print(differences({"part by part": second, "the block": block(x, mask=Mask())}))

# %% [markdown]
# The library's layer, given these weights. `record` listens to the modules inside it, so that each intermediate result
# can be laid beside the hand's.

# %%
layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=6, dropout=0.0, batch_first=True)
hand, PARTS = block.state_dict(), ("query", "key", "value")
names = {
    "self_attn.out_proj": "attention.output", "linear1": "feed_forward.up", "linear2": "feed_forward.down",
    "norm1": "attention_norm", "norm2": "feed_forward_norm",
}  # fmt: skip
state = {f"{theirs}.{leaf}": hand[f"{mine}.{leaf}"] for theirs, mine in names.items() for leaf in ("weight", "bias")}
for leaf in ("weight", "bias"):
    state[f"self_attn.in_proj_{leaf}"] = np.concatenate([hand[f"attention.{part}.{leaf}"] for part in PARTS])
layer.load_state_dict({name: tensor(value) for name, value in state.items()})

heard = record(layer, ["self_attn", "norm1.input", "norm1", "linear1", "linear2", "norm2"], tensor(x))
steps = {
    "attention(x)": (attended, "self_attn"), "x + attention(x)": (summed, "norm1.input"), "norm": (first, "norm1"),
    "W₁ m": (inner, "linear1"), "W₂ max(0, W₁ m)": (fed, "linear2"), "the output": (second, "norm2"),
}  # fmt: skip
for step, (mine, theirs) in steps.items():
    print(f"{step:17}", differences({"by hand": mine, f"torch's {theirs}": heard[theirs]}))
print()
print(side_by_side({"by hand": second[0], "torch": heard["norm2"][0]}))

# %% [markdown]
# In Keras a layer like this is put together from its parts.


# %%
def kernel(name: str) -> np.ndarray:
    """A matrix as Keras keeps it: inputs first."""
    return hand[f"{name}.weight"].T


inputs = keras.Input((4, 4))
look = keras.layers.MultiHeadAttention(num_heads=2, key_dim=2, name="attention")
y = keras.layers.LayerNormalization(epsilon=1e-5, name="norm1")(inputs + look(inputs, inputs))
z = keras.layers.Dense(4, name="down")(keras.layers.Dense(6, activation="relu", name="up")(y))
in_keras = keras.Model(inputs, keras.layers.LayerNormalization(epsilon=1e-5, name="norm2")(y + z))

weights = []
for part in PARTS:
    weights += [kernel(f"attention.{part}").reshape(4, 2, 2), hand[f"attention.{part}.bias"].reshape(2, 2)]
look.set_weights([*weights, kernel("attention.output").reshape(2, 2, 4), hand["attention.output.bias"]])
for theirs, mine in (("up", "feed_forward.up"), ("down", "feed_forward.down")):
    in_keras.get_layer(theirs).set_weights([kernel(mine), hand[f"{mine}.bias"]])
for theirs, mine in (("norm1", "attention_norm"), ("norm2", "feed_forward_norm")):
    in_keras.get_layer(theirs).set_weights([hand[f"{mine}.weight"], hand[f"{mine}.bias"]])
print(differences({"by hand": second, "torch": layer(tensor(x)), "keras": in_keras(tensor(x))}))

# %% [markdown]
# ### And backward
#
# One gradient comes in at the top, and sixteen parameters get theirs, and the input. By hand the layer's `backward`
# runs the equations of chapter 1 in reverse; PyTorch and Keras have autograd. All three, beside each other:

# %%
dy = array(rng.integers(-1, 2, x.shape))
block(x, mask=Mask())
block.zero_grad()
dx = block.backward(dy)
given, again = tensor(x).requires_grad_(), tensor(x).requires_grad_()
layer(given).backward(tensor(dy))
in_keras(again).backward(tensor(dy))
print(side_by_side({"dx by hand": dx[0], "torch": given.grad[0], "keras": again.grad[0]}, decimals=2))
print(differences({"dx by hand": dx, "torch": given.grad, "keras": again.grad}), "\n")
gradients = {name: parameter.grad for name, parameter in block.named_parameters()}
for theirs, mine in names.items():
    found = layer.get_parameter(f"{theirs}.weight").grad
    print(f"{mine + '.weight':26}", differences({"by hand": gradients[f"{mine}.weight"], "torch": found}))
stacked = np.concatenate([gradients[f"attention.{part}.weight"] for part in PARTS])
found = layer.self_attn.in_proj_weight.grad
print(f"{'query, key, value':26}", differences({"by hand": stacked, "torch": found}))
bias = gradients["attention.key.bias"]
print(f"\nthe keys' bias gets {abs(bias).max():.0e}, nothing: it adds the same to all scores of a query")

# %% [markdown]
# ## 7. When they do not agree
#
# In practice one has two models, a number that differs, and no idea where. `compare` runs both, finds the first place
# where they part, *tests* what might be the reason by undoing it, and says which it was. Let us plant one: a second
# layer whose last norm has Keras' $\varepsilon$.

# %%
other = nn.TransformerEncoderLayer(4, 2, dim_feedforward=6, dropout=0.0, batch_first=True)
other.load_state_dict(layer.state_dict())
print(compare(layer, other, tensor(x)).sentence)
other.norm2.eps = 1e-3
print(compare(layer, other, tensor(x)).sentence)

# %% [markdown]
# ## What to take along
#
# * The mathematics is the same everywhere, to a few units in the last place of float32 (6e-08 of the largest number).
# * What differs is storage (rows or columns, heads on an axis, three matrices in one), axes, defaults ($\varepsilon$,
#   GELU), and what True means in a mask. None of these raises an error.
# * So port with a comparison beside you, intermediate by intermediate, and with weights that are not 0 and not 1.
