"""What the benchmarks share: the same flows from several libraries, the bare networks, timing in turn, and the report.

Every flow maps data to a standard normal base. A library's constructor takes the dimension and the sizes, and returns a
``Rival``. Where a library lets its user bring the conditioner (nflows, normflows and FrEIA for couplings), it gets the
one of this package; where it builds its own (zuko, flowjax, and all masked networks), it keeps its own, of the same
widths. FrEIA and flowjax (``requirements-bench.txt``) are timed where they are installed.
"""

import argparse
import gc
import importlib.util
import json
import math
import os
import platform
import shutil
import statistics
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from nfcourse import MLP, Compose, Coupling, Flow, StandardNormal, alternate_mask, half_mask
from nfcourse.bijections import RQSTransformer, masked_autoregressive

LIBRARIES = ("ours", "zuko", "nflows", "normflows")
#: timed where installed, and only that
OPTIONAL = ("FrEIA", "flowjax")
#: the columns of a table of times
COLUMNS = (*LIBRARIES, "FrEIA", "ours_compiled", "flowjax")
TASKS = ("log_prob", "training step", "sample")
BINS, BOUND = 8, 5.0
#: parameters per coordinate
N_PARAMS = {"affine": 2, "spline": 3 * BINS - 1}


class Rival(NamedTuple):
    """One library's flow: its module, and the two functions that are timed."""

    model: nn.Module
    log_prob: Callable
    sample: Callable

    def jobs(self, x):
        """What is timed, one function for each of the tasks."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)

        def evaluate():
            with torch.no_grad():
                self.log_prob(x)

        def step():
            optimizer.zero_grad()
            (-self.log_prob(x).mean()).backward()
            optimizer.step()

        def draw():
            with torch.no_grad():
                self.sample(len(x))

        return dict(zip(TASKS, (evaluate, step, draw), strict=True))

    def compiled(self):
        """The same behind ``torch.compile``; the optimizer is not compiled."""
        return self._replace(log_prob=torch.compile(self.log_prob), sample=torch.compile(self.sample))


class Net(MLP):
    """This package's MLP for libraries that call it with a context."""

    def forward(self, x, context=None):
        """Ignore the context."""
        return super().forward(x)


# --- couplings ------------------------------------------------------------------------------------------------------


def masks(dim, layers, alternate):
    """What conditions in each layer: halves, or even and odd coordinates, exchanged from layer to layer."""
    make = alternate_mask if alternate else half_mask
    return [make(dim, flip=k % 2 == 1) for k in range(layers)]


def coupling(library, kind, dim, layers, hidden, alternate=False):
    """A stack of couplings, ``kind`` affine or spline, from ``library``; ``dim`` is even."""
    make = {
        "ours": _ours_coupling,
        "zuko": _zuko_coupling,
        "nflows": _nflows_coupling,
        "normflows": _normflows_coupling,
        "FrEIA": _freia_coupling,
        "flowjax": _flowjax_coupling,
    }
    return make[library](kind, dim, hidden, masks(dim, layers, alternate), alternate)


def _ours_coupling(kind, dim, hidden, masks, alternate):
    transformer = {"affine": lambda: None, "spline": lambda: RQSTransformer(BINS, BOUND)}[kind]
    layers = [Coupling(mask, lambda i, o: MLP(i, o, hidden), transformer()) for mask in masks]
    return _ours(Flow(StandardNormal(dim), Compose(*layers)))


def _ours(flow):
    return Rival(flow, flow.log_prob, lambda n: flow.sample((n,)))


def _zuko_coupling(kind, dim, hidden, masks, alternate):
    import zuko

    options = {}
    if kind == "spline":
        options = {"univariate": zuko.transforms.MonotonicRQSTransform, "shapes": [(BINS,), (BINS,), (BINS - 1,)]}
    layers = [zuko.flows.GeneralCouplingTransform(dim, mask=mask, hidden_features=hidden, **options) for mask in masks]
    base = zuko.lazy.UnconditionalDistribution(
        zuko.distributions.DiagNormal, torch.zeros(dim), torch.ones(dim), buffer=True
    )
    return _zuko(zuko.lazy.Flow(layers, base))


