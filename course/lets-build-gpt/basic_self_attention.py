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
# # Let's build GPT, 2: self-attention, step by step
#
# Each token should learn something from the tokens before it. We go from the plainest way of doing that — an average,
# computed with loops — to multi-head self-attention, in steps that each change one thing and are checked against the
# step before.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from glassformer.ops.mask import Mask
from glassformer.parts import Attention, Linear, kernels

plt.rcParams.update({"figure.dpi": 72, "font.size": 10})
torch.manual_seed(0)
torch.set_printoptions(precision=2, sci_mode=False)
b, t, d = 2, 6, 8  # batch, tokens, width
x = torch.randn(b, t, d)

# %% [markdown]
# ## Step 1: average what came before, with loops
#
# $$y_i = \frac{1}{i} \sum_{j \le i} x_j$$
#
# A token may use itself and the past, never the future: the future is what it is to predict.

# %%
averages = torch.zeros_like(x)
for row in range(b):
    for i in range(t):
        averages[row, i] = x[row, : i + 1].mean(dim=0)

# %% [markdown]
# ## Step 2: the same as one product with a masked matrix
#
# Averaging is a weighted sum, and weighted sums of all tokens at once are a product with a matrix of weights: row i
# says how much of each token goes into $y_i$. Zeros above the diagonal hide the future.

# %%
weights = torch.ones(t, t).tril()
weights = weights / weights.sum(dim=-1, keepdim=True)
print(weights)
print("the same as with loops:", torch.allclose(weights @ x, averages, atol=1e-6))

# %% [markdown]
# ## Step 3: the same as a softmax of scores
#
# Write the weights as a softmax: equal scores give equal weights, and a score of −∞ gives the weight 0. Nothing has
# changed yet, but now the scores are free to say *how interesting* each token is.

# %%
visible = Mask.causal().visible(t, t, x.device)[0, 0]
scores = torch.zeros(t, t).masked_fill(~visible, -torch.inf)
print(scores)
print("the same again:", torch.allclose(scores.softmax(-1) @ x, averages, atol=1e-6))

# %% [markdown]
# ## Step 4: let each token say what it looks for
#
# Each token computes three vectors from itself: a *query* (what I look for), a *key* (what I am), a *value* (what I
# have to say). The score of token j for token i is how well they fit, $q_i \cdot k_j$.
#
# $$\operatorname{Attention}(Q, K, V) = \operatorname{softmax}\!\left(\frac{Q K^\top}{\sqrt{k}}\right) V$$

# %%
k = 4  # the width of a head
query, key, value = (Linear(d, k, bias=False) for _ in range(3))
for layer in (query, key, value):
    torch.nn.init.normal_(layer.weight)
q, ks, v = query(x), key(x), value(x)
scores = q @ ks.transpose(-2, -1) / k**0.5
scores = scores.masked_fill(~visible, -torch.inf)
weights = scores.softmax(-1)
y = weights @ v
print(weights[0].detach())

# %% [markdown]
# Each row is a distribution over the past, and now they differ: the average has become a choice. PyTorch's own kernel
# computes the same:

# %%
theirs = F.scaled_dot_product_attention(q, ks, v, is_causal=True)
print("the same as F.scaled_dot_product_attention:", torch.allclose(y, theirs, atol=1e-6))

# %% [markdown]
# ## Why divide by √k?
#
# If the entries of q and k have mean 0 and variance 1, their product of k terms has variance k. Large scores push the
# softmax towards one token — before anything has been learnt — and there its gradient vanishes. Dividing by √k keeps
# the variance at 1. Measured:

# %%
widths = [4, 16, 64, 256, 1024]
print("width   variance of q·k   scaled   largest weight of 16, plain   scaled")
for width in widths:
    dots = (torch.randn(4000, 1, width) * torch.randn(4000, 16, width)).sum(-1)
    plain, scaled = (s.softmax(-1).max(-1).values.mean() for s in (dots, dots / width**0.5))
    print(f"{width:5}   {dots.var():15.1f}   {dots.var() / width:6.2f}   {plain:27.2f}   {scaled:6.2f}")

# %% [markdown]
# ## Step 5: several heads
#
# One softmax can look at one thing at a time. So we split the width into h heads that each look for themselves, put
# their answers side by side, and mix them with one more linear layer. That is the whole of the library's `Attention`;
# its reference kernel is the equation above, word for word.

# %%
attention = Attention(d, num_heads=2)
for parameter in attention.parameters():
    torch.nn.init.normal_(parameter, std=0.5)

heads = []
for h in range(2):
    part = slice(h * 4, (h + 1) * 4)
    qh, kh, vh = (layer(x)[..., part] for layer in (attention.query, attention.key, attention.value))
    scores = (qh @ kh.transpose(-2, -1) / 4**0.5).masked_fill(~visible, -torch.inf)
    heads.append(scores.softmax(-1) @ vh)
by_hand = attention.output(torch.cat(heads, dim=-1))
print("two heads by hand = Attention:", torch.allclose(by_hand, attention(x, mask=Mask.causal()), atol=1e-5))

# %% [markdown]
# ## Looking at the weights
#
# A fused kernel never forms the weights, so to see them we run the reference kernel and listen at the tap that every
# attention layer has. Above: nothing may see the future. Below: with padding as well, which nobody may see.


# %%
def watch(mask: Mask) -> torch.Tensor:
    """The weights (h, t, t) of the first row."""
    seen = []
    handle = attention.weights.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    with torch.no_grad(), kernels(attention, attend="reference"):
        attention(x, mask=mask)
    handle.remove()
    return seen[0][0]


present = torch.tensor([[False, False, True, True, True, True]] * b)
figure, axes = plt.subplots(2, 2, figsize=(6, 5.6), sharex=True, sharey=True, layout="constrained")
for row, (name, mask) in enumerate(
    {"causal": Mask.causal(), "causal & padding": Mask.causal() & Mask.padding(present)}.items()
):
    for h, head in enumerate(watch(mask)):
        picture = axes[row, h].imshow(head, cmap="viridis", vmin=0, vmax=1)
        axes[row, h].set_title(f"{name}, head {h + 1}")
for ax in axes[:, 0]:
    ax.set_ylabel("query")
for ax in axes[1]:
    ax.set_xlabel("key")
figure.colorbar(picture, ax=axes, label="weight", shrink=0.8)
plt.show()

# %% [markdown]
# ## What attention does not know
#
# Attention is a weighted sum over a *set*: without a mask, permuting the tokens permutes the answers and changes
# nothing else. Order has to be put in, which is what positions are for. That is the first thing the next chapter adds.

# %%
order = torch.tensor([3, 1, 5, 0, 4, 2])
print("permuted in, permuted out:", torch.allclose(attention(x[:, order]), attention(x)[:, order], atol=1e-6))
