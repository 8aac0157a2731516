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
# # Under the hood, 2: what libraries make of it
#
# One writes `model(input_ids)`, and something happens. This chapter looks at what: operator by operator, in PyTorch's
# own `nn.Transformer`, in Hugging Face's BERT, and in Keras. The instrument is the library's x-ray. It listens below
# autograd, so that no model has to be changed for it: which operators ran, in which module, with which shapes, how many
# FLOPs, how many bytes, how long; forward and backward.
#
# Times in this chapter are those of the machine on which the page was made. FLOPs, bytes and counts are the same on
# every machine.

# %%
import os
import random
import tempfile
import warnings
from collections import Counter
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ["JUPYTER_COLUMNS"] = "132"  # characters of a line of the printed trees
import keras
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from glassformer.by_hand import statistics
from glassformer.models import BERT, GPT2Config
from glassformer.parts import Attention, kernels
from glassformer.text import WordPieceTokenizer
from glassformer.text.examples import load_examples
from glassformer.tracing import Trace, compare, complexity, cost, pictures, saved_for_backward, side_by_side, xray

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="IProgress not found")  # no widgets are needed for progress bars
    import transformers
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
plt.rcParams.update({"figure.dpi": 72, "font.size": 10})
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
torch.manual_seed(0)


def operators(trace: Trace, path: str = "") -> str:
    """The operators that ran forward below a path, in order, without those that only look at memory differently."""
    found = [operation for operation in trace.find(path).forward_operations() if not operation.is_view]
    counts = Counter(operation.name.removeprefix("aten.") for operation in found)
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counts.items())


# %% [markdown]
# ## 1. `nn.Transformer`
#
# Two layers on each side, width 64, four heads, 256 wide inside; 12 source tokens, 8 target tokens, two rows. The tree
# below is what ran, in order, with what each part took. Unfold it with `trace.show(None)`, or write a page that opens
# and searches with `trace.to_html("trace.html")`.

# %%
d, heads, hidden = 64, 4, 256
model = nn.Transformer(d, heads, 2, 2, hidden, dropout=0.0, batch_first=True)
source, target = torch.randn(2, 12, d), torch.randn(2, 8, d)
xray(model, source, target, backward=True)  # the first run of anything is slow: this one is not looked at
trace = xray(model, source, target, backward=True)
trace.show(2, operations=False)

# %% [markdown]
# And one attention layer, opened to the operators. Queries, keys and values come from *one* product, because their
# three matrices are stored as one; then one fused operator computes the whole of softmax(QKᵀ/√k)V, and never shows the
# weights.

# %%
xray(model.encoder.layers[0].self_attn, source, source, source, need_weights=False).show(1)

# %% [markdown]
# ### Parameters
#
# Formulas from chapter 1: an encoder layer has $4 d^2 + 4 d$ in attention, $2 d f + f + d$ in the feed-forward layer,
# $4 d$ in two norms; a decoder layer has attention twice, and a third norm. `nn.Transformer` adds a norm at the end of
# each half, which the paper has not.


# %%
def by_formula(d: int, heads: int, f: int, encoders: int, decoders: int) -> int:
    """Parameters of nn.Transformer."""
    attention, feed_forward = statistics.attention(d, heads), statistics.feed_forward(d, f)
    norms = (2 * encoders + 3 * decoders + 2) * statistics.layer_norm(d)
    return (encoders + 2 * decoders) * attention + (encoders + decoders) * feed_forward + norms


with torch.device("meta"):  # shapes without memory
    base = nn.Transformer(batch_first=True)
for name, one, sizes in (("ours", model, (d, heads, hidden, 2, 2)), ("default", base, (512, 8, 2048, 6, 6))):
    count = sum(parameter.numel() for parameter in one.parameters())
    print(f"{name:8} {count:>12,} in the model, {by_formula(*sizes):>12,} by formula")

# %% [markdown]
# ### FLOPs
#
# A product of a $(n, a)$ with an $(a, b)$ matrix takes $2 n a b$: a multiplication and an addition for each. So a layer
# takes $2 n (4 d^2 + 2 d f)$ in its matrices and $4 n s d$ in attention itself: $Q K^\top$ and $W V$. Backward, each
# product needs two: one for its input, one for its weight.

