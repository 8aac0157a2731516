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
# # Under the hood, 1: the architecture, from softmax to the whole Transformer
#
# A Transformer (Vaswani et al. 2017) turns a row of vectors into a row of vectors. It does so with two kinds of steps:
# in one the vectors look at each other (attention), in the other each is changed by itself (feed-forward). Everything
# else keeps those two healthy.
#
# This chapter builds it from the bottom, in NumPy. Each part comes as its equation, its numbers, and its *gradient*:
# derived, and then measured by moving numbers a little. The code is the library's hand-written half,
# `glassformer.by_hand`; open any file of it beside this page, it reads like the equations here.
#
# | letter | means | | letter | means |
# |---|---|---|---|---|
# | $t$, $s$ | queries, keys (tokens) | | $h$ | heads |
# | $d$ | width of a token's vector | | $k$ | width of a head, $d / h$ |
# | $f$ | width inside the feed-forward layer | | $v$ | size of the vocabulary |

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from glassformer.by_hand import (
    AdamW,
    Mask,
    TokenTransformer,
    TransformerConfig,
    clip_gradients,
    cosine_schedule,
    cross_entropy,
    numerics,
    statistics,
)
from glassformer.by_hand.classification import Options, train, words_of
from glassformer.by_hand.models.transformer_blocks import EncoderBlock, Sublayers
from glassformer.by_hand.ops.attend import attend, attend_backward, softmax_backward
from glassformer.by_hand.parts.attention import Attention
from glassformer.by_hand.parts.norm import LayerNorm
from glassformer.by_hand.parts.position import SinusoidalPosition
from glassformer.text.examples import load_examples
from glassformer.tracing import differences, side_by_side
from glassformer.training.tasks.bag_of_words import bag_of_words

plt.rcParams.update({"figure.dpi": 72, "font.size": 10})
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. Softmax: from scores to shares
#
# $$p_i = \frac{e^{z_i}}{\sum_j e^{z_j}}$$
#
# Any scores become positive numbers that add up to 1. A difference of 1 between two scores is a factor of
# $e \approx 2.7$ between their shares, wherever they lie: adding a constant to all scores changes nothing, because
# $e^{c}$ cancels.
#
# That is more than a curiosity. As written, the equation fails at $z = 1000$, where $e^z$ overflows. Subtract the
# largest score first: the same shares, and no exponent is above 0.

# %%
z = np.array([1.0, 2.0, 3.0])
with np.errstate(over="ignore", invalid="ignore"):
    naive = numerics.naive_softmax(z + 1000)
shifted = {"z": z, "softmax(z)": numerics.softmax(z), "softmax(z + 1000)": numerics.softmax(z + 1000), "naive": naive}
print(side_by_side(shifted))

# %% [markdown]
# **Its gradient.** Write $S = \sum_j e^{z_j}$. Moving $z_j$ changes $p_i$ through the denominator always, and through
# the numerator if $i = j$:
#
# $$\frac{\partial p_i}{\partial z_j} = \frac{\delta_{ij} e^{z_i}}{S} - \frac{e^{z_i} e^{z_j}}{S^2}
#   = p_i\,(\delta_{ij} - p_j)$$
#
# A gradient $\mathrm{d}p$ that arrives from above is passed on as
#
# $$\mathrm{d}z_j = \sum_i \mathrm{d}p_i \, p_i (\delta_{ij} - p_j)
#   = p_j \Bigl(\mathrm{d}p_j - \sum_i \mathrm{d}p_i\, p_i\Bigr)$$
#
# In words: an output gains only as far as its gradient is *above the average*. Each row of the Jacobian adds up to 0,
# since adding a constant changes nothing. To check a gradient we need no calculus: move a number by $\pm 10^{-5}$, look
# what happens, divide.

