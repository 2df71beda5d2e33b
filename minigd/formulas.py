"""The math of the engine, each formula once, the way a textbook writes it.

Plain functions of arrays: row i of a result depends only on row i of the inputs, so a backend may
run them slice by slice, or as one kernel. Formulas of real numbers also work for complex numbers,
because the gradient checker needs it: comparisons use the real part, as minimum and maximum already
do, and nothing uses `abs`.
"""

import numpy as np

from minigd.types import Array


def tanh(x: Array) -> Array:
    """Return y = tanh(x).

    >>> tanh(np.array([0.0, 1.0])).round(6)
    array([0.      , 0.761594])
    """
    return np.tanh(x)


def tanh_backward(y: Array, dy: Array) -> Array:
    """Return dx = dy · (1 − y²), from the output y = tanh(x)."""
    return dy * (1 - y * y)


def sigmoid(x: Array) -> Array:
    """Return y = 1 / (1 + exp(−x)), written as exp(min(x, 0)) / (1 + exp(−|x|)).

    No exponent is above 0, so nothing overflows, and a small y has all its digits.

    >>> sigmoid(np.array([-1e4, -20.0, 0.0, 1e4]))
    array([0.00000000e+00, 2.06115362e-09, 5.00000000e-01, 1.00000000e+00])
    """
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(np.minimum(x, -x)))


def sigmoid_backward(y: Array, dy: Array) -> Array:
    """Return dx = dy · y · (1 − y), from the output y = sigmoid(x)."""
    return dy * y * (1 - y)