# %%
rows, n, m = 2, 12, 8
matrices = 2 * (n * 2 * (4 * d * d + 2 * d * hidden) + m * 2 * (4 * d * d + 2 * d * hidden))
crossing = 2 * 2 * (2 * d * d * m + 2 * d * d * n)  # queries and output of 8 tokens, keys and values of 12
looking = 2 * 4 * d * (n * n + m * m + m * n)
leaves = [x.clone().requires_grad_() for x in (source, target)]
trace = xray(model, *leaves, backward=True)
backward = trace.flops - trace.forward_flops
print(f"forward   {trace.forward_flops:>10,} as it ran, {rows * (matrices + crossing + looking):>10,} by formula")
print(f"backward  {backward:>10,} as it ran, {rows * (2 * (matrices + crossing) + 5 * looking // 2):>10,} by formula")

# %% [markdown]
# Twice as much backward as forward, as derived; but for attention two and a half times: the fused operator has not kept
# its weights, and on the way back it computes the scores once more.
#
# ### The same model, in evaluation
#
# Nothing was changed but `model.eval()` and `torch.no_grad()`. The layers are the same; what runs is not:

# %%
encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(d, heads, hidden, 0.0, batch_first=True), 2)
with torch.no_grad():
    training = xray(encoder.train(), source)
    evaluation = xray(encoder.eval(), source)
print(f"training:   {operators(training)}")
print(f"evaluation: {operators(evaluation)}\n")
first = {"training": training.output[0, :2, :5], "evaluation": evaluation.output[0, :2, :5]}
print(side_by_side(first, differences=True))

# %% [markdown]
# In evaluation PyTorch hands each layer to one fused operator ("the fast path"). Worth knowing: hooks inside the layer
# are not called then, and the last digits differ.
#
# ## 2. `nn.MultiheadAttention`: weights or speed
#
# `need_weights` decides which of two programs runs: with weights one operator after another, without them one fused
# one. The FLOPs are equal, memory and time are not, since the weights of shape (rows · heads, n, n) have to be written
# and read again. And `need_weights=True` is the default.

# %%
layer = nn.MultiheadAttention(d, heads, batch_first=True)
long = torch.randn(2, 256, d)
for need in (True, False):
    seen = xray(layer, long, long, long, need_weights=need)
    moved = sum(operation.read + operation.written for operation in seen.operations)
    print(f"need_weights={need}: {operators(seen)}")
    print(f"    {seen.flops / 1e6:.0f} MFLOP, {moved / 1e6:.1f} MB moved, at most {seen.peak / 1e6:.1f} MB alive\n")

# %% [markdown]
# The x-ray gives the weights in both cases: where an operator hides them, it computes them beside it, from the queries
# and keys that went in.

# %%
fused = xray(layer, source, source, source, need_weights=False, attention=True)
with torch.no_grad():
    _, average = layer(source, source, source)  # the mean over heads, by default
print("head by head:", tuple(fused.attention(0).shape), "   what the layer returns:", tuple(average.shape))
print(f"their means differ by {(fused.attention(0).mean(1) - average).abs().max():.0e}")

# %% [markdown]
# ## 3. How it starts
#
# A product $y = W x$ multiplies the variance by $a \cdot \operatorname{Var}(w)$, where $a$ numbers go in: each $y_i$ is
# a sum of $a$ independent terms. To keep the variance forward one wants $1/a$; backward, where $b$ terms are summed,
# $1/b$. Glorot's compromise (Glorot & Bengio 2010) is $2 / (a + b)$. What do libraries do? Measured, and the rule that
# fits:

# %%
bert = transformers.BertModel(transformers.BertConfig(vocab_size=100, hidden_size=d, num_hidden_layers=1,
                              num_attention_heads=heads, intermediate_size=hidden))  # fmt: skip