# %%
p = numerics.softmax(z)
jacobian = np.diag(p) - np.outer(p, p)
measured = np.stack([numerics.finite_differences(lambda i=i: numerics.softmax(z)[i], z) for i in range(3)])
print(side_by_side({"p (δ − p), derived": jacobian, "measured": measured}, decimals=4, differences=True))
dp = np.array([1.0, 0.0, -1.0])
dz = softmax_backward(dp.copy(), p)
print()
print(side_by_side({"dp": dp, "dp through the Jacobian": dp @ jacobian, "dz by the formula": dz}))

# %% [markdown]
# **Softmax and the loss belong together.** The loss of a prediction is $-\log p_y$, with $y$ what was right. The
# logarithm undoes the exponential before anything can overflow, and the gradient becomes the simplest there is:
#
# $$-\log p_y = \log \sum_j e^{z_j} - z_y, \qquad \mathrm{d}z_i = p_i - \delta_{iy}$$
#
# what was predicted, minus what was right.

# %%
loss, dz = numerics.cross_entropy(z[None], np.array([0]))
print(f"loss {loss:.4f}, which is −log {p[0]:.4f} = {-np.log(p[0]):.4f}")
print(side_by_side({"p": p, "p − onehot": dz[0]}))

# %% [markdown]
# ## 2. Attention: a dictionary that is looked up softly
#
# A dictionary has keys and values; a query that equals a key gets its value. Attention loosens this. Keys and queries
# are vectors, a score says how well they fit, and the query gets *a blend of all values*, by shares:
#
# $$\operatorname{Attention}(Q, K, V) = \underbrace{\operatorname{softmax}\!\Bigl(\tfrac{1}{\sqrt k} Q K^\top
#   \Bigr)}_{W:\; t \times s} V$$
#
# Three keys, three values, and two queries. The first query points along the first key, the second lies between the
# first two.

# %%
K = np.array([[4.0, 0.0], [0.0, 4.0], [-4.0, 0.0]])
V = np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
Q = np.array([[2.0, 0.0], [1.0, 1.0]])
out, weights = attend(Q[None, None], K[None, None], V[None, None], mask=Mask(), scale=2**-0.5)
scores, W = Q @ K.T, weights[0, 0]
print(side_by_side({"Q": Q, "K": K, "Q Kᵀ": scores, "/ √2": scores / 2**0.5, "W, its softmax": W}, decimals=2))
print()
print(side_by_side({"W": W, "V": V, "W V": out[0, 0]}))

# %% [markdown]
# The first query gets the first value almost alone. The second gets half of each of the first two, and nearly nothing
# of the third, which points away from it.
#
# ### Why divide by $\sqrt k$?
#
# Let the entries of $q$ and $k$ be independent with mean 0 and variance 1. Each product $q_i k_i$ has mean 0 and
# variance $E[q_i^2] E[k_i^2] = 1$, and variances of independent terms add up:
#
# $$\operatorname{Var}(q \cdot k) = \sum_{i=1}^{k} \operatorname{Var}(q_i k_i) = k$$
#
# So scores grow as $\sqrt k$. Through a softmax, scores of size 16 leave one share near 1 and the others near 0, and
# there the Jacobian $p_i (\delta_{ij} - p_j)$ vanishes: the layer would choose before it has learnt anything, and could
# not learn to choose otherwise. Dividing by $\sqrt k$ puts the variance back to 1, at every width: the blue lines.

# %%
widths = [4, 16, 64, 256, 1024]
print(side_by_side({"width": widths, "variance of q·k": statistics.dot_product_variance(widths)}, decimals=1))
plain, scaled = (statistics.softmax_sharpness(widths, scaled=scaled) for scaled in (False, True))
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.0), layout="constrained")
titles = {"entropy": "entropy of the shares, nats", "gradient": "size of the Jacobian"}
for ax, (name, title) in zip(axes, titles.items(), strict=True):
    ax.plot(widths, getattr(scaled, name), "o-", color=BLUE, label="scores / √k")
    ax.plot(widths, getattr(plain, name), "s--", color=ORANGE, label="scores as they are")
    ax.set(xscale="log", xlabel="width of a head, k", title=title, ylim=(0, None))
    ax.set_xticks(widths, [str(width) for width in widths])