def relu(x: Array) -> Array:
    """Return y = max(x, 0); a NaN stays a NaN.

    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return np.where(x.real <= 0, 0, x)


def relu_backward(y: Array, dy: Array) -> Array:
    """Return dx = dy where y > 0 and 0 elsewhere. The derivative at 0 is set to 0."""
    return dy * (y > 0)


def leaky_relu(x: Array, *, slope: float) -> Array:
    """Return y = x where x > 0, and slope · x elsewhere.

    >>> leaky_relu(np.array([-1.0, 0.0, 2.0]), slope=0.25)
    array([-0.25,  0.  ,  2.  ])
    """
    return np.where(x.real > 0, x, slope * x)


def leaky_relu_backward(y: Array, dy: Array, *, slope: float) -> Array:
    """Return dx = dy where y > 0 and slope · dy elsewhere, from y = leaky_relu(x)."""
    return np.where(y.real > 0, dy, slope * dy)


def elu(x: Array, *, alpha: float) -> Array:
    """Return y = x where x > 0, and α (exp(x) − 1) elsewhere.

    With t = tanh(x / 2), exp(x) − 1 is 2 t / (1 − t), which keeps the digits of a small x.

    >>> elu(np.array([-1e-20, 0.0, 2.0]), alpha=0.5)
    array([-5.e-21,  0.e+00,  2.e+00])
    """
    t = np.tanh(0.5 * np.where(x.real > 0, 0, x))
    return np.where(x.real > 0, x, alpha * (2 * t / (1 - t)))


def elu_backward(y: Array, dy: Array, *, alpha: float) -> Array:
    """Return dx = dy where y > 0, and dy · (y + α), which is dy · α exp(x), elsewhere."""
    return np.where(y.real > 0, dy, dy * (y + alpha))


def softplus(x: Array) -> Array:
    """Return y = log(1 + exp(x)), written as max(x, 0) + log(1 + exp(−|x|)).

    >>> softplus(np.array([-1e4, -20.0, 0.0, 1e4]))
    array([0.00000000e+00, 2.06115362e-09, 6.93147181e-01, 1.00000000e+04])
    """
    return np.maximum(x, 0) + np.log1p(np.exp(np.minimum(x, -x)))


def softplus_backward(x: Array, dy: Array) -> Array:
    """Return dx = dy · sigmoid(x), from the input x."""
    return dy * sigmoid(x)


def silu(x: Array) -> Array:
    """Return y = x · sigmoid(x).

    >>> silu(np.array([-1e4, 0.0, 2.0])).round(6)
    array([-0.      ,  0.      ,  1.761594])
    """
    return x * sigmoid(x)


def silu_backward(x: Array, dy: Array) -> Array:
    """Return dx = dy · p · (1 + x (1 − p)), from the input x, with p = sigmoid(x)."""
    p = sigmoid(x)
    return dy * p * (1 + x * (1 - p))


def normal_cdf(x: Array) -> Array:
    """Return Φ(x), the probability that a standard normal number is below x: ½ (1 + erf(x / √2)).

    With z = |x| and t = (z − 5) / (z + 5), it is exp(−z² / 2) P(t) / (1 + z) below 0, and 1 minus
    that above, for a polynomial P. The error is 2e-16, and nothing cancels where Φ(x) is small.

    >>> normal_cdf(np.array([-10.0, 0.0, 1.0]))
    array([7.61985302e-24, 5.00000000e-01, 8.41344746e-01])
    """
    z = _limited(np.where(x.real < 0, -x, x))
    t, p = (z - 5) / (z + 5), _NORMAL_TAIL[-1]
    for coefficient in reversed(_NORMAL_TAIL[:-1]):
        p = p * t + coefficient
    tail = np.exp(-0.5 * z * z) * p / (1 + z)
    return np.where(x.real < 0, tail, 1 - tail)


# (1 + z) exp(z² / 2) Φ(−z) for z ≥ 0 as a polynomial in (z − 5) / (z + 5), the constant first. The
# rest of the Chebyshev series is below 1e-17.
_NORMAL_TAIL = (
    0.46151582985003775,
    -0.09155228183401112,
    0.031030368425963708,
    0.010002352385413518,
    -0.026401042966308307,
    0.024536963238891124,
    -0.015170415402514863,
    0.0065220007252342425,
    -0.00167607234455447,
    7.79121440702919e-06,
    0.00018233414511643843,
    -5.360602125091952e-05,
    -9.896097759279782e-06,
    9.055745037072721e-06,
    -7.034644683537101e-08,
    -1.3004549261799018e-06,
    1.27878221820937e-07,
    1.8846163807542468e-07,
    -2.6286205089898754e-08,
    -2.54667816805072e-08,
    3.627373163401201e-09,
    2.2070652717459774e-09,
    -2.8220772290629865e-10,
)


def _limited(x: Array) -> Array:
    """Return x, limited to −40 and 40: beyond that, the factors in `gelu` are 0 or 1."""
    return np.minimum(np.maximum(x, -40), 40)


def gelu(x: Array) -> Array:
    """Return y = x · Φ(x), for the distribution function Φ of the standard normal distribution.

    >>> gelu(np.array([-1e4, 0.0, 2.0])).round(6)
    array([-0.    ,  0.    ,  1.9545])
    """
    return x * normal_cdf(x)


def gelu_backward(x: Array, dy: Array) -> Array:
    """Return dx = dy · (Φ(x) + x φ(x)), from the input x; φ(x) = exp(−x² / 2) / √(2π) is Φ′."""
    z = _limited(x)
    return dy * (normal_cdf(x) + z * (0.3989422804014327 * np.exp(-0.5 * z * z)))


def gelu_tanh(x: Array) -> Array:
    """Return y = ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), near `gelu`.

    Written with ½ (1 + tanh(u)) = sigmoid(2 u), which keeps its digits where it is small.

    >>> gelu_tanh(np.array([-1e4, 0.0, 2.0])).round(6)
    array([-0.      ,  0.      ,  1.954598])
    """
    z = _limited(x)
    return x * sigmoid(1.5957691216057308 * (z + 0.044715 * z * z * z))


def gelu_tanh_backward(x: Array, dy: Array) -> Array:
    """Return dx = dy · (p + x p (1 − p) · 2 √(2/π) (1 + 0.134145 x²)), from the input x.

    p is the sigmoid in `gelu_tanh`.
    """
    z = _limited(x)
    p = sigmoid(1.5957691216057308 * (z + 0.044715 * z * z * z))
    return dy * (p + p * (1 - p) * (1.5957691216057308 * z * (1 + 0.134145 * z * z)))


def softmax(x: Array) -> Array:
    """Return y_ij = exp(x_ij) / Σ_k exp(x_ik), shifted by the row's maximum to avoid overflow.

    >>> softmax(np.array([[0.0, 0.0], [1e4, 0.0]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    e = np.exp(x - x.real.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(y: Array, dy: Array) -> Array:
    """Return dx_ij = y_ij · (dy_ij − Σ_k dy_ik y_ik), the product with softmax's true Jacobian."""
    return y * (dy - (dy * y).sum(axis=1, keepdims=True))


def log_softmax(x: Array) -> Array:
    """Return log softmax(x)_ij = x_ij − log Σ_k exp(x_ik), shifted by the row's maximum.

    >>> log_softmax(np.array([[0.0, 0.0], [1e4, 0.0]])).round(4)
    array([[-6.931e-01, -6.931e-01],
           [ 0.000e+00, -1.000e+04]])
    """
    shifted = x - x.real.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def binary_cross_entropy(z: Array, y: Array) -> Array:
    """Return −y log p − (1 − y) log(1 − p) for p = sigmoid(z), from the logit z.

    Written as max(z, 0) − z y + log(1 + exp(−|z|)), which is exact for any z.

    >>> binary_cross_entropy(np.array([0.0, 1e4, 1e4]), np.array([1.0, 1.0, 0.0])).round(4)
    array([6.931e-01, 0.000e+00, 1.000e+04])
    """
    return np.maximum(z, 0) - z * y + np.log1p(np.exp(np.minimum(z, -z)))


def binary_cross_entropy_backward(z: Array, y: Array) -> Array:
    """Return the derivative of `binary_cross_entropy`, (1 − y) σ(z) − y σ(−z), for σ = sigmoid.

    It is σ(z) − y, which rounds to 0 where σ(z) is near a label of 1. With a = exp(min(z, 0)) and
    b = exp(min(−z, 0)), σ(z) is a / (a + b) and σ(−z) is b / (a + b).

    >>> z, y = np.array([-20.0, 20.0, 0.0]), np.array([0.0, 1.0, 0.25])
    >>> binary_cross_entropy_backward(z, y)
    array([ 2.06115362e-09, -2.06115362e-09,  2.50000000e-01])
    """
    a, b = np.exp(np.minimum(z, 0)), np.exp(np.minimum(-z, 0))
    return ((1 - y) * a - y * b) / (a + b)


def absolute(e: Array) -> Array:
    """Return |e|.

    >>> absolute(np.array([-3.0, 0.5]))
    array([3. , 0.5])
    """
    return np.where(e.real < 0, -e, e)


def absolute_backward(e: Array) -> Array:
    """Return the derivative of `absolute`: the sign of e, with 0 at 0."""
    return np.sign(e)


def quantile(e: Array, q: Array) -> Array:
    """Return (1 − q) e where e > 0, and −q e elsewhere, for an error e = prediction − target.

    >>> quantile(np.array([-2.0, 2.0]), np.array([0.75, 0.75]))
    array([1.5, 0.5])
    """
    return np.where(e.real > 0, (1 - q) * e, -q * e)


def quantile_backward(e: Array, q: Array) -> Array:
    """Return the derivative of `quantile`: 1 − q above 0, −q below, and 0 at 0."""
    return np.where(e.real < 0, -q, (1 - q) * np.sign(e))


def huber(e: Array, *, delta: float) -> Array:
    """Return ½ e² where |e| ≤ δ, and δ (|e| − ½ δ) beyond, for an error e.

    Both are c (|e| − ½ c) with c = min(|e|, δ), which squares nothing that is large.

    >>> huber(np.array([-3.0, 0.5]), delta=1.0)
    array([2.5  , 0.125])
    """
    abs_e = np.where(e.real < 0, -e, e)
    c = np.where(abs_e.real <= delta, abs_e, delta)
    return c * (abs_e - 0.5 * c)


def huber_backward(e: Array, *, delta: float) -> Array:
    """Return the derivative of `huber`: e, limited to −δ and δ."""
    return np.minimum(np.maximum(e, -delta), delta)


def poisson(z: Array, y: Array) -> Array:
    """Return exp(z) − y z, which is −log of Poisson's probability of y, without log(y!).

    >>> poisson(np.array([0.0, 1.0]), np.array([2.0, 2.0])).round(4)
    array([1.    , 0.7183])
    """
    return np.exp(z) - y * z


def poisson_backward(z: Array, y: Array) -> Array:
    """Return the derivative of `poisson`, exp(z) − y."""
    return np.exp(z) - y


def hinge(z: Array, s: Array) -> Array:
    """Return max(0, 1 − s z), for a sign s of −1 or 1.

    >>> hinge(np.array([0.25, 2.0, 2.0]), np.array([1.0, 1.0, -1.0]))
    array([0.75, 0.  , 3.  ])
    """
    return np.maximum(1 - s * z, 0)


def hinge_backward(z: Array, s: Array) -> Array:
    """Return the derivative of `hinge`: −s where s z < 1; at 1 and above it is 0."""
    return np.where((s * z).real >= 1, 0, -s)


def focal(z: Array, y: Array, *, gamma: float, positive: float, negative: float) -> Array:
    """Return −a y (1 − p)^γ log p − b (1 − y) p^γ log(1 − p), for p = sigmoid(z), from the logit z.

    a and b are `positive` and `negative`. With yes = −log p and no = −log(1 − p), both exact for
    any z, the powers are exp(−γ no) and exp(−γ yes).

    >>> z, y = np.array([0.0, 0.0, 1e4]), np.array([1.0, 0.0, 0.0])
    >>> focal(z, y, gamma=2.0, positive=0.25, negative=0.75).round(4)
    array([4.33e-02, 1.30e-01, 7.50e+03])
    """
    rest = np.log1p(np.exp(np.minimum(z, -z)))
    yes, no = np.maximum(-z, 0) + rest, np.maximum(z, 0) + rest
    missed = positive * y * np.exp(-gamma * no) * yes
    return missed + negative * (1 - y) * np.exp(-gamma * yes) * no


def focal_backward(z: Array, y: Array, *, gamma: float, positive: float, negative: float) -> Array:
    """Return the derivative of `focal`.

    It is b (1 − y) p^γ (p + γ q no) − a y q^γ (q + γ p yes), for q = 1 − p.

    >>> z, y = np.array([0.0, 1e4, 1e4]), np.array([1.0, 1.0, 0.0])
    >>> focal_backward(z, y, gamma=2.0, positive=0.25, negative=0.75).round(4)
    array([-0.0746,  0.    ,  0.75  ])
    """
    rest = np.log1p(np.exp(np.minimum(z, -z)))
    yes, no = np.maximum(-z, 0) + rest, np.maximum(z, 0) + rest
    p, q = np.exp(-yes), np.exp(-no)
    missed = positive * y * np.exp(-gamma * no) * (q + gamma * p * yes)
    return negative * (1 - y) * np.exp(-gamma * yes) * (p + gamma * q * no) - missed


def penalized(p: Array, g: Array, *, l1: float, l2: float) -> Array:
    """Return g + λ₁ sign(p) + λ₂ p, the gradient with that of λ₁ |p| + ½ λ₂ p²; sign(0) is 0.

    >>> penalized(np.array([2.0, -1.0]), np.zeros(2), l1=0.5, l2=0.25)
    array([ 1.  , -0.75])
    """
    return g + l1 * np.sign(p) + l2 * p


def mixed(place: Array, *, key: int) -> Array:
    """Return the word at each position, from 1, of the stream that `key` starts.

    It is the finalizer of SplitMix64 over key + place · 0x9E3779B97F4A7C15, all modulo 2⁶⁴: Steele,
    Lea and Flood (2014), "Fast splittable pseudorandom number generators", OOPSLA, figure 17
    (variant 13 of Stafford).

    >>> [hex(word) for word in mixed(np.array([1, 2], dtype="uint64"), key=1234567).tolist()]
    ['0x599ed017fb08fc85', '0x2c73f08458540fa5']
    """
    h = place * 0x9E3779B97F4A7C15 + key
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB
    return h ^ (h >> 31)


def sgd(p: Array, g: Array, *, learning_rate: float) -> Array:
    """Return p − η g."""
    return p - learning_rate * g


def momentum(
    p: Array, g: Array, v: Array, *, learning_rate: float, momentum: float
) -> tuple[Array, Array]:
    """Return the new (p, v): v = μ v + g, then p − η v."""
    v = momentum * v + g
    return p - learning_rate * v, v


def nesterov(
    p: Array, g: Array, v: Array, *, learning_rate: float, momentum: float
) -> tuple[Array, Array]:
    """Return the new (p, v): v = μ v + g, then p − η (g + μ v)."""
    v = momentum * v + g
    return p - learning_rate * (g + momentum * v), v


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> tuple[Array, Array, Array]:
    """Return the new (p, m, v): m = β₁ m + (1 − β₁) g, v = β₂ v + (1 − β₂) g², p − α m / (√v + ε).

    `rate` α and `epsilon` ε include the bias corrections of the step, as in `minigd.Adam`.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    return p - rate * m / (np.sqrt(v) + epsilon), m, v


def adamw(
    p: Array,
    g: Array,
    decayed: Array,
    m: Array,
    v: Array,
    *,
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    decay: float,
) -> tuple[Array, Array, Array]:
    """Return the new (p, m, v) of `adam`, with p · decay subtracted where `decayed` is 1."""
    new, m, v = adam(p, g, m, v, rate=rate, beta1=beta1, beta2=beta2, epsilon=epsilon)
    return new - (decay * decayed) * p, m, v


def amsgrad(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    v_max: Array,
    *,
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> tuple[Array, Array, Array, Array]:
    """Return the new (p, m, v, v_max): m and v of `adam`, v_max = max(v_max, v) instead of v."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    v_max = np.maximum(v_max, v)
    return p - rate * m / (np.sqrt(v_max) + epsilon), m, v, v_max


def nadam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    rate: float,
    ahead: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> tuple[Array, Array, Array]:
    """Return the new (p, m, v): m and v of `adam`, then p − (α g + α' m) / (√v + ε).

    `rate` α, `ahead` α' and `epsilon` ε include the corrections of the step, as in `minigd.Nadam`.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    return p - (rate * g + ahead * m) / (np.sqrt(v) + epsilon), m, v


def radam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    rate: float,
    adaptive: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> tuple[Array, Array, Array]:
    """Return the new (p, m, v): m and v of `adam`, then p − α m / (a √v + ε).

    `rate` α includes the corrections of the step. While v is too uncertain, `adaptive` a is 0 and
    `epsilon` ε is 1; then a is 1. See `minigd.RAdam`.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    return p - rate * m / (adaptive * np.sqrt(v) + epsilon), m, v


def rmsprop(
    p: Array, g: Array, v: Array, *, learning_rate: float, rho: float, epsilon: float
) -> tuple[Array, Array]:
    """Return the new (p, v): v = ρ v + (1 − ρ) g², then p − η g / (√v + ε)."""
    v = rho * v + (1 - rho) * (g * g)
    return p - learning_rate * g / (np.sqrt(v) + epsilon), v


def adagrad(
    p: Array, g: Array, v: Array, *, learning_rate: float, epsilon: float
) -> tuple[Array, Array]:
    """Return the new (p, v): v = v + g², then p − η g / (√v + ε)."""
    v = v + g * g
    return p - learning_rate * g / (np.sqrt(v) + epsilon), v