in_keras = keras.layers.MultiHeadAttention(heads, d // heads)
in_keras(source, source)
block = model.encoder.layers[0]
found = [
    ("nn.Linear(64, 256)", nn.Linear(d, hidden).weight, (3 * d) ** -0.5, "uniform, ±1/√a"),
    ("nn.MultiheadAttention, q k v", layer.in_proj_weight, (2 / (d + 3 * d)) ** 0.5, "Glorot, as one (3d, d)"),
    ("nn.MultiheadAttention, output", layer.out_proj.weight, (3 * d) ** -0.5, "uniform, ±1/√a"),
    ("the same in nn.Transformer", block.self_attn.out_proj.weight, (2 / (2 * d)) ** 0.5, "Glorot"),
    ("feed-forward in nn.Transformer", block.linear1.weight, (2 / (d + hidden)) ** 0.5, "Glorot"),
    ("Keras, queries", in_keras.weights[0].value, (2 / (2 * d)) ** 0.5, "Glorot"),
    ("BERT, queries", bert.encoder.layer[0].attention.self.query.weight, 0.02, "normal, 0.02 at any width"),
]
print(f"{'':32}  measured  by rule")
for name, weight, rule, said in found:
    print(f"{name:32}  {weight.std():8.4f}  {rule:7.4f}   {said}")

figure, axes = plt.subplots(figsize=(7.4, 3.0), layout="constrained")
shown = {
    "nn.MultiheadAttention": (layer.out_proj.weight, BLUE, "-"),
    "in nn.Transformer": (block.self_attn.out_proj.weight, GREEN, "--"),
    "Keras": (in_keras.weights[6].value, ORANGE, ":"),
    "BERT": (bert.encoder.layer[0].attention.output.dense.weight, "#cc79a7", "-."),
}
for name, (weight, colour, style) in shown.items():
    values = weight.detach().flatten()
    axes.hist(values, bins=60, range=(-0.25, 0.25), histtype="step", color=colour, label=name, lw=1.5, ls=style)
axes.set(title="The output matrix of one attention layer, 64 × 64, as four libraries draw it", xlabel="weight")
axes.set_ylabel("how many")
axes.legend(fontsize=8)
plt.show()

# %% [markdown]
# Four rules for the same matrix, and the same layer starts differently inside and outside of `nn.Transformer`. With
# norms around, all of them train; but an experiment that swaps a layer swaps its initialisation too.
#
# ## 4. Hugging Face's BERT, from a folder
#
# `from_pretrained` reads a folder: `config.json`, `model.safetensors`, and the tokenizer's files. Let us make one, so
# that nothing has to be downloaded. First the tokenizer: WordPiece, learnt on our sentences. A frequent word is one
# token, a rare one is cut into the longest pieces that are known; `##` marks a piece that goes on.

# %%
examples = load_examples("sentiment", fields=("text", "label"))
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
WordPieceTokenizer.train("\n".join(one["text"] for one in examples.train), 400).save(folder)
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
for text in ("The food was not at all bad.", "The soundtrack was unforgettable!"):
    print(f"{text:35} → {' '.join(tokenizer.tokenize(text))}")
batch = tokenizer(["The food was not at all bad.", "Lovely."], padding=True, return_tensors="pt")
for name, value in batch.items():
    print(f"{name:15}", value.tolist())

# %% [markdown]
# What a call makes of a text: pieces, their numbers, `[CLS]` (2) in front and `[SEP]` (3) behind, filled up with
# `[PAD]` (0), and a mask that says what is real. Everything else the model learns.
#
# Our "pretrained" model is as small as its world: 32 wide, one layer, 600 sentences. It learns to tell four kinds of
# them apart: is something praised, or blamed; and is it said plainly, or by denying it? Real ones fill in masked words
# of books. What matters here is that it learns from more data what another task can use.

# %%
denials = {"not", "no", "anything", "far", "hardly"}
longer = (" and ", ";", "just as", " but ", "owever", " yet ", "lthough", " though ", "friends", "critics")
everything = [*examples.train, *examples.validation]
single = [one for one in everything if not any(word in one["text"] for word in longer)]
random.Random(0).shuffle(single)
KINDS = ("blame", "praise", "praise denied", "blame denied")


def kind_of(one: dict[str, str]) -> int:
    """Which of the four."""
    denied = any(word in denials for word in one["text"].lower().replace(".", "").split())
    return 2 * denied + (one["label"] == "positive")


for one in single[:4]:
    print(f"{KINDS[kind_of(one)]:14} {one['text']}")


def learn(model: nn.Module, rows: list[tuple[str, int]], steps: int, rate: float, size: int = 32) -> list[float]:
    """Steps of AdamW on random batches of (text, class); the loss of each."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    generator, losses = torch.Generator().manual_seed(1), []
    encoded = tokenizer([text for text, _ in rows])["input_ids"]
    for _ in range(steps):
        chosen = torch.randint(len(rows), (size,), generator=generator).tolist()
        inputs = tokenizer.pad({"input_ids": [encoded[i] for i in chosen]}, return_tensors="pt")
        loss = model(**inputs, labels=torch.tensor([rows[i][1] for i in chosen])).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


config = transformers.BertConfig(
    vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=128,
    max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=32**-0.5,
    num_labels=4,
)  # fmt: skip
teacher = transformers.BertForSequenceClassification(config)
losses = learn(teacher, [(one["text"], kind_of(one)) for one in single[:600]], 300, 3e-3)
teacher.bert.save_pretrained(folder)  # the encoder alone, without the head
print(f"\nloss {losses[0]:.2f} → {sum(losses[-50:]) / 50:.2f}")
print("in the folder:", ", ".join(sorted(path.name for path in folder.iterdir())))

# %% [markdown]
# ### `BertModel.from_pretrained`, seen through
#
# With the weights of every head asked for. The last line opens the *same folder* with this library's own BERT, and
# compares the two at every point that they share. (Their pooler is given all tokens and takes the first, ours is given
# the first: that is what "differs" and leaves nothing behind.)

# %%
bert = transformers.BertModel.from_pretrained(folder).eval()
text = "The view was hardly lovely."
inputs = tokenizer(text, return_tensors="pt")
with torch.no_grad():
    trace = xray(bert, **inputs, attention=True)
trace.show(None, operations=False)
tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
print(compare(BERT.from_pretrained(folder).eval(), bert, dict(inputs)).sentence)

# %%
pictures.attention_pattern(trace.attention(0)[0], "the layer", tokens, tokens, "our BERT")

# %% [markdown]
# Look at the row of `[CLS]`, from whose vector the class is read: one head for the denial, others for the adjective.
#
# ### Fine-tuning
#
# A new task: is the opinion favourable? Neither a denial nor an adjective decides that, only both together. Forty-eight
# labelled sentences are given. `BertForSequenceClassification.from_pretrained` takes the encoder from the folder and
# puts a new linear layer on it, drawn at random. Beside it the same model from scratch.

# %%
labelled = [(one["text"], int(one["label"] == "positive")) for one in single[600:]]
few, held = labelled[:48], labelled[48:]


@torch.no_grad()
def right(model: nn.Module) -> float:
    """The share of held sentences that are told rightly."""
    inputs = tokenizer([text for text, _ in held], padding=True, return_tensors="pt")
    return (model(**inputs).logits.argmax(-1) == torch.tensor([kind for _, kind in held])).float().mean().item()


tuned = transformers.BertForSequenceClassification.from_pretrained(folder, num_labels=2)
fresh = transformers.BertForSequenceClassification(transformers.BertConfig(**{**config.to_dict(), "num_labels": 2}))
figure, axes = plt.subplots(figsize=(6.4, 3.0))
for name, classifier, rate, colour, style in (
    ("from the folder", tuned, 2e-3, BLUE, "-"), ("from scratch", fresh, 3e-3, ORANGE, "--"),
):  # fmt: skip
    curve = learn(classifier, few, 150, rate, size=16)
    axes.plot(curve, style, color=colour, label=f"{name}: {right(classifier):.0%} of {len(held)} others right")
axes.set(xlabel="step", ylabel="loss on the 48", title="Fine-tuning, and learning from nothing", ylim=(0, None))
axes.legend()
plt.show()

# %% [markdown]
# Both learn their 48 sentences by heart within a hundred steps. Only one has learnt the rule: what it knows of denials
# and of thirty adjectives came with the folder. What does a first step teach, and where? The x-ray's backward pass
# says, parameter by parameter:

# %%
again = transformers.BertForSequenceClassification.from_pretrained(folder, num_labels=2)
step = tokenizer([text for text, _ in few[:16]], padding=True, return_tensors="pt")
step["labels"] = torch.tensor([label for _, label in few[:16]])
trace = xray(again, **step, backward=True)
for name in ("classifier.weight", "bert.pooler.dense.weight", "bert.encoder.layer.0.output.dense.weight",
             "bert.encoder.layer.0.attention.self.query.weight", "bert.embeddings.word_embeddings.weight"):  # fmt: skip
    said = trace.gradients[name]
    print(f"{name:50} gradient's deviation {said.std:.1e}, {said.zeros:4.0%} zeros")

# %% [markdown]
# Zeros in the embeddings are words that were not in the batch.
#
# ## 5. Keras
#
# Keras 3 runs on several backends; on torch its layers *are* `nn.Module`s, and the x-ray opens them by the names that
# Keras gives them.

# %%
ids = keras.Input((8,), dtype="int32")
y = keras.layers.Embedding(50, 16, name="embed")(ids)
read = keras.layers.MultiHeadAttention(num_heads=4, key_dim=4, name="attention")(y, y)
y = keras.layers.LayerNormalization(name="norm")(keras.layers.Add(name="sum")([y, read]))
y = keras.layers.GlobalAveragePooling1D(name="mean")(y)
small = keras.Model(ids, keras.layers.Dense(2, name="head")(y), name="small")
numbers, answers = torch.randint(50, (4, 8)), torch.tensor([0, 1, 1, 0])
trace = xray(small, numbers, backward=True, attention=True)
trace.show(2, operations=False)
print("weights of every head:", tuple(trace.attention("attention").shape), "by", operators(trace, "attention"))

# %% [markdown]
# ### How Keras computes gradients
#
# It does not: on this backend `loss.backward()` of PyTorch fills the gradients of its variables, and its optimizer
# applies them. Done by hand, and by `train_on_batch`, from the same start:

# %%
start = [variable.value.detach().clone() for variable in small.weights]
F.cross_entropy(small(numbers), answers).backward()
expected = [old - 0.1 * variable.value.grad for old, variable in zip(start, small.weights, strict=True)]

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
small.compile(optimizer=keras.optimizers.SGD(learning_rate=0.1), loss=loss)
small.train_on_batch(numbers.numpy(), answers.numpy())
for old, variable, wanted in zip(start, small.weights, expected, strict=True):
    value = variable.value.detach()
    print(f"{variable.path:34} {tuple(value.shape)!s:12} moved by up to {(value - old).abs().max():.0e}, "
          f"off by {(value - wanted).abs().max():.0e}")  # fmt: skip

# %% [markdown]
# ## 6. Memory: what autograd keeps
#
# The forward pass leaves behind what the backward pass will need: the input of every product (for the weight's
# gradient), the output of a softmax, which numbers a ReLU let through. What that is, memory by memory:

# %%
one = nn.TransformerEncoderLayer(d, heads, hidden, 0.0, batch_first=True)
x = torch.randn(2, 128, d)
kept = saved_for_backward(one, x)
for each in kept:
    print(each)
weights = sum(parameter.nbytes for parameter in one.parameters())
print(f"together {sum(each.bytes for each in kept):,} B; the parameters have {weights:,} B")

# %% [markdown]
# In order: the input of the product for queries, keys and values; these three, in one; a number a row, of which below;
# the input of the output product; the sum that the first norm takes, with each row's mean and deviation; the input of
# the feed-forward layer; what is left after the ReLU; and the same again for the second norm. Four times the
# parameters, for two rows of 128 tokens.
#
# With attention written out, the weights are kept too: $h n^2$ numbers. The fused operator keeps one number a row (the
# logarithm of its softmax's sum) and computes the weights again. Four times the length, and the picture turns over:

# %%
ours = Attention(d, heads)
lengths, sizes = (64, 128, 256, 512), {}
for name in ("reference", "sdpa"):
    with kernels(ours, attend=name):
        runs = [saved_for_backward(ours, torch.randn(1, n, d)) for n in lengths]
    sizes[name] = [sum(each.bytes for each in run) for run in runs]
figure, axes = plt.subplots(figsize=(6.0, 3.2), layout="constrained")
for name, style, said in (("reference", "s--", "written out: h n² weights"), ("sdpa", "o-", "fused: h n numbers")):
    colour = BLUE if name == "sdpa" else ORANGE
    axes.plot(lengths, [size / 1e6 for size in sizes[name]], style, color=colour, label=said)
axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="MB")
axes.set_title("What one attention layer keeps, 64 wide, 4 heads")
axes.minorticks_off()
axes.set_xticks(lengths, [str(n) for n in lengths])
axes.legend()
plt.show()

# %% [markdown]
# Training adds up as: 4 bytes for each parameter, 4 for its gradient, 8 for AdamW's two averages, and the activations
# above, which grow with the batch. The library's `cost` says it for a model before it is built:

# %%
said = cost(GPT2Config(dim=768, num_layers=12, num_heads=12), batch_size=8, length=1024, training=True)
memory = said.memory
print(f"GPT-2 with {said.parameters:,} parameters, 8 rows of 1024 tokens, float32:")
for name in ("weights", "gradients", "optimizer", "activations", "checkpointed"):
    print(f"    {name:13} {getattr(memory, name) / 1e9:7.2f} GB")
print("(checkpointed: the activations, if each block keeps its input alone and is computed again)")

# %% [markdown]
# ## 7. Fusion: the same arithmetic, less traffic
#
# A processor computes faster than it can fetch. GELU by tanh, written out, is eight operators, each of which reads and
# writes the whole tensor; as one operator it reads once and writes once. Nothing else differs.


# %%
class WrittenOut(nn.Module):
    """GELU by tanh, an operator at a time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


def report(name: str, module: nn.Module, *inputs: torch.Tensor) -> None:
    """Operators, bytes and the least time of several runs."""
    with torch.no_grad():
        runs = [xray(module, *inputs, statistics=False) for _ in range(5)]
    moved = sum(operation.read + operation.written for operation in runs[0].operations)
    count = sum(not operation.is_view for operation in runs[0].operations)
    print(f"{name:26} {count:3} operators  {moved / 1e6:7.1f} MB moved  peak {runs[0].peak / 1e6:6.1f} MB  "
          f"{min(run.seconds for run in runs) * 1e3:7.2f} ms")  # fmt: skip


wide = torch.randn(8, 128, 1024)
report("GELU, written out", WrittenOut(), wide)
report("GELU, one operator", nn.GELU("tanh"), wide)
long = torch.randn(1, 1024, d)
for name, said in (("reference", "attention, written out"), ("sdpa", "attention, fused")):
    with kernels(ours, attend=name):
        report(said, ours, long)

# %% [markdown]
# ## 8. Mixed precision
#
# bfloat16 has float32's range in half the bytes: 8 bits of exponent, but 8 of significand instead of 24, so every
# number is off by up to 0.4 %. Under `autocast` PyTorch decides for each operator: products in bfloat16, where there
# are many and errors average out; sums, norms and softmax in float32, where errors would add up. What it decides, as it
# ran:

# %%
encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(d, heads, hidden, 0.0, batch_first=True), 2).train()
with torch.autocast("cpu", torch.bfloat16):
    mixed = xray(encoder, x)