def _zuko(flow):
    return Rival(flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,)))


def _nflows_coupling(kind, dim, hidden, masks, alternate):
    from nflows.transforms import AffineCouplingTransform, PiecewiseRationalQuadraticCouplingTransform

    def layer(mask):
        if kind == "affine":
            return AffineCouplingTransform(~mask, lambda i, o: Net(i, o, hidden))
        return PiecewiseRationalQuadraticCouplingTransform(
            ~mask, lambda i, o: Net(i, o, hidden), num_bins=BINS, tails="linear", tail_bound=BOUND
        )

    return _nflows(dim, [layer(mask) for mask in masks])


def _nflows(dim, layers):
    from nflows.distributions.normal import StandardNormal as Base
    from nflows.flows.base import Flow as NFlow
    from nflows.transforms.base import CompositeTransform

    flow = NFlow(CompositeTransform(layers), Base([dim]))
    return Rival(flow, flow.log_prob, flow.sample)


def _normflows_coupling(kind, dim, hidden, masks, alternate):
    import normflows as nf

    layers = []
    for mask in masks:
        if kind == "spline":
            layers.append(_normflows_spline(mask, hidden))
        elif alternate:  # its checkerboard conditions on the odd coordinates
            split = "checkerboard_inv" if mask[0] else "checkerboard"
            net = nf.nets.MLP([int(mask.sum()), *hidden, 2 * int((~mask).sum())], init_zeros=True)
            layers.append(nf.flows.AffineCouplingBlock(net, split_mode=split))
        else:  # the first half always conditions; the halves are exchanged in between
            net = nf.nets.MLP([dim // 2, *hidden, 2 * (dim // 2)], init_zeros=True)
            layers += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(dim, mode="swap")]
    return _normflows(dim, layers)


def _normflows_spline(mask, hidden):
    """Its spline coupling with the conditioner and the mask of the others; its own class brings a residual network."""
    import normflows as nf
    from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCoupling

    class Layer(nf.flows.Flow):
        def __init__(self):
            super().__init__()
            self.prqct = PiecewiseRationalQuadraticCoupling(
                ~mask, lambda i, o: Net(i, o, hidden), num_bins=BINS, tails="linear", tail_bound=BOUND
            )

        def forward(self, z):
            return self.prqct.inverse(z)

        def inverse(self, x):
            return self.prqct(x)

    return Layer()


def _normflows(dim, layers):
    import normflows as nf

    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(dim, trainable=False), layers)
    return Rival(flow, flow.log_prob, lambda n: flow.sample(n)[0])


def _freia_coupling(kind, dim, hidden, masks, alternate):
    """Its block couples both ways, so that it splits and joins once where the others do so twice.

    Its soft clamp is an arcus tangent. The release on PyPI has no splines, and the library no base distribution.
    """
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import GLOWCouplingBlock

    if kind != "affine" or alternate or len(masks) % 2:
        raise ValueError("FrEIA has pairs of affine couplings, each of one half given the other.")
    inn = SequenceINN(dim)
    for _ in masks[::2]:
        inn.append(GLOWCouplingBlock, subnet_constructor=lambda i, o: MLP(i, o, hidden))

    def log_prob(x):
        z, log_det = inn(x)
        return log_det - 0.5 * (z.square().sum(1) + dim * math.log(math.tau))

    return Rival(inn, log_prob, lambda n: inn(torch.randn(n, dim), rev=True)[0])


