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
# # Let's build GPT, 1: the bigram model
#
# A language model answers one question: *given the text so far, how probable is each next token?* The simplest model
# that learns anything looks at one token only, the last one. It is the baseline that every transformer in this course
# has to beat, and everything around it — text to numbers, batches, the loss, sampling — stays the same for GPT.
#
# Everything here runs on text that is already on your machine: the documentation that ships inside Python.

# %%
from itertools import pairwise

import matplotlib.pyplot as plt
import torch

from glassformer import Bigram, BigramConfig, load_corpus
from glassformer.text import CharacterTokenizer, TokenLoader

plt.rcParams.update({"figure.dpi": 72, "font.size": 10})
corpus = load_corpus("python-docs")
print(f"{len(corpus.train):,} characters to learn from, {len(corpus.validation):,} to be examined on")
print(corpus.train[20_000:20_240])

# %% [markdown]
# ## Text to numbers
#
# A model computes with numbers, so each character gets one. The set of characters is the *vocabulary*; the tokenizer
# goes from text to ids and back without loss.

# %%
tokenizer = CharacterTokenizer.train(corpus.train + corpus.validation)
ids = tokenizer.encode("hello")
print(f"vocabulary of {tokenizer.vocab_size} characters; 'hello' is {ids}, which reads {tokenizer.decode(ids)!r}")
train = torch.tensor(tokenizer.encode(corpus.train))
validation = torch.tensor(tokenizer.encode(corpus.validation))

# %% [markdown]
# ## Every place is an example
#
# In the five characters `hello` hide four examples: after `h` comes `e`, after `he` comes `l`, and so on. So the
# *targets* are the inputs moved by one. The loader cuts the text into windows of equal length and hands them out in
# batches, `(b, t)`: b rows, t tokens each.

# %%
loader = TokenLoader(train, batch_size=4, length=8, seed=0)
batch = next(loader)
print("inputs ", tuple(batch.inputs.shape), "targets", tuple(batch.targets.shape))
for t in range(8):
    seen = tokenizer.decode(batch.inputs[0, : t + 1])
    print(f"after {seen!r:14} comes {tokenizer.decode([batch.targets[0, t]])!r}")

# %% [markdown]
# ## Learning by counting
#
# The bigram model needs no gradient: count how often each character follows each other one, and divide.
#
# $$p(j \mid i) = \frac{\operatorname{count}(i, j)}{\sum_{j'} \operatorname{count}(i, j')}$$
#
# First by hand, on a text small enough for a pencil.

# %%
small = "hello"
letters = sorted(set(small))
counts = torch.zeros(len(letters), len(letters), dtype=torch.long)
for first, second in pairwise(small):
    counts[letters.index(first), letters.index(second)] += 1
print("    ", "  ".join(letters))
for letter, row in zip(letters, counts.tolist(), strict=True):
    print(f"  {letter}  ", "  ".join(map(str, row)))
print("after 'l' comes 'l' once and 'o' once: p('l' | 'l') = p('o' | 'l') = 1/2")

# %% [markdown]
# Now on the whole training text. `Bigram.fit` does the same count and keeps the logarithms, which are its *logits*:
# row `i` of one `(v, v)` matrix.

# %%
bigram = Bigram(BigramConfig(vocab_size=tokenizer.vocab_size)).fit(train, smoothing=0.1)
common = torch.bincount(train, minlength=tokenizer.vocab_size).argsort(descending=True)[:26]
probabilities = bigram.embed.weight.detach().softmax(-1)[common][:, common]
names = [tokenizer.decode([i]).replace(" ", "␣").replace("\n", "⏎") for i in common]

figure, axes = plt.subplots(figsize=(6.4, 5.6))
picture = axes.imshow(probabilities, cmap="viridis")
axes.set_xticks(range(26), names)
axes.set_yticks(range(26), names)
axes.set(xlabel="next character", ylabel="last character", title="p(next | last), the 26 most common characters")
figure.colorbar(picture, label="probability")
plt.show()

# %% [markdown]
# ## How good is it?
#
# The *loss* is the mean surprise, $-\log p(\text{what came})$, in nats. A model that knows nothing gives each of the v
# characters the same probability and is surprised by $\log v$ every time.

# %%
with torch.no_grad():
    loss = bigram(validation[None, :-1], targets=validation[None, 1:]).loss.item()
print(f"knows nothing: {torch.tensor(float(tokenizer.vocab_size)).log():.3f} nats per character")
print(f"bigram:        {loss:.3f}, as if it chose among {torch.tensor(loss).exp():.1f} of {tokenizer.vocab_size}")

# %% [markdown]
# ## Writing
#
# To write, sample the next character from the distribution, append it, and ask again. It has learnt which letters go
# together, and nothing longer than that.

# %%
prompt = torch.tensor([tokenizer.encode("The ")])
print(tokenizer.decode(bigram.generate(prompt, max_new_tokens=200, do_sample=True, seed=1)[0]))

# %% [markdown]
# ## Learning by gradient
#
# Counting works for a table. For everything that follows we need the other way: start anywhere, and follow the gradient
# of the loss. For the bigram it must arrive where counting does, which makes it a good test of the machinery: the same
# five lines train GPT in chapter 3.

# %%
torch.manual_seed(0)
learned = Bigram(BigramConfig(vocab_size=tokenizer.vocab_size))
optimizer = torch.optim.AdamW(learned.parameters(), lr=0.1, weight_decay=0.0)
loader = TokenLoader(train, batch_size=64, length=128, seed=0)
history = []
for _ in range(300):
    inputs, targets = next(loader)
    optimizer.zero_grad()
    batch_loss = learned(inputs, targets=targets).loss
    batch_loss.backward()
    optimizer.step()
    history.append(batch_loss.item())
with torch.no_grad():
    by_gradient = learned(validation[None, :-1], targets=validation[None, 1:]).loss.item()

figure, axes = plt.subplots(figsize=(6.4, 3.2))
axes.plot(history, color="#0072b2", label="by gradient, training batches")
axes.axhline(loss, color="#d55e00", linestyle="--", label="by counting, validation")
axes.set(xlabel="step", ylabel="loss, nats per character", title="Descent arrives where counting stands")
axes.legend()
plt.show()
print(f"validation loss by counting {loss:.3f}, by gradient {by_gradient:.3f}")

# %% [markdown]
# The next chapter gives the model what it lacks: a look at more than one token back.
