"""What all modules of the package share: they print their configuration."""

from torch import nn

__all__ = ["Module"]

_PLAIN = (bool, int, float, str, tuple)


class Module(nn.Module):
    """A module whose ``repr`` names every public attribute that is a plain number, word or tuple."""

    def extra_repr(self) -> str:
        """Return ``name=value`` for each of them; weights and buffers show in ``state_dict``."""
        return ", ".join(
            f"{name}={value!r}" for name, value in vars(self).items()
            if name[0] != "_" and name != "training" and isinstance(value, _PLAIN)
        )  # fmt: skip