axes[0].axhline(np.log(64), color="black", lw=0.8, ls=":", label="64 keys alike: log 64")
axes[0].legend(fontsize=8)
plt.show()

# %% [markdown]
# ### Its gradient
#
# Everything follows from one rule. For a product $C = A B$, that is $C_{ij} = \sum_l A_{il} B_{lj}$, a gradient
# $\mathrm{d}C$ is passed on as $\mathrm{d}A = \mathrm{d}C\, B^\top$ and $\mathrm{d}B = A^\top \mathrm{d}C$
# (differentiate by $A_{il}$: only row $i$ of $C$ feels it, with the factor $B_{lj}$). Attention is two products with a
# softmax between:
#
# $$\mathrm{d}V = W^\top \mathrm{d}O, \qquad \mathrm{d}W = \mathrm{d}O\, V^\top, \qquad
#   \mathrm{d}S = W \odot \bigl(\mathrm{d}W - \operatorname{rowsum}(\mathrm{d}W \odot W)\bigr), \qquad
#   \mathrm{d}Q = \tfrac{1}{\sqrt k}\,\mathrm{d}S\, K, \qquad \mathrm{d}K = \tfrac{1}{\sqrt k}\,\mathrm{d}S^\top Q$$

# %%
dO = rng.standard_normal(out.shape)


def attended() -> float:
    """A loss: the output times a fixed matrix, summed. Its gradient in the output is that matrix."""
    return float((attend(Q[None, None], K[None, None], V[None, None], mask=Mask(), scale=2**-0.5)[0] * dO).sum())


dQ, dK, dV, _ = attend_backward(dO, Q[None, None], K[None, None], V[None, None], weights, scale=2**-0.5)
for name, x, derived in (("dQ", Q, dQ), ("dK", K, dK), ("dV", V, dV)):
    print(name, differences({"finite differences": numerics.finite_differences(attended, x), "derived": derived[0, 0]}))

# %% [markdown]
# ## 3. Several heads
#
# One softmax can look at one thing at a time. Multi-head attention makes $h$ smaller questions of one: queries, keys
# and values are cut into $h$ parts of width $k = d / h$, each part attends for itself, and a last matrix mixes the
# answers.
#
# $$\operatorname{head}_i = \operatorname{Attention}(X W^Q_i, X W^K_i, X W^V_i), \qquad
#   Y = [\operatorname{head}_1 \dots \operatorname{head}_h]\, W^O$$
#
# Cut $W^O$ into $h$ blocks of rows, and the concatenation turns into a sum: $Y = \sum_i A_i \, X \, (W^V_i W^O_i)$.
# Each head *reads* with $W^V_i$ and *writes* with $W^O_i$; heads do not see each other. Neither parameters,
# $4 d^2$ of them, nor arithmetic depend on $h$.

# %%
x = rng.standard_normal((1, 5, 8))
attention = Attention(8, 2).initialize(0, std=8**-0.5).astype(np.float64)
y = attention(x)
total = np.zeros_like(y)
for head, A in enumerate(attention.weights[0]):
    part = slice(head * 4, head * 4 + 4)
    read, write = attention.value.weight.data[part], attention.output.weight.data[:, part]
    total += A @ x @ read.T @ write.T
print("a sum over heads is what the layer gives:", differences({"the layer": y, "the sum": total}))
print(side_by_side({f"head {i + 1} looks at": A for i, A in enumerate(attention.weights[0])}, decimals=2))

# %% [markdown]
# ## 4. Masks: who may see whom
#
# A score of $-\infty$ is a share of exactly 0, and passes no gradient. Padding hides filler from everybody; the causal
# mask hides the future, so that a model that predicts the next token cannot read it. Masks are conditions and combine.

# %%
present = np.array([[True, True, True, True, False]])
masks = {"all": Mask(), "causal": Mask.causal(), "causal & padding": Mask.causal() & Mask.padding(present)}
shown = {}
for name, mask in masks.items():
    attention(x, mask=mask)
    shown[name] = attention.weights[0, 0]
