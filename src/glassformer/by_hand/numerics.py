"""Equations that are right on paper and fail in floating point, each beside the form that does not, and why.

float32 holds numbers up to 3.4e38 ≈ e^88.7 with 24 bits of significand, float64 up to 1.8e308 ≈ e^709.8 with 53. What
is larger becomes inf, inf − inf and inf / inf become NaN, and a difference of close numbers keeps only the bits in
which they differ. The stable forms are those that the models use (`ops` and `parts`); the naive ones stand here only
to be seen failing.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.ops import attend
from glassformer.by_hand.ops import cross_entropy as fused
from glassformer.by_hand.parts.norm import LayerNorm

# Softmax and the logarithm of a sum of exponentials ------------------------------------------------------------------


def naive_softmax(x: Array) -> Array:
    """exp(x_i) / Σ_j exp(x_j), as it is written: inf / inf = NaN from x_i ≈ 89 on in float32; 0 / 0 far below 0."""
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True)


def softmax(x: Array) -> Array:
    """The same for every x. For any number m

        exp(x_i) / Σ_j exp(x_j) = exp(−m) exp(x_i) / (exp(−m) Σ_j exp(x_j)) = exp(x_i − m) / Σ_j exp(x_j − m).

    With m = max_j x_j all exponents are 0 or less, so nothing overflows; one of them is 0, so that the sum lies
    between 1 and the number of terms, and nothing is divided by 0. What underflows is right to the last bit: 0.
    """
    return attend.softmax(np.array(x))


def naive_log_sum_exp(x: Array) -> Array:
    """log Σ_j exp(x_j), as it is written: inf for large x, −inf where all x are far below 0."""
    return np.log(np.exp(x).sum(-1))


def log_sum_exp(x: Array) -> Array:
    """The same for every x:   log Σ_j exp(x_j) = m + log Σ_j exp(x_j − m),   m = max_j x_j.

    The sum lies between 1 and n, hence  m ≤ log Σ exp(x) ≤ m + log n: a smooth maximum. Its gradient is softmax(x),
    as ∂/∂x_i log Σ_j exp(x_j) = exp(x_i) / Σ_j exp(x_j). Where all x are −inf there is nothing to sum: −inf.
    """
    top = x.max(-1, keepdims=True)
    safe = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):  # log 0 is meant where all is −inf
        return safe[..., 0] + np.log(np.exp(x - safe).sum(-1))


def naive_log_softmax(x: Array) -> Array:
    """log(softmax(x)): −inf wherever a probability underflows, below e^−104 in float32, though its logarithm is −104.

    It computes the probability first and then asks for what that has lost.
    """
    return np.log(softmax(x))


def log_softmax(x: Array) -> Array:
    """log(exp(x_i) / Σ_j exp(x_j)) = x_i − log Σ_j exp(x_j): a difference, and no probability is ever formed."""
    return x - log_sum_exp(x)[..., None]


# Softmax in one pass -------------------------------------------------------------------------------------------------


def online_softmax_sums(blocks: Iterable[Array]) -> Iterator[tuple[Array, Array]]:
    """(m, l) after each block of the last axis: the largest number so far, and l = Σ exp(x_j − m) over those so far.

    The stable softmax reads x twice before it divides: for the maximum, and for the sum. Both in one pass (Milakov &
    Gimelshein 2018, algorithm 3): with a new block x′ and m′ = max(m, max x′),

        l′ = Σ_old exp(x_j − m′) + Σ_new exp(x_j − m′) = exp(m − m′) l + Σ_new exp(x_j − m′),

    for exp(x − m′) = exp(x − m) exp(m − m′). As m ≤ m′ the factor is at most 1: nothing overflows on the way either.
    """
    top = total = None
    for block in blocks:
        largest = block.max(-1, keepdims=True)
        if top is None or total is None:
            top, total = largest, np.exp(block - largest).sum(-1, keepdims=True)
        else:
            both = np.maximum(top, largest)
            total = np.exp(top - both) * total + np.exp(block - both).sum(-1, keepdims=True)
            top = both
        yield top[..., 0], total[..., 0]


def online_attention(q: Array, k: Array, v: Array, *, scale: float, block: int) -> Array:
    """softmax(scale · q kᵀ) v with no more than t · block scores at a time (Dao et al. 2022, algorithm 1).

    Beside m and l of the online softmax runs the unnormalised output o = Σ_j exp(s_j − m) v_j. A larger maximum m′
    rescales it as it does l:

        o′ = exp(m − m′) o + exp(s_new − m′) v_new,        out = o / l  at the end.

    q (t, k), k (s, k), v (s, w); the result (t, w). Raises ValueError for a block below 1.
    """
    if block < 1:
        raise ValueError(f"block is {block}; expected 1 or more keys at a time")
    top = np.full((len(q), 1), -np.inf, q.dtype)
    total = np.zeros((len(q), 1), q.dtype)
    out = np.zeros((len(q), v.shape[-1]), np.result_type(q, v))
    for start in range(0, len(k), block):
        scores = scale * q @ k[start : start + block].T
        both = np.maximum(top, scores.max(-1, keepdims=True))
        weights, shrink = np.exp(scores - both), np.exp(top - both)
        total = shrink * total + weights.sum(-1, keepdims=True)
        out = shrink * out + weights @ v[start : start + block]
        top = both
    return out / total


# Variance, and the layer norm ----------------------------------------------------------------------------------------


def naive_variance(x: Array) -> Array:
    """mean(x²) − mean(x)², as it is written: of x = 10⁴ ± 1 in float32 nothing is left, or a negative number.

    Both terms are 10⁸ and rounded to multiples of 8; their difference is 1.
    """
    return (x * x).mean(-1) - x.mean(-1) ** 2


def variance(x: Array) -> Array:
    """mean((x − mean(x))²): the same number, as mean((x − μ)²) = mean(x²) − 2 μ mean(x) + μ², but subtracted first.

    x − μ is exact to the last bit where x is near μ, and a sum of squares loses nothing.
    """
    centred = x - x.mean(-1, keepdims=True)
    return (centred * centred).mean(-1)


def naive_layer_norm(x: Array, eps: float = 1e-5) -> Array:
    """(x − mean) / √(var + ε) with the naive variance: NaN where that comes out below −ε."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(naive_variance(x) + eps)[..., None]


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """n · weight + bias, with n = (x − μ) / σ, μ = mean(x), σ = √(variance(x) + ε)."""
    return _norm(weight, bias, eps)(x)