by_dtype: dict[str, Counter[str]] = {}
for operation in mixed.operations:
    if operation.outputs and not operation.is_view:
        by_dtype.setdefault(operation.outputs[0].dtype, Counter())[operation.name.removeprefix("aten.")] += 1
for dtype, counts in by_dtype.items():
    print(f"{dtype:9}", ", ".join(f"{count} × {name}" for name, count in counts.most_common()))
exact = encoder(x)
print(f"\noff by {(mixed.output - exact).std() / exact.std():.1%} of the output's deviation")
full = sum(each.bytes for each in saved_for_backward(encoder, x))
with torch.autocast("cpu", torch.bfloat16):
    half = sum(each.bytes for each in saved_for_backward(encoder, x))
print(f"kept for the backward pass: {full / 1e6:.2f} MB in float32, {half / 1e6:.2f} MB mixed")

# %% [markdown]
# Not half: the norms keep float32, and the weights' bfloat16 copies (`_to_copy`) are kept beside the weights.
#
# float16 is the other half-width format: 11 bits of significand, but its smallest number is $6 \cdot 10^{-8}$. The
# gradient of a mean over $n$ tokens in the logits is $(p - \text{onehot}) / n$, chapter 1 says; with a large vocabulary
# nearly all of these are smaller than that, and vanish. Multiply the loss by a large number: all gradients move up by
# it, and the optimizer divides it out again ("loss scaling").

