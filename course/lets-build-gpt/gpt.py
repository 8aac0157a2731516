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
# # Let's build GPT, 3: the whole model, trained
#
# Chapter 1 gave us the loss and the loop, chapter 2 gave us attention. What is missing is a stack: blocks of attention
# and feed-forward, with residual paths and norms between, positions below and a head above. That is GPT-2
# (Radford et al. 2019), and it is one file of the library: `glassformer/models/gpt2.py`.

# %%
import inspect

import matplotlib.pyplot as plt
import torch

from glassformer import GPT2, Bigram, BigramConfig, GPT2Config, load_corpus
from glassformer.models.gpt2 import GPT2Block
from glassformer.text import CharacterTokenizer, TokenLoader
from glassformer.tracing import attention_weights
from glassformer.training import ModelOptimizer, MuonConfig

plt.rcParams.update({"figure.dpi": 72, "font.size": 10})
corpus = load_corpus("python-docs")
tokenizer = CharacterTokenizer.train(corpus.train + corpus.validation)
train = torch.tensor(tokenizer.encode(corpus.train))
validation = torch.tensor(tokenizer.encode(corpus.validation))

# %% [markdown]
# ## One block
#
# $$x \leftarrow x + \operatorname{Attention}(\operatorname{norm}(x)) \qquad
#   x \leftarrow x + \operatorname{FeedForward}(\operatorname{norm}(x))$$
#
# Tokens first look at each other (attention), then each thinks for itself (feed-forward, four times as wide inside).
# The residual path `x + …` lets the gradient reach the lowest block undiminished; the norm before each sub-layer keeps
# what goes in at one scale. This is the code that runs:

# %%
print(inspect.getsource(GPT2Block.forward))

# %% [markdown]
# ## The whole model
#
# 384 wide, 6 heads, 6 layers, context 256, dropout 0.2, norms before the sub-layers, learned positions, a ReLU
# feed-forward of four times the width, one token per character.

# %%
torch.manual_seed(0)
config = GPT2Config(
    vocab_size=tokenizer.vocab_size, max_positions=256, dim=384, num_layers=6, num_heads=6, activation="relu",
    embedding_dropout=0.2, attention_dropout=0.2, residual_dropout=0.2, tied=False,
)  # fmt: skip
model = GPT2(config)
print(inspect.getsource(GPT2.hidden))
for name, child in model.named_children():
    print(f"{name:10} {sum(p.numel() for p in child.parameters()):>12,} parameters")
print(f"{'together':10} {model.num_parameters:>12,}")

# %% [markdown]
# ### Where the parameters are
#
# Per block: attention has four matrices of $d \times d$, the feed-forward two of $d \times 4d$, so $12 d^2$, plus
# biases and norms.

# %%
d = config.dim
block = 4 * (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 2 * 2 * d
print(f"by the formula {6 * block:,}; in the model {sum(p.numel() for p in model.blocks.parameters()):,}")

# %% [markdown]
# ## Training
#
# The five lines of chapter 1, with two changes that make every step count, because a step of this model is a second's
# work for a processor core: the optimizer is Muon (Jordan et al. 2024), which moves all directions of a matrix by about
# the same amount, and the learning rate rises for ten steps, then falls in a straight line. The chapter takes a few
# dozen steps, enough to leave the bigram's level behind; `glassformer train gpt_char` trains it for as long as you
# like, with checkpoints and a live view.

# %%
baseline = Bigram(BigramConfig(vocab_size=tokenizer.vocab_size)).fit(train, smoothing=0.1)


@torch.no_grad()
def examine(any_model: torch.nn.Module, batches: int = 6) -> float:
    """The mean loss over the same validation batches, without dropout."""
    was_training = any_model.training
    any_model.eval()
    loader = TokenLoader(validation, batch_size=8, length=256, seed=0)
    total = 0.0
    for _ in range(batches):
        inputs, targets = next(loader)
        total += any_model(inputs, targets=targets).loss.item() / batches
    any_model.train(was_training)
    return total


uniform = torch.tensor(float(tokenizer.vocab_size)).log()
print(f"before: {examine(model, 2):.2f}; log v = {uniform:.2f}; bigram {examine(baseline):.2f}")

# %%
optimizer = ModelOptimizer(model, MuonConfig(learning_rate=0.02, other_learning_rate=3e-3))
loader = TokenLoader(train, batch_size=8, length=256, seed=0)
steps, history = 80, []
model.train()
for step in range(steps):
    optimizer.set_factor(min(1.0, (step + 1) / 10) * (1 - step / steps))
    inputs, targets = next(loader)
    optimizer.zero_grad()
    loss = model(inputs, targets=targets).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    history.append(loss.item())
after, bigram = examine(model), examine(baseline)
print(f"after {steps} steps: {after:.2f} on validation text, bigram {bigram:.2f}")

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.2))
axes.plot(history, color="#0072b2", label="GPT, training batches")
axes.axhline(bigram, color="#5b6570", linestyle="--", label="bigram, validation")
axes.plot(steps, after, "o", color="#d55e00", label="GPT, validation")
axes.set(xlabel="step", ylabel="loss, nats per character", title=f"The first {steps} steps")
axes.legend()
plt.show()

# %% [markdown]
# ## Where it looks
#
# A glance into one head per layer, on a line of text. After so few steps heads have only begun to specialise; the
# report of `make demo` shows every head of a model that has trained for longer.

# %%
text = "returns a list of the"
tokens = torch.tensor([tokenizer.encode(text)])
seen = attention_weights(model, tokens)
figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
for ax, layer in zip(axes, (0, 2, 5), strict=True):
    ax.imshow(seen[f"blocks.{layer}.attention"][0, 0], cmap="viridis")
    ax.set_title(f"layer {layer + 1}, head 1")
    ax.set_xticks(range(len(text)), text.replace(" ", "␣"), fontsize=7)
    ax.set_yticks(range(len(text)), text.replace(" ", "␣"), fontsize=7)
    ax.set_xlabel("looks at")
axes[0].set_ylabel("token")
plt.show()

# %% [markdown]
# ## Writing
#
# Generation keeps the keys and values of what it has read in a cache, so each new character costs one token's work.

# %%
model.eval()
prompt = torch.tensor([tokenizer.encode("The ")])
print(tokenizer.decode(model.generate(prompt, max_new_tokens=200, do_sample=True, temperature=0.8, seed=1)[0]))

# %% [markdown]
# Eighty steps teach it the length of words and some common ones. `make demo` trains a smaller model for longer, and it
# writes a good deal better; `glassformer generate --model runs/demo --prompt "The "` goes on from there.