print(side_by_side(shown, decimals=2))

# %% [markdown]
# ## 5. Positions: putting order in
#
# Without a mask attention treats its input as a *set*: permute the tokens, and the answers are permuted and nothing
# else. Nothing in $q_i \cdot k_j$ knows $i$ or $j$. So each token's vector is given its place, as $d/2$ clocks that
# turn at different speeds:
#
# $$PE(p, 2i) = \sin(\omega_i p), \quad PE(p, 2i{+}1) = \cos(\omega_i p), \qquad \omega_i = 10000^{-2i/d}$$
#
# Why sines *and* cosines? Because then a step of $\Delta$ places is the same rotation everywhere, by the addition
# theorem, and a linear layer can compute it:
#
# $$\begin{pmatrix} \sin \omega (p + \Delta) \\ \cos \omega (p + \Delta) \end{pmatrix} =
#   \begin{pmatrix} \cos \omega \Delta & \sin \omega \Delta \\ -\sin \omega \Delta & \cos \omega \Delta \end{pmatrix}
#   \begin{pmatrix} \sin \omega p \\ \cos \omega p \end{pmatrix}$$
#
# It also follows that $PE(p) \cdot PE(p + \Delta) = \sum_i \cos \omega_i \Delta$: how alike two places are depends on
# their distance alone.

# %%
order = np.array([3, 1, 4, 0, 2])
permuted = {"permuted after": attention(x)[:, order], "permuted before": attention(x[:, order])}
print("attention sees a set:", differences(permuted))

places = SinusoidalPosition(128, 64)(np.arange(128))
turn, angle = 5, 10_000.0 ** -(np.arange(0, 64, 2) / 64) * 5
sin, cos = places[:-turn, 0::2], places[:-turn, 1::2]
later = np.stack([sin * np.cos(angle) + cos * np.sin(angle), cos * np.cos(angle) - sin * np.sin(angle)], -1)
print("five places on is one rotation:", differences({"PE(p + 5)": places[turn:], "turned": later.reshape(-1, 64)}))

# %%
figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.4), layout="constrained")
image = axes[0].imshow(places.T, cmap="cividis", aspect="auto")
axes[0].set(title="sines and cosines, slower towards the bottom", xlabel="place", ylabel="dimension")
figure.colorbar(image, ax=axes[0])
for start, colour in ((20, BLUE), (64, ORANGE), (100, GREEN)):
    axes[1].plot(np.arange(128) - start, places[start] @ places.T, color=colour, label=f"from place {start}")
axes[1].set(title="dot product of two places", xlabel="distance")
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# The three curves lie on top of each other. That is the equation above, seen.
#
# ## 6. LayerNorm: every vector on one scale
#
# $$n = \frac{x - \mu}{\sigma}, \quad \mu = \tfrac1d \sum_i x_i, \quad \sigma = \sqrt{\tfrac1d \sum_i (x_i - \mu)^2 +
#   \varepsilon}, \qquad y = n \odot w + b$$
#
# **Its gradient** is where most hand-written versions go wrong, because every $x_j$ moves every $n_i$: directly,
# through $\mu$, and through $\sigma$. With $\partial \mu / \partial x_j = 1/d$ and
# $\partial \sigma / \partial x_j = \tfrac{1}{2 \sigma} \tfrac{2}{d} (x_j - \mu) = n_j / d$ (the part through $\mu$ is
# $\sum_k (x_k - \mu) = 0$),
#
# $$\frac{\partial n_i}{\partial x_j} = \frac1\sigma \Bigl(\delta_{ij} - \tfrac1d - \tfrac{n_i n_j}{d}\Bigr)
#   \quad\Longrightarrow\quad
#   \mathrm{d}x = \frac1\sigma \bigl(\mathrm{d}n - \operatorname{mean}(\mathrm{d}n)
#   - n \cdot \operatorname{mean}(\mathrm{d}n \odot n)\bigr)$$
#
# Two projections: the gradient loses its part along $(1, \dots, 1)$, which would only shift $x$, and its part along
# $n$, which would only stretch it. Both are changes that the norm takes away. Treating $\mu$ and $\sigma$ as constants
# (the commonest mistake) leaves them in.