# %%
logits = (2 * torch.randn(1024, 20_000)).requires_grad_()
F.cross_entropy(logits, torch.randint(20_000, (1024,))).backward()
gradient = logits.grad
print(f"1,024 tokens, a vocabulary of 20,000: the median gradient is {gradient.abs().median():.0e}")
for factor in (1, 2**8, 2**16):
    halved = (gradient * factor).half()
    zeros, large = (halved == 0).float().mean(), halved.abs().max()
    print(f"loss × {factor:6}: {zeros:6.1%} become 0 in float16; the largest is {large:.3f}, and 65504 would fit")
del logits, gradient

# %% [markdown]
# ## 9. What grows how
#
# Per layer the matrices take $24 n d^2$ FLOPs (at $f = 4d$), attention $4 n^2 d$. They are equal at $n = 6 d$: below it
# a Transformer is mostly matrices, above it mostly attention. On a clock the crossing comes where the two kernels'
# speeds put it. Measured here, one layer, forward:

# %%
curves = complexity.measured(complexity.paper_block(128, 4), seconds=4.0)
pictures.complexity(curves, "Vaswani et al. 2017")

# %% [markdown]
# ## What to take along
#
# * The same layer runs as different programs: fused or not, in training or evaluation, with weights asked for or not.
# * FLOPs follow formulas exactly. Time follows bytes as often as FLOPs, and that is what fusing is about.
# * Libraries differ in what they start from, in $\varepsilon$, in what a mask means: the next chapter puts them side by
#   side, number by number (`transformer_practical_comparison`).
