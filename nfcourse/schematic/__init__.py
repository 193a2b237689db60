r"""Schematics: boxes, arrows, nodes, plates and masks, drawn by code as inline SVG that follows the page's theme.

A drawing is laid out on a grid: one unit is one cell, 40 pixels at full size; x runs to the right, y downwards, and a
thing stands where its centre is. Things that arrows meet have names. Text between dollars is set as mathematics, in the
little that a label needs: ``"rest $x_B^{(2)}$"``, names such as log behind a backslash, Greek letters as they are or by
their names, sums, blackboard letters and other common signs; what cannot be drawn is refused.

>>> s = Schematic(7, 2, alt="A box z, an arrow named f, and a box x.")
>>> _ = s.box("z", (1.5, 1), "$z$", role="base").box("x", (5.5, 1), "$x$", role="data")
>>> _ = s.arrow("z", "x", "$f$")

Every method returns the drawing, so calls chain. What leaves the frame, a text that does not fit into its box or node,
an arrow without room, an unknown name or role raise :class:`ValueError`, and nothing of it is drawn: a drawing that is
made is a drawing that fits.
"""

from . import gallery
from .drawing import Schematic
from .gallery import *  # noqa: F403 (its __all__ is the one list of drawings)

__all__ = ["Schematic", *gallery.__all__]