def _flowjax_coupling(kind, dim, hidden, masks, alternate):
    from flowjax.bijections import Coupling, RationalQuadraticSpline

    if alternate:
        raise ValueError("flowjax couples halves.")
    # its spline also learns the two outer derivatives: 25 parameters per coordinate, not 23
    spline = {"transformer": RationalQuadraticSpline(knots=BINS - 1, interval=BOUND)} if kind == "spline" else {}
    return _flowjax(Coupling, dim, len(masks), hidden, untransformed_dim=dim // 2, **spline)


def _flowjax(layer, dim, layers, hidden, **options):
    """A stack of flowjax's ``layer``, the coordinates reversed in between; its own flows permute them at random."""
    _one_thread_jax()
    import equinox
    import jax
    from flowjax.bijections import Chain, Flip, Invert, Scan
    from flowjax.distributions import StandardNormal as Base
    from flowjax.distributions import Transformed
    from flowjax.flows import _affine_with_min_scale

    options = {"transformer": _affine_with_min_scale(), **options}

    def make(key):
        return Chain([layer(key, dim=dim, nn_width=hidden[0], nn_depth=len(hidden), **options), Flip((dim,))])

    keys = jax.random.split(jax.random.key(0), layers)
    forms = Chain([make(key) for key in keys]), Scan(equinox.filter_vmap(make)(keys))
    return JaxRival([Transformed(Base((dim,)), Invert(form)) for form in forms])


def _one_thread_jax():
    """Keep jax to one thread, as torch is. Its pool counts the cores that it may use when it starts, and only then."""
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if hasattr(os, "sched_setaffinity") and torch.get_num_threads() == 1:
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})
        jax.devices()
        os.sched_setaffinity(0, cores)


class JaxRival:
    """A flowjax flow in two forms, its layers in a row and in a loop (``Scan``): now this and now that is faster."""

    def __init__(self, flows):
        self.flows = flows

    def jobs(self, x):
        """What is timed, all of it behind ``jax.jit``; for each task the faster form."""
        forms = [self._jobs(flow, x.numpy()) for flow in self.flows]
        return {task: min((jobs[task] for jobs in forms), key=_quick) for task in TASKS}

    @staticmethod
    def _jobs(flow, x):
        import equinox
        import jax
        import optax

        params, static = equinox.partition(flow, equinox.is_inexact_array)
        # a flat list of arrays spares each call the walk through the modules
        leaves, tree = jax.tree.flatten(params)
        optimizer, key, x = optax.adam(1e-4), jax.random.key(0), jax.numpy.asarray(x)
        # copies, because a step gives the old arrays away
        state = [[leaf.copy() for leaf in leaves], optimizer.init(leaves)]

        def build(leaves):
            return equinox.combine(jax.tree.unflatten(tree, leaves), static)

        def update(leaves, moments):
            gradient = jax.grad(lambda p: -build(p).log_prob(x).mean())(leaves)
            change, moments = optimizer.update(gradient, moments)
            return [optax.apply_updates(leaves, change), moments]

        log_prob = jax.jit(lambda leaves, x: build(leaves).log_prob(x))
        sample = jax.jit(lambda leaves, key: build(leaves).sample(key, (len(x),)))
        update = jax.jit(update, donate_argnums=(0, 1))

        def step():
            state[:] = jax.block_until_ready(update(*state))

        jobs = (
            lambda: jax.block_until_ready(log_prob(leaves, x)),
            step,
            lambda: jax.block_until_ready(sample(leaves, key)),
        )
        return dict(zip(TASKS, jobs, strict=True))


def _quick(job, rounds=5):
    """Least processor seconds of a job over some rounds, after a first call that compiles."""
    return min(_seconds(job) for _ in range(rounds + 1))


# --- masked autoregressive flows ------------------------------------------------------------------------------------


def autoregressive(library, dim, layers, hidden):
    """An affine MAF from ``library``; every second layer reads the coordinates backwards."""
    make = {
        "ours": _ours_maf,
        "zuko": _zuko_maf,
        "nflows": _nflows_maf,
        "normflows": _normflows_maf,
        "flowjax": _flowjax_maf,
    }
    return make[library](dim, layers, hidden)


def _ours_maf(dim, layers, hidden):
    return _ours(Flow(StandardNormal(dim), masked_autoregressive(dim, layers, hidden=hidden)))


def _zuko_maf(dim, layers, hidden):
    import zuko

    return _zuko(zuko.flows.MAF(dim, transforms=layers, hidden_features=hidden))


def _nflows_maf(dim, layers, hidden):
    from nflows.transforms import MaskedAffineAutoregressiveTransform, ReversePermutation

    stack = []
    for k in range(layers):
        stack += [ReversePermutation(dim)] * (k > 0)
        stack.append(
            MaskedAffineAutoregressiveTransform(
                dim, hidden[0], num_blocks=len(hidden) - 1, use_residual_blocks=False, activation=F.relu
            )
        )
    return _nflows(dim, stack)


