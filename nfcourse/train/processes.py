"""Several processes, started by ``torchrun``: who they are, and what they tell each other."""

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["agree", "all_used", "distributed", "mean", "parallel", "rank_and_world", "same_everywhere"]


@contextlib.contextmanager
def distributed() -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` started, and give each its device.

    The same script runs in one process and in many, on CPUs (gloo) and NVIDIA GPUs (NCCL)::

        with train.distributed() as device:
            train.fit(model.to(device), x, epochs=10)

        # python script.py                                     one process
        # torchrun --standalone --nproc-per-node=4 script.py   four

    Yields:
        The device of this process: its own GPU if there is one for each; without ``torchrun`` the best of the machine.
    """
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        yield torch.device(kind)
        return
    gpus = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpus else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def rank_and_world() -> tuple[int, int]:
    """Return the number of this process, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # else every process would train alone, and all write one checkpoint
        raise RuntimeError("the processes of torchrun do not know each other: call fit inside `with distributed():`")
    return 0, 1


def parallel(objective: nn.Module, device: torch.device) -> nn.Module:
    """Return the module whose gradients are averaged over the processes; of one process, the objective itself."""
    if rank_and_world()[1] == 1:
        return objective
    return nn.parallel.DistributedDataParallel(objective, device_ids=[device] if device.type == "cuda" else None)


def all_used(objective: nn.Module) -> None:
    """Refuse parameters that the loss does not reach: of several processes each waits for the gradient of each."""
    if rank_and_world()[1] > 1:
        idle = [name for name, p in objective.named_parameters() if p.requires_grad and p.grad is None]
        if idle:
            raise ValueError(
                f"several processes need a gradient for every parameter; the loss does not reach {', '.join(idle)}: "
                "use them in every step, or freeze them with requires_grad_(False)"
            )


def mean(values: Tensor) -> Tensor:
    """Return the mean over the processes."""
    world = rank_and_world()[1]
    if world > 1:
        dist.all_reduce(values)
        values = values / world
    return values


def same_everywhere(step: int, path: str | os.PathLike | None, device: torch.device) -> None:
    """Refuse processes that start from different steps: they would wait for each other for ever."""
    if rank_and_world()[1] > 1:
        ends = torch.tensor([step, -step], device=device)
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        last, first = ends[0].item(), -ends[1].item()
        if first != last:
            raise ValueError(
                f"{path} is at step {first} for one process, {last} for another: use a path that all can read"
            )


def agree(module: nn.Module) -> None:
    """End together, with the first process's running statistics, and when its last checkpoint is written."""
    if rank_and_world()[1] > 1:
        dist.barrier()
        for buffer in module.buffers():
            if buffer.is_floating_point():
                dist.broadcast(buffer, 0)