def layer_norm_backward(dy: Array, x: Array, weight: Array, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """(dx, dweight, dbias), derived. Over d numbers, with y = n w + b:

        dw = Σ dy · n,    db = Σ dy,    dn = dy · w        (sums over all rows)

    Each n_i depends on every x_j in three ways, n_i = (x_i − μ) / σ:

        ∂μ/∂x_j = 1/d
        ∂σ/∂x_j = 1/(2σ) ∂/∂x_j (1/d) Σ_k (x_k − μ)² = (x_j − μ) / (d σ) = n_j / d

    (the part through μ falls away, as Σ_k (x_k − μ) = 0), and so

        ∂n_i/∂x_j = (δ_ij − 1/d) / σ − (x_i − μ) / σ² · n_j / d = (δ_ij − 1/d − n_i n_j / d) / σ.

    Summed with dn_i over i:

        dx_j = (dn_j − mean(dn) − n_j · mean(dn · n)) / σ.

    It takes from dn what would move the mean (along 1) and what would stretch (along n): Σ dx = 0, and up to ε
    Σ dx · n = 0, as y does not change when x is shifted or stretched.
    """
    norm = _norm(weight, np.zeros_like(weight), eps)
    norm(x)
    dx = norm.backward(dy)
    assert norm.bias is not None
    return dx, norm.weight.grad, norm.bias.grad


def naive_layer_norm_backward(dy: Array, x: Array, weight: Array, eps: float = 1e-5) -> Array:
    """dy · w / σ: what comes of taking mean and deviation for constants, the commonest mistake. Its rows do not sum
    to 0, and no finite difference agrees with it."""
    return dy * weight / np.sqrt(variance(x) + eps)[..., None]


def _norm(weight: Array, bias: Array, eps: float) -> LayerNorm:
    norm = LayerNorm(len(weight), eps)
    norm.weight.assign(weight)
    assert norm.bias is not None
    norm.bias.assign(bias)
    return norm


# Cross-entropy with softmax ------------------------------------------------------------------------------------------


def naive_cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """−mean log p_target with p = softmax(z), and its gradient by the chain rule, step by step: in p, then in z.

        dp_target = −1 / (n p_target),     dz_i = p_i (dp_i − Σ_j dp_j p_j)

    Where p_target underflows the loss is inf, and the gradient 0 · inf = NaN: just where the model is most wrong.
    """
    p = softmax(logits)
    places = np.arange(len(targets))
    right = p[places, targets]
    loss = float(-np.log(right).mean())
    dp = np.zeros_like(p)
    dp[places, targets] = -1 / (len(targets) * right)
    return loss, p * (dp - (dp * p).sum(-1, keepdims=True))


def cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """The same, fused. The logarithm and the softmax cancel before anything is rounded:

        −log p_t = −log(exp(z_t) / Σ_j exp(z_j)) = log Σ_j exp(z_j) − z_t

    is finite for finite z; and so is its gradient. With ∂/∂z_i log Σ_j exp(z_j) = p_i (see `log_sum_exp`),

        dz_i = (p_i − δ_it) / n:   by the chain rule p_i (−δ_it / p_t + Σ_j δ_jt p_j / p_t) = p_i − δ_it,

    the divisor p_t, which underflows, cancelled by hand. No entry is larger than 1/n, however wrong the model is.
    logits (n, v), targets (n,).
    """
    return fused.cross_entropy(logits, targets)


# Gradients, measured -------------------------------------------------------------------------------------------------


def finite_differences(loss: Callable[[], float], x: Array, *, step: float = 1e-5) -> Array:
    """∂loss/∂x without any calculus: each number of x is moved by ±h, in place, and put back.

        (f(x + h) − f(x − h)) / 2h = f′(x) + h² f‴(x) / 6 + …

    The terms in f and f″ cancel, so the error falls as h² until rounding, of size ε |f| / h, takes over: in float64
    both are near 1e-10 at h = 1e-5. Raises TypeError for x in less than float64, where next to nothing is left.
    """
    if x.dtype != np.float64:
        raise TypeError(f"finite differences of {x.dtype} numbers are mostly rounding; expected float64")
    found = np.empty_like(x)
    for place in np.ndindex(x.shape):
        kept = x[place]
        x[place] = kept + step
        above = loss()
        x[place] = kept - step
        found[place] = (above - loss()) / (2 * step)
        x[place] = kept
    return found