def _normflows_maf(dim, layers, hidden):
    import normflows as nf

    stack = []
    for k in range(layers):
        if k > 0:
            reverse = nf.flows.Permute(dim)
            reverse.perm = reverse.inv_perm = torch.arange(dim - 1, -1, -1)
            stack.append(reverse)
        layer = nf.flows.MaskedAffineAutoregressive(
            dim, hidden[0], num_blocks=len(hidden) - 1, use_residual_blocks=False
        )
        # its plain MADE has no nonlinearity after the first layer; with it the network is that of the others
        made = layer.autoregressive_net
        made.initial_layer = nn.Sequential(made.initial_layer, nn.ReLU())
        # its `forward` is the fast direction; a likelihood needs that one from data to base
        stack.append(nf.flows.Reverse(layer))
    return _normflows(dim, stack)


def _flowjax_maf(dim, layers, hidden):
    from flowjax.bijections import MaskedAutoregressive

    return _flowjax(MaskedAutoregressive, dim, layers, hidden)


# --- bare networks --------------------------------------------------------------------------------------------------


class BareCouplings(nn.Module):
    """The conditioners of a coupling flow alone, each fed with half the coordinates: the cost that no flow avoids."""

    def __init__(self, kind, dim, layers, hidden):
        super().__init__()
        self.n_a = dim // 2
        n_out = N_PARAMS[kind] * (dim - self.n_a)
        self.nets = nn.ModuleList(MLP(self.n_a, n_out, hidden, zero_init=False) for _ in range(layers))

    def forward(self, x):
        """Return something of the shape of a log-density that depends on every network."""
        a = x[:, : self.n_a]
        return sum(net(a).sum(-1) for net in self.nets)


class MaskedLinear(nn.Linear):
    """A linear layer with a mask on its weights, in the plainest form."""

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        self.register_buffer("mask", (torch.rand(n_out, n_in) < 0.5).float())

    def forward(self, x):
        """Mask, then map."""
        return F.linear(x, self.weight * self.mask, self.bias)


class BareMasked(nn.Module):
    """The masked networks of a MAF alone. Which entries are masked does not change the cost: here random ones are."""

    def __init__(self, kind, dim, layers, hidden):
        super().__init__()
        widths = [dim, *hidden, N_PARAMS[kind] * dim]

        def net():
            stack = []
            for a, b in zip(widths[:-1], widths[1:], strict=True):
                stack += [MaskedLinear(a, b), nn.ReLU()]
            return nn.Sequential(*stack[:-1])

        self.nets = nn.ModuleList(net() for _ in range(layers))

    def forward(self, x):
        """Return something of the shape of a log-density that depends on every network."""
        return sum(net(x).sum(-1) for net in self.nets)


def bare(cls, *args):
    """The networks alone as a rival: log_prob is one pass, and so is a sample."""
    net = cls(*args)
    inputs = {}

    def sample(n):
        if n not in inputs:
            inputs[n] = torch.randn(n, args[1])
        return net(inputs[n])

    return Rival(net, net, sample)


# --- timing ---------------------------------------------------------------------------------------------------------


def _seconds(job, inner=1):
    start = time.process_time()
    for _ in range(inner):
        job()
    return (time.process_time() - start) / inner


def time_in_turn(jobs, rounds, inner):
    """Median processor seconds of each job; the jobs take turns, so that a drift of the machine meets all.

    Processor time, because wall time says more about what else the machine is doing. Two rounds warm up. Garbage is
    collected between the rounds, so that nobody pays for the garbage of another.
    """
    seconds = {name: [] for name in jobs}
    gc.collect()
    gc.freeze()  # what is there stays, and is not searched again
    gc.disable()
    for k in range(rounds + 2):
        gc.collect()
        for name, job in jobs.items():
            spent = _seconds(job, inner)
            if k >= 2:
                seconds[name].append(spent)
    gc.enable()
    gc.unfreeze()
    return {name: statistics.median(s) for name, s in seconds.items()}