# %%
row, gain = np.array([[1.0, 2.0, 3.0, 6.0]]), np.array([1.0, 1.0, 2.0, 1.0])
norm = LayerNorm(4)
norm.weight.assign(gain)
dy = np.array([[1.0, 0.0, 0.0, -1.0]])
print(side_by_side({"x": row, "n w + b": norm(row)}))
by_differences = numerics.finite_differences(lambda: float((norm(row) * dy).sum()), row)
norm(row)
dx = norm.backward(dy)
naive = numerics.naive_layer_norm_backward(dy, row, gain)
print(side_by_side({"measured": by_differences, "derived": dx, "μ, σ as constants": naive}, differences=True))
print(f"along (1, …, 1): {dx.sum():.0e}; along n: {(dx * (row - row.mean())).sum():.0e}, which is ε's")

# %% [markdown]
# ## 7. The feed-forward layer: each token by itself
#
# $$\operatorname{FFN}(x) = W_2 \max(0, W_1 x + b_1) + b_2, \qquad \mathrm{d}x = W_1^\top \bigl( [W_1 x + b_1 > 0] \odot
#   W_2^\top \mathrm{d}y \bigr)$$
#
# Read by rows, it is a memory (Geva et al. 2021): row $i$ of $W_1$ is a pattern, and when it fits, column $i$ of $W_2$
# is added to the output. Attention moves information between tokens, this layer adds what the model knows. With
# $f = 4d$ it has $8 d^2$ parameters to attention's $4 d^2$: two thirds of every block.
#
# ## 8. The residual stream
#
# No sub-layer replaces its input; each adds to it, $x \leftarrow x + F(x)$. Backward, the gradient of the sum reaches
# both terms:
#
# $$\mathrm{d}x = \mathrm{d}y + \Bigl(\tfrac{\partial F}{\partial x}\Bigr)^{\!\top} \mathrm{d}y$$
#
# However little $F$ passes on, $\mathrm{d}y$ arrives whole. Without the sum, gradients are products of as many
# Jacobians as there are layers. And forward something worse happens: an attention layer replaces rows by averages of
# rows, averages of averages are ever more alike, and a deep stack of attention alone turns all tokens into one (Dong et
# al. 2021).
#
# Where does the norm stand? After the sum (2017: post-norm), or on the way into the sub-layer (pre-norm, most models
# since GPT-2), where the stream itself is never touched.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.4), layout="constrained")
for wiring, style, colour in (("pre-norm", "-", BLUE), ("post-norm", "--", GREEN), ("no residual", ":", ORANGE)):
    axes[0].plot(statistics.gradient_norms(12, wiring), style, color=colour, marker="o", ms=3, label=wiring)
axes[0].set(yscale="log", xlabel="before block", title="size of the gradient that arrives", ylabel="‖∂L/∂x‖")
axes[0].legend(fontsize=8)
axes[1].plot(statistics.rank_residuals(12, skip=True), "o-", ms=3, color=BLUE, label="x + attention(x)")
axes[1].plot(statistics.rank_residuals(12), "s:", ms=3, color=ORANGE, label="attention(x)")
axes[1].set(yscale="log", xlabel="layers", title="how far the tokens are from all alike", ylabel="‖x − mean‖ / ‖x‖")
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 9. Blocks, encoder, decoder
#
# * **Encoder block**: $x \leftarrow \operatorname{norm}(x + \operatorname{attention}(x))$, then
#   $x \leftarrow \operatorname{norm}(x + \operatorname{FFN}(x))$. Every token sees every token.
# * **Decoder block**: the same with a causal mask, and between the two a third sub-layer, *cross-attention*: queries
#   from the target, keys and values from what the encoder made of the source.
# * **Whole**: embeddings times $\sqrt d$ plus positions; $N$ encoder blocks; $M$ decoder blocks; and the scores of the
#   next token are dot products with the same embeddings, $z = x E^\top$.
#
# An encoder block, written out by its parts, is what the library's block computes:

