r"""Training: one loop for every model of the course, and weights that survive the process.

``fit`` minimises the mean negative log-likelihood :math:`-\frac1n \sum_i \log p(x_i \mid c_i)`, in nats, of any model
whose ``forward(x, context=None)`` returns one log-likelihood, or lower bound on it, per sample. The loop is in
``loop.py``, the data that enter it in ``rows.py``, weights and checkpoints in ``files.py``, what tells one run from
another in ``fingerprint.py``, the generators in ``noise.py``, and several processes in ``processes.py``.

**No hidden state.** All randomness of a run is a function of (seed, step): the order of epoch e is drawn from a
generator seeded by (seed, e), and the global generators of torch, NumPy and Python, from which a dequantised model
draws its noise, are seeded anew before every step by (seed, step, rank). The learning rate too is a function of the
step. So a checkpoint needs no
generator states, and a run that was killed and resumed takes exactly the steps that it would have taken, if all of the
model's state is in its parameters and buffers: on a CPU the weights are equal bit for bit (on a GPU as far as its
kernels are deterministic).
"""

from .files import load_weights, save_weights
from .history import History, TrainingDiverged
from .loop import NegativeLogLikelihood, fit
from .processes import distributed

__all__ = ["History", "NegativeLogLikelihood", "TrainingDiverged", "distributed", "fit", "load_weights", "save_weights"]