def tasks(rivals, x):
    """The functions to time: ``{"log_prob": {name: job}, "training step": ..., "sample": ...}``."""
    jobs = {name: rival.jobs(x) for name, rival in rivals.items()}
    return {task: {name: job[task] for name, job in jobs.items()} for task in TASKS}


def contestants(kind):
    """The libraries to time, and of those that are not the reason."""
    missing = {name: "not installed" for name in OPTIONAL if importlib.util.find_spec(name) is None}
    if kind != "affine":
        missing["FrEIA"] = "its release has affine couplings only"
    return [name for name in (*LIBRARIES, *OPTIONAL) if name not in missing], missing


def time_flows(args, kind, batch, build, inner):
    """Times over those of the bare networks, one row for each dimension and task; and what was skipped, and why.

    Args:
        args: The arguments of the command line.
        kind: What is timed: affine (couplings), spline (couplings) or MAF.
        batch: Number of points.
        build: Called as ``build(name, dim)``, returns the rival of that name, or the bare networks for "bare".
        inner: For each task, how often it is done in a round.
    """
    names, skipped = contestants(kind)
    if args.smoke or not (shutil.which("g++") or shutil.which("clang++")):
        skipped["ours_compiled"] = "smoke" if args.smoke else "no C++ compiler"
    for name, reason in skipped.items():
        print(f"{name} is skipped: {reason}")
    results = {}
    line("times the bare nets", [name for name in COLUMNS if name not in skipped], 13)
    for dim in args.dims:
        torch.manual_seed(0)
        rivals = {name: build(name, dim) for name in ("bare", *names)}
        if "ours_compiled" not in skipped:
            torch._dynamo.reset()
            rivals["ours_compiled"] = rivals["ours"].compiled()
        for task, jobs in tasks(rivals, torch.randn(batch, dim)).items():
            row = results[f"D={dim} {task}"] = ratios(time_in_turn(jobs, args.rounds, inner[task]))
            line(f"D = {dim}, {task}", [row[name] for name in COLUMNS if name in row], 13)
    return results, skipped


def ratios(seconds):
    """Milliseconds of the bare networks, and every rival's time over theirs."""
    ratio = {name: round(s / seconds["bare"], 3) for name, s in seconds.items() if name != "bare"}
    return {"bare_ms": round(1e3 * seconds["bare"], 4), **ratio}


# --- command line and report ----------------------------------------------------------------------------------------


def parser(description):
    """The arguments that every benchmark has."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--json", help="write settings, machine and figures to this file")
    result.add_argument("--rounds", type=int, default=20, help="how often the rivals take turns (default: %(default)s)")
    result.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    result.add_argument("--smoke", action="store_true", help="tiny sizes: only to see that everything runs")
    return result


class Report:
    """Collects the figures of one benchmark; writes them with all that is needed to judge them."""

    def __init__(self, name, args, **settings):
        warnings.filterwarnings("ignore")
        torch.set_num_threads(args.threads)
        self.start = time.perf_counter()
        self.path = args.json
        self.content = {"benchmark": name, "settings": {"smoke": args.smoke, **settings}, "machine": machine()}

    def write(self, results, skipped=None):
        """Write the file, if one is asked for; ``skipped`` has the rivals that were not there, and why."""
        if skipped is not None:
            self.content["skipped"] = skipped
        self.content["seconds"] = round(time.perf_counter() - self.start, 1)
        self.content["results"] = results
        if self.path:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            Path(self.path).write_text(json.dumps(self.content, indent=1) + "\n")


def machine():
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = {"python": platform.python_version(), "torch": torch.__version__, "nfcourse": version("nfcourse")}
    extra = [name for name in (*OPTIONAL, "jax") if importlib.util.find_spec(name)]
    versions |= {name: version(name) for name in (*LIBRARIES[1:], *extra)}
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": versions,
    }


def parameters(model):
    """Number of parameters of a module."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def line(name, values, width=10, form="{:.2f}"):
    """One printed row."""
    cells = (form.format(v) if isinstance(v, (int, float)) else str(v) for v in values)
    print(f"{name:>28} " + " ".join(f"{cell:>{width}}" for cell in cells), flush=True)