# %%
block = EncoderBlock(Sublayers(dim=8, num_heads=2, hidden_dim=32)).initialize(1, std=0.3).astype(np.float64)
attended_x = block.attention_norm(x + block.attention(x))
written_out = block.feed_forward_norm(attended_x + block.feed_forward(attended_x))
print(differences({"the block": block(x, mask=Mask()), "written out": written_out}))

# %%
config = TransformerConfig(vocab_size=12, max_positions=16, dim=32, num_encoder_layers=1, num_decoder_layers=1,
                           num_heads=4, hidden_dim=128, dropout=0.0)  # fmt: skip
model = TokenTransformer(config, seed=None).initialize(0, std=config.dim**-0.5)
for part, count in statistics.parameter_table(config).items():
    print(f"{part:13} {count:7,}")
print(f"{'together':13} {statistics.num_parameters(config):7,} by formula, {model.num_parameters:,} in the model")

# %% [markdown]
# ### All gradients at once
#
# The decoder learns to predict each target token from those before it, all places in parallel ("teacher forcing"): it
# is given the target shifted by one, and the causal mask keeps it honest. The gradient runs back through head, decoder,
# every cross-attention into the encoder, and down to the one embedding table, which collects from three places.
#
# Nothing of this was differentiated by a machine. Is it right? In float64, against finite differences:

# %%
START, END = 0, 1  # tokens 2 to 11 are the digits
exact = TokenTransformer(config, seed=None).initialize(0, std=0.3).astype(np.float64)
source, target = np.array([[5, 9, 2]]), np.array([[2, 9, 5, END]])


def target_loss() -> float:
    return cross_entropy(exact(source, None, exact.shift_right(target)), target)[0]


loss, d_logits = cross_entropy(exact(source, None, exact.shift_right(target)), target)
exact.zero_grad()
exact.backward(d_logits)
derived = {name: parameter.grad.copy() for name, parameter in exact.named_parameters()}
named = dict(exact.named_parameters())
for name in ("embed.weight", "encoder.blocks.0.attention.key.weight", "decoder.blocks.0.cross_attention.query.bias",
             "decoder.blocks.0.feed_forward_norm.weight"):  # fmt: skip
    checked = numerics.finite_differences(target_loss, named[name].data)
    apart = abs(derived[name] - checked).max()
    print(f"{name:45} {derived[name].size:5} numbers, largest {abs(checked).max():.3f}, apart by at most {apart:.0e}")

# %% [markdown]
# ## 10. It learns
#
# A task that needs every part: read digits, write them backwards. The decoder must know how far it has come
# (positions, the causal past), and look up the right digit of the source (cross-attention). 400 steps, a few seconds.

# %%
optimizer, history = AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.0), []
for step in range(400):
    source = rng.integers(2, 12, (32, 6))
    target = np.concatenate([source[:, ::-1], np.full((32, 1), END)], axis=1)
    loss, d_logits = cross_entropy(model(source, None, model.shift_right(target)), target)
    model.zero_grad()
    model.backward(d_logits)
    clip_gradients(model.parameters(), 1.0)
    optimizer.learning_rate = cosine_schedule(step, peak=3e-3, total_steps=400, warmup_steps=40)
    optimizer.step()
    history.append(loss)
source = np.stack([rng.permutation(np.arange(2, 12))[:6] for _ in range(200)])
written = model.generate(source, max_new_tokens=7)
print(f"{(written[:, 1:7] == source[:, ::-1]).all(1).mean():.1%} of 200 new rows come out backwards")
print("read", source[0] - 2, "wrote", written[0, 1:7] - 2)

# %%
model(source[:1], None, written[:1, :7])
seen = model.decoder.blocks[0].cross_attention.weights[0]
figure, axes = plt.subplots(1, 3, figsize=(10.4, 3.2), layout="constrained")
axes[0].plot(history, color=BLUE)
axes[0].set(title="loss", xlabel="step", ylabel="nats per token", ylim=(0, None))
axes[0].axhline(np.log(10), color="black", lw=0.8, ls=":")
axes[0].text(400, np.log(10) + 0.05, "guessing: log 10", ha="right", fontsize=8)
best = np.argsort([np.trace(head[:6, ::-1]) for head in seen])[::-1]
for ax, head in zip(axes[1:], best[:2], strict=True):
    image = ax.imshow(seen[head], cmap="cividis", vmin=0, vmax=1)
    ax.set(title=f"cross-attention, head {head + 1}", xlabel="source", ylabel="about to write")
    ax.set_xticks(range(6), [str(digit) for digit in source[0] - 2])
    ax.set_yticks(range(7), [*(str(digit) for digit in source[0, ::-1] - 2), "end"])
figure.colorbar(image, ax=axes[1:], label="share")
plt.show()

# %% [markdown]
# The heads that do it look along the other diagonal: to write the first digit, at the last one read. Nobody told them.
#
# ## 11. Sentiment: an encoder that reads for meaning
#
# Now an encoder with a class at its end (as BERT: the vector of the first token decides). The sentences are made so
# that single words say nothing: "great" is as frequent in negative ones, because it may be denied. Counting words is
# right in about half of all cases; whoever does better has combined words, and that takes attention. To keep it short
# we leave out sentences with "but" and "although"; `glassformer sentiment` trains on all of them for longer, and
# reaches 96 %.

# %%
contrast = {"but", "however", "yet", "although", "though", "same", "friends", "critics", "whatever"}
everything = load_examples("sentiment", fields=("text", "label"))
plain = replace(everything, **{
    split: [one for one in getattr(everything, split) if not contrast & set(words_of(one["text"]))]
    for split in ("train", "validation")
})  # fmt: skip
learned, held = ([(one["text"], one["label"]) for one in split] for split in (plain.train, plain.validation))
for text, label in learned[2:6]:
    print(f"{label:9} {text}")
print(f"\ncounting words is right in {bag_of_words(plain)['accuracy']:.0%} of {len(held)}")
print("  step   loss  right")
classifier = train(
    learned, held, Options(dim=32, layers=1, heads=4, batch=32, steps=800, learning_rate=3e-3, evaluate_every=100),
    lambda step, loss, accuracy, _seconds: print(f"{step:6}  {loss:.3f}  {accuracy:5.0%}"),
)  # fmt: skip

# %% [markdown]
# For three or four hundred steps nothing happens: denial and praise each say nothing alone, so there is no slope to
# follow. Then a head begins to bring the two together, and soon nearly all is right. Where does the first token look?

# %%
sentences = ("The view was rather lovely.", "The view was hardly lovely.", "The host was by no means dull.")
figure, axes = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
for ax, sentence, label in zip(axes, sentences, classifier.predict(sentences), strict=True):
    words, looks = classifier.attention(sentence)
    image = ax.imshow(looks[0, :, 0].T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.set_yticks(range(len(words)), words)
    ax.set_xticks(range(4), [str(head + 1) for head in range(4)])
    ax.set(title=f"{sentence}\n→ {label}", xlabel="head")
    ax.title.set_fontsize(9)
figure.colorbar(image, ax=axes, label="share of the first token's attention")
plt.show()

# %% [markdown]
# At the denials and at the opinions: some heads have specialised in the one, some in the other.
#
# ## What to take along
#
# * Softmax turns scores into shares; its gradient rewards what is above average; $\sqrt k$ keeps it awake.
# * Attention is two products with a softmax between. Heads are a sum of readers and writers. Masks are zeros.
# * LayerNorm's gradient is two projections. The residual sum is why depth works at all.
# * The whole model is 3 sub-layers, stacked, and every gradient of it fits on this page.
#
# Next: what libraries make of this, operator by operator (`transformer_libraries_explained`).
