"""The vocabulary of schematics: things on a grid of cells, and the arrows between them."""

import functools
import html
import math
import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["Schematic"]

#: Pixels of a cell at full size, and of a letter's height. A drawing of 14 cells on a phone keeps letters of 10 pixels.
UNIT, FONT = 40, 17
#: The widest drawing, in cells.
WIDEST = 14

#: What labels show for other letters: primes, braces that are no group, the d of an integral, which stands upright.
_LETTERS = {39: "′", 0xE000: "{", 0xE001: "}", 0xE002: "d"}

#: Roles and the colours where the page defines none: those of :data:`nfcourse.plot.COLORS`, or the colour of the text.
ROLES = {
    "ink": "currentColor",
    "line": "#767676",
    "base": "#0072B2",
    "data": "#D55E00",
    "model": "#009E73",
    "accent": "#E69F00",
    "wrong": "#CC79A7",
}

Point = tuple[float, float]

_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi "
    "psi omega"
)
#: Commands that stand for one sign; capitals are those of Greek letters that Latin has not.
_SIGNS = {
    **dict(zip(_GREEK.split(), "αβγδεζηθικλμνξοπρστυφχψω", strict=True)),
    **dict(zip("Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega".split(), "ΓΔΘΛΞΠΣΥΦΨΩ", strict=True)),
    **{"varepsilon": "ε", "varphi": "φ"},
    **{"sum": "∑", "prod": "∏", "int": "∫", "partial": "∂", "nabla": "∇", "infty": "∞", "cdot": "·", "times": "×"},
    **{"in": "∈", "subset": "⊂", "cup": "∪", "cap": "∩", "setminus": "∖", "circ": "∘", "ldots": "…", "dots": "…"},
    **{"to": "→", "mapsto": "↦", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠"},
    **{"approx": "≈", "sim": "∼", "pm": "±", "mid": "|", "{": "\ue000", "}": "\ue001"},  # braces, until groups are cut
}
_HOLLOW = {"C": "ℂ", "E": "𝔼", "N": "ℕ", "P": "ℙ", "Q": "ℚ", "R": "ℝ", "Z": "ℤ"}
#: Commands that are set as their names, upright.
_NAMES = "arg cos det dim exp inf ker lim ln log max min sin sinh sup tan tanh".split()

_STYLE = (
    ".nf-schematic{display:block;margin:.5rem auto;max-width:100%;height:auto;overflow:visible;"
    "color:var(--nf-ink,var(--jp-content-font-color1,currentColor));"
    "font:17px system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif}"
    ".nf-schematic text{fill:var(--nf-ink,currentColor);stroke:none}"
    ".nf-schematic .small{font-size:14.5px}"
    ".nf-schematic .m{font-family:'STIX Two Text','STIXGeneral','Latin Modern Roman','Cambria','Times New Roman',serif;"
    "font-size:1.12em}.nf-schematic .i{font-style:italic}"
    ".nf-schematic .s{fill:var(--c);fill-opacity:.13;stroke:var(--c);stroke-width:1.6}"
    ".nf-schematic .full{fill-opacity:.8}.nf-schematic .empty{fill:none}"
    ".nf-schematic .l{fill:none;stroke:var(--c);stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}"
    ".nf-schematic .thin{stroke-width:1}.nf-schematic .dashed{stroke-dasharray:5 4}"
    ".nf-schematic .h{fill:var(--c);stroke:none}"
    + "".join(f".nf-schematic .r-{role}{{--c:var(--nf-{role},{colour})}}" for role, colour in ROLES.items())
    # the theme puts the output of a cell on a white plate in dark mode: schematics need none
    + "html[data-theme=dark] .bd-content div.cell_output .text_html:has(>svg.nf-schematic)"
    "{background:none;color:inherit;padding:0}"
)


def _n(value: float) -> str:
    """Write a length of the drawing in pixels, the same on every machine."""
    return f"{round(value * UNIT, 1) + 0.0:.1f}".removesuffix(".0")


def _command(match: re.Match) -> str:
    letter, word = match.groups()
    sign = match[0] if word in _NAMES else _SIGNS.get(word) or _HOLLOW.get(letter)
    if sign is None:
        known = "Greek letters, common signs, \\mathbb of C, E, N, P, Q, R, Z, \\mathrm{{d}}, and names as \\log"
        raise ValueError(f"a text expects commands for {known}, got {match[0]!r}.")
    return sign


def _formula(text: str) -> str:
    """Replace commands by signs, all but names; what is left has no braces but those of an index."""
    part = re.sub(r"\\(?:mathbb\{(\w)\}|([a-zA-Z]+|.|$))", _command, text.replace(r"\mathrm{d}", "\ue002"))
    bare = re.sub(r"[_^](?:\{[^{}_^]*\}|\\[a-zA-Z]+|[^{}_^\s])", "", part)
    if wrong := re.search(r"[{}_^]", bare):
        raise ValueError(f"a text expects indices of one level, as in x_1 or x^{{(2)}}, got {wrong[0]!r} in {text!r}.")
    return part


def _letters(text: str) -> bool:
    """Whether it is a text that an SVG file may hold."""
    return isinstance(text, str) and not any(unicodedata.category(c) in ("Cc", "Cn", "Co", "Cs") for c in text)


def _lines(text: str) -> list[str]:
    if not isinstance(text, str) or not _letters(text.replace("\n", "")):
        raise ValueError(f"a text expects letters, without control characters, got {text!r}.")
    return text.split("\n")


def _pieces(text: str) -> list[tuple[str, str, float]]:
    """Cut a label into runs: (letters, class, level), with level 1 above, -1 below and 0 on the line."""
    if text.count("$") % 2:
        raise ValueError(f"a text expects its dollars in pairs, got {text!r}.")
    runs = []
    for k, part in enumerate(text.split("$")):
        if k % 2 == 0:
            if "\\" in part:
                raise ValueError(f"a text expects commands between dollars, got {text!r}.")
            runs += [(part, "", 0)] * bool(part)
            continue
        part = _formula(part.replace("-", "−"))
        for mark, group, word in re.findall(r"([_^]?)(?:\{([^}]*)\}|(\\[a-zA-Z]+|.))", part):
            level = {"_": -1, "^": 1, "": 0}[mark]
            for piece in re.findall(r"\\[a-zA-Z]+|[a-zA-Zα-ω]+|[^\\a-zA-Zα-ω]+", group or word):
                italic = piece[0] != "\\" and piece[0].isalpha() and piece[0] not in _HOLLOW.values()
                piece, kind = piece.lstrip("\\").translate(_LETTERS), "m i" if italic else "m"
                before = runs.pop()[0] if runs and runs[-1][1:] == (kind, level) else ""
                runs.append((before + piece, kind, level))
    return runs


def _em(letter: str) -> float:
    if letter in "iljtf.,:;|'′()[] ":
        return 0.3
    if letter in "mwMW":
        return 0.88
    if letter in "—…%@→↦" or unicodedata.east_asian_width(letter) in "WF":
        return 1.05
    return 0.66 if letter.isupper() else 0.56


def _width(text: str, size: float = FONT) -> float:
    """Return about how wide a label is, in cells: what a common font needs, rather more than less."""
    widths = [
        sum(sum(map(_em, letters)) * (0.78 if level else 1.0) * (1.0 if kind else 0.98) for letters, kind, level in run)
        for run in map(_pieces, _lines(text))
    ]
    return max(widths) * size / UNIT


def _height(text: str, size: float = FONT) -> float:
    """Return how high a label is, in cells."""
    return (1 + 1.3 * (len(_lines(text)) - 1)) * size / UNIT


def _tspans(text: str) -> str:
    out, line = "", 0.0
    for letters, kind, level in _pieces(text):
        shift = {1: -0.42, -1: 0.24, 0: 0.0}[level] * FONT
        attributes = f' class="{kind}"' * bool(kind) + ' style="font-size:.8em"' * bool(level)
        attributes += f' dy="{shift - line:.1f}"' * (shift != line)
        out += f"<tspan{attributes}>{html.escape(letters)}</tspan>" if attributes else html.escape(letters)
        line = shift
    return out


def _whole(method: Callable) -> Callable:
    """Let a method draw all that it says, or nothing: after an error the drawing and its names are as before."""

    @functools.wraps(method)
    def drawn(self, *args, **kwargs):
        parts, things = list(self._parts), dict(self._things)
        try:
            return method(self, *args, **kwargs)
        except Exception:
            self._parts, self._things = parts, things
            raise

    return drawn


class Schematic:
    """A drawing on a grid of cells, which a notebook shows as inline SVG.

    Args:
        width: Width in cells, at most 14: wider ones could not be read on a phone.
        height: Height in cells.
        alt: What a reader who does not see the drawing is told.

    Raises:
        ValueError: If a side is not positive, the drawing is too wide, or ``alt`` says nothing.
    """

    def __init__(self, width: float, height: float, alt: str):
        if not (0 < width <= WIDEST and 0 < height < math.inf):
            raise ValueError(f"Schematic expects a width up to {WIDEST} and a height above 0, got {width} by {height}.")
        if not _letters(alt) or len(alt.split()) < 4:
            raise ValueError(f"alt expects a text that says what the drawing shows, got {alt!r}.")
        self.width, self.height, self.alt = width, height, alt
        self._parts: list[str] = []
        self._things: dict[str, tuple[str, float, float, float, float]] = {}  # name: shape, x, y, half sides

    # ------------------------------------------------------------ what the methods share

    def _inside(self, what: str, points: Sequence[Point]) -> None:
        for x, y in points:
            if not (-0.01 <= x <= self.width + 0.01 and -0.01 <= y <= self.height + 0.01):
                raise ValueError(f"{what} leaves the drawing of {self.width} by {self.height} cells at ({x:g}, {y:g}).")

    def _holds(self, what: str, text: str, size: float, within: Point) -> None:
        """See to it that a label fits into a shape of this width and height."""
        wide, high = _width(text, size), _height(text, size)
        if wide > within[0] or high > within[1]:
            raise ValueError(
                f"a {what} expects a label that fits: {text!r} is {wide:.1f} by {high:.1f} cells, the {what} "
                f"{within[0]:g} by {within[1]:g}."
            )

    def _class(self, kind: str, role: str, *more: str) -> str:
        if role not in ROLES:
            raise ValueError(f"role expects one of {', '.join(ROLES)}, got {role!r}.")
        return " ".join([kind, f"r-{role}", *filter(None, more)])

    def _name(self, name: str | None, shape: str, at: Point, half: Point) -> None:
        (x, y), (a, b) = at, half
        if a <= 0 or b <= 0:
            raise ValueError(f"{name or shape} expects a positive size, got {2 * a:g} by {2 * b:g}.")
        self._inside(name or shape, [(x - a, y - b), (x + a, y + b)])
        if name is None:
            return
        if name in self._things or "." in name:
            raise ValueError(f"a name expects to be new and without a dot, got {name!r}.")
        self._things[name] = (shape, x, y, a, b)

    def _place(self, end: str | Point) -> Point:
        """Return where a name, ``name.side`` or a point is."""
        if not isinstance(end, str):
            return (float(end[0]), float(end[1]))
        name, _, side = end.partition(".")
        sides = {"": (0, 0), "left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
        if name not in self._things or side not in sides:
            known = ", ".join(self._things) or "nothing yet"
            raise ValueError(
                f"an end expects a point, a name or name.side (left, right, top, bottom), got {end!r}; drawn: {known}."
            )
        _, x, y, a, b = self._things[name]
        return (x + a * sides[side][0], y + b * sides[side][1])

    def _edge(self, end: str | Point, other: Point) -> Point:
        """Return where the line from ``end`` towards ``other`` leaves the shape."""
        x, y = self._place(end)
        if not isinstance(end, str) or "." in end:
            return (x, y)
        shape, _, _, a, b = self._things[end]
        dx, dy = other[0] - x, other[1] - y
        if math.hypot(dx, dy) < 1e-9:
            raise ValueError(f"an arrow expects two places, got {end!r} twice.")
        scale = 1 / (math.hypot(dx / a, dy / b) if shape == "round" else max(abs(dx) / a, abs(dy) / b))
        return (x + dx * scale, y + dy * scale)

    # ------------------------------------------------------------ things

    @_whole
    def text(self, at: Point, text: str, *, anchor: str = "middle", small: bool = False) -> "Schematic":
        r"""Write a label; ``\n`` begins a new line.

        Args:
            at: Centre of the label; of its left or right end if ``anchor`` says so, in cells.
            text: The label; mathematics between dollars.
            anchor: ``"start"``, ``"middle"`` or ``"end"``.
            small: Whether the letters are those of a side remark.

        Raises:
            ValueError: If the label leaves the drawing, its dollars do not pair, or ``anchor`` is unknown.
        """
        if anchor not in ("start", "middle", "end"):
            raise ValueError(f"anchor expects start, middle or end, got {anchor!r}.")
        size = 14.5 if small else FONT
        lines = _lines(text)
        for k, line in enumerate(lines):
            y = at[1] + (k - (len(lines) - 1) / 2) * 1.3 * size / UNIT
            width, em, levels = _width(line, size), size / UNIT, {level for _, _, level in _pieces(line)}
            top, bottom = y - (0.66 if 1 in levels else 0.45) * em, y + (0.6 if -1 in levels else 0.45) * em
            left = at[0] - width * {"start": 0, "middle": 0.5, "end": 1}[anchor]
            self._inside(f"the text {line!r}", [(left, top), (left + width, bottom)])
            more = ' class="small"' * small
            place = f'x="{_n(at[0])}" y="{_n(y + 0.34 * size / UNIT)}" text-anchor="{anchor}"'
            self._parts.append(f"<text {place}{more}>{_tspans(line)}</text>")
        return self

    @_whole
    def box(
        self,
        name: str | None,
        at: Point,
        text: str = "",
        *,
        size: Point = (2.0, 1.0),
        role: str = "ink",
        small: bool = False,
        stack: int = 1,
    ) -> "Schematic":
        """Draw a box with a label.

        Args:
            name: What arrows call it; ``None`` if none does.
            at: Its centre, in cells.
            text: The label.
            size: Width and height, in cells.
            role: Its colour: ``ink``, ``line``, ``base``, ``data``, ``model``, ``accent`` or ``wrong``.
            small: Whether the letters are small.
            stack: Number of equal boxes behind one another, the first in front.

        Raises:
            ValueError: If the box leaves the drawing, the label does not fit into it, the name is taken, or ``stack``
                is not a positive whole number.
        """
        (x, y), (w, h) = at, size
        if not isinstance(stack, int) or stack < 1:
            raise ValueError(f"stack expects a whole number of boxes >= 1, got {stack!r}.")
        for k in range(stack - 1, 0, -1):  # only what shows of those behind: boxes let the ground through
            d, r, t = 0.12 * k, x + w / 2, y - h / 2
            self._inside(name or "box", [(r + d, t - d)])
            corner = [(x - w / 2 + d, t - d + 0.12), (x - w / 2 + d, t - d), (r + d, t - d), (r + d, y + h / 2 - d)]
            self.line([*corner, (r + d - 0.12, y + h / 2 - d)], role=role)
        shown = 0.06 * (stack - 1)  # arrows meet the outermost edge
        self._name(name, "box", (x + shown, y), (w / 2 + shown, h / 2))
        self._holds("box", text, 14.5 if small else FONT, size)
        kind = self._class("s", role)
        self._parts.append(
            f'<rect class="{kind}" x="{_n(x - w / 2)}" y="{_n(y - h / 2)}" width="{_n(w)}" height="{_n(h)}" rx="5"/>'
        )
        return self.text(at, text, small=small) if text else self

    @_whole
    def node(
        self,
        name: str | None,
        at: Point,
        text: str = "",
        *,
        kind: str = "latent",
        role: str = "ink",
        radius: float = 0.55,
    ) -> "Schematic":
        """Draw a variable of a graphical model, or a unit of a network.

        Args:
            name: What arrows call it; ``None`` if none does.
            at: Its centre, in cells.
            text: The label.
            kind: ``"latent"`` (a circle), ``"observed"`` (shaded), ``"deterministic"`` (two circles) or ``"fixed"``
                (a parameter: a dot with its label above).
            role: Its colour.
            radius: In cells.

        Raises:
            ValueError: If the node leaves the drawing, the label does not fit into it, ``radius`` is too small, or
                ``kind`` is unknown.
        """
        if kind not in ("latent", "observed", "deterministic", "fixed"):
            raise ValueError(f"kind expects latent, observed, deterministic or fixed, got {kind!r}.")
        (x, y), fixed = at, kind == "fixed"
        radius = 0.11 if fixed else radius
        if kind == "deterministic" and not radius > 0.1:
            raise ValueError(f"radius expects room for two circles, more than 0.1, got {radius!r}.")
        if text and not fixed:
            self._holds("node", text, FONT, (2 * radius, 2 * radius))
        self._name(name, "round", at, (radius, radius))
        look = {"observed": "", "fixed": "full"}.get(kind, "empty")
        circle = f'<circle class="{self._class("s", role, look)}" cx="{_n(x)}" cy="{_n(y)}" r="'
        self._parts.append(f'{circle}{_n(radius)}"/>' + f'{circle}{_n(radius - 0.09)}"/>' * (kind == "deterministic"))
        return self.text((x, y - 0.45) if fixed else at, text) if text else self

    @_whole
    def region(self, name: str | None, at: Point, size: Point, *, role: str = "ink", full: bool = False) -> "Schematic":
        """Draw an ellipse: a set, or a space; ``full`` colours it strongly. Sizes in cells.

        Raises:
            ValueError: If it leaves the drawing, or the name is taken.
        """
        self._name(name, "round", at, (size[0] / 2, size[1] / 2))
        (x, y), (w, h) = at, size
        look = self._class("s", role, "full" * full)
        self._parts.append(f'<ellipse class="{look}" cx="{_n(x)}" cy="{_n(y)}" rx="{_n(w / 2)}" ry="{_n(h / 2)}"/>')
        return self

    @_whole
    def mask(
        self, name: str | None, at: Point, cells: Sequence[Sequence[bool]], *, cell: float = 0.5, role: str = "model"
    ) -> "Schematic":
        """Draw a grid of cells, filled where ``cells`` is true.

        Args:
            name: What arrows call it; ``None`` if none does.
            at: Its centre, in cells of the drawing.
            cells: Rows from top to bottom, of equal length: nested lists, an array, or ``tensor.tolist()``.
            cell: Side of a cell of the mask, in cells of the drawing.
            role: Colour of the filled cells.

        Raises:
            ValueError: If the rows differ in length, there are none, a cell is neither true, false nor a number, or the
                grid leaves the drawing.
        """
        rows = [list(row) for row in cells]
        if not rows or not rows[0] or len({len(row) for row in rows}) > 1:
            raise ValueError(
                f"cells expects rows of one length, at least one cell, got lengths {[len(r) for r in rows]}."
            )
        if np.asarray(rows).dtype.kind not in "biuf" or not np.isfinite(rows).all():
            raise ValueError(f"cells expects booleans or numbers, got {rows!r:.80}.")
        w, h = len(rows[0]) * cell, len(rows) * cell
        self._name(name, "box", at, (w / 2, h / 2))
        left, top = at[0] - w / 2, at[1] - h / 2
        full, side = self._class("h", role), f'width="{_n(cell)}" height="{_n(cell)}"'
        for r, row in enumerate(rows):
            for c, on in enumerate(row):
                if on:
                    self._parts.append(
                        f'<rect class="{full}" x="{_n(left + c * cell)}" y="{_n(top + r * cell)}" {side}/>'
                    )
        grid = "".join(f"M{_n(left + c * cell)} {_n(top)}v{_n(h)}" for c in range(len(rows[0]) + 1))
        grid += "".join(f"M{_n(left)} {_n(top + r * cell)}h{_n(w)}" for r in range(len(rows) + 1))
        self._parts.append(f'<path class="{self._class("l", "line", "thin")}" d="{grid}"/>')
        return self

    @_whole
    def plate(self, corner: Point, size: Point, text: str = "") -> "Schematic":
        """Draw a rounded frame, what is in it repeated, with its index in the lower right corner; lengths in cells.

        Raises:
            ValueError: If it leaves the drawing.
        """
        (x, y), (w, h) = corner, size
        self._name(None, "plate", (x + w / 2, y + h / 2), (w / 2, h / 2))
        look = self._class("l", "line")
        self._parts.append(f'<rect class="{look}" x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}" rx="9"/>')
        return self.text((x + w - 0.2, y + h - 0.3), text, anchor="end", small=True) if text else self

    # ------------------------------------------------------------ lines

    @_whole
    def line(
        self,
        points: Sequence[Point],
        *,
        role: str = "ink",
        style: str = "solid",
        thin: bool = False,
        fill: bool = False,
    ) -> "Schematic":
        """Draw a line through points, given in cells; ``fill`` closes and colours it.

        Raises:
            ValueError: If there are fewer than two points, one is outside, or ``style`` is not solid or dashed.
        """
        if len(points) < 2:
            raise ValueError(f"line expects at least two points, got {len(points)}.")
        if style not in ("solid", "dashed"):
            raise ValueError(f"style expects solid or dashed, got {style!r}.")
        self._inside("a line", points)
        look = self._class("s" if fill else "l", role, "thin" * thin, "dashed" * (style == "dashed"))
        path = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        self._parts.append(f'<path class="{look}" d="M{path}{"Z" * fill}"/>')
        return self

    @_whole
    def arrow(
        self,
        start: str | Point,
        end: str | Point,
        text: str = "",
        *,
        via: Sequence[Point] = (),
        role: str = "ink",
        style: str = "solid",
        side: str = "left",
        head: bool = True,
    ) -> "Schematic":
        """Draw an arrow from edge to edge.

        Args:
            start: A name, ``"name.right"`` (left, top, bottom), or a point in cells.
            end: The same.
            text: Label at the middle of the longest piece.
            via: Corners on the way, in cells.
            role: Its colour.
            style: ``"solid"`` or ``"dashed"``.
            side: Where the label stands, seen in the direction of the arrow: ``"left"`` or ``"right"``.
            head: Whether it has one; without it is a connection.

        Raises:
            ValueError: If a name is unknown, the arrow has no length or leaves the drawing, what it connects overlaps
                or leaves no room for its head, or ``side`` is unknown.
        """
        if side not in ("left", "right"):
            raise ValueError(f"side expects left or right, got {side!r}.")
        way = [self._place(start), *[(float(x), float(y)) for x, y in via], self._place(end)]
        straight = list(zip(way, way[1:], strict=False))
        way[0], way[-1] = self._edge(start, way[1]), self._edge(end, way[-2])
        for (a, b), (c, d) in zip(straight, zip(way, way[1:], strict=False), strict=True):
            if (b[0] - a[0]) * (d[0] - c[0]) + (b[1] - a[1]) * (d[1] - c[1]) < -1e-9:
                raise ValueError(f"an arrow expects two places apart, got {start!r} and {end!r}, which overlap.")
        (x, y), (u, v) = way[-2:]
        length = math.hypot(u - x, v - y)
        if length < 1e-6:
            raise ValueError(f"an arrow expects two places, got {start!r} and {end!r}, which touch.")
        dx, dy = (u - x) / length, (v - y) / length
        tip, long, half = (u, v), 0.24, 0.11
        if head and length < long:
            raise ValueError(f"an arrow expects {long} cells for its head, got {length:.2g} before {end!r}.")
        if head:  # the line ends within the head, whose tip alone touches
            way[-1] = (u - dx * long * 0.7, v - dy * long * 0.7)
        self.line(way, role=role, style=style)
        if head:
            a = (u - dx * long - dy * half, v - dy * long + dx * half)
            b = (u - dx * long + dy * half, v - dy * long - dx * half)
            points = " ".join(f"{_n(p)},{_n(q)}" for p, q in (tip, a, b))
            self._parts.append(f'<polygon class="{self._class("h", role)}" points="{points}"/>')
        if text:
            way[-1] = tip
            pairs = list(zip(way, way[1:], strict=False))
            (x, y), (u, v) = max(pairs, key=lambda p: math.dist(*p))
            length, sign = math.dist((x, y), (u, v)), 1 if side == "left" else -1
            nx, ny = sign * (v - y) / length, -sign * (u - x) / length
            away = 0.34 + abs(nx) * (_width(text, 14.5) / 2 - 0.14)
            self.text(((x + u) / 2 + nx * away, (y + v) / 2 + ny * away), text, small=True)
        return self

    @_whole
    def brace(self, start: Point, end: Point, text: str = "", *, role: str = "line") -> "Schematic":
        """Draw a brace from one point to another, its tip and label on the left of that direction; lengths in cells.

        Raises:
            ValueError: If the points coincide or something leaves the drawing.
        """
        (x, y), (u, v) = start, end
        length = math.dist(start, end)
        if length < 0.5:
            raise ValueError(f"brace expects points at least half a cell apart, got {start} and {end}.")
        dx, dy = (u - x) / length, (v - y) / length
        nx, ny = dy, -dx

        def at(along: float, off: float) -> str:
            return f"{_n(x + dx * along + nx * off)} {_n(y + dy * along + ny * off)}"

        r, m, d = 0.14, length / 2, 0.28
        self._inside("a brace", [start, end, (x + dx * m + nx * d, y + dy * m + ny * d)])
        path = (
            f"M{at(0, 0)}Q{at(0, r)} {at(r, r)}L{at(m - r, r)}Q{at(m, r)} {at(m, d)}"
            f"Q{at(m, r)} {at(m + r, r)}L{at(length - r, r)}Q{at(length, r)} {at(length, 0)}"
        )
        self._parts.append(f'<path class="{self._class("l", role)}" d="{path}"/>')
        if text:
            away = d + 0.28 + abs(nx) * max(0.0, _width(text, 14.5) / 2 - 0.14)
            self.text((x + dx * m + nx * away, y + dy * m + ny * away), text, small=True)
        return self

    # ------------------------------------------------------------ the result

    def _render(self, attributes: str, before: str) -> str:
        w, h = _n(self.width), _n(self.height)
        return (
            f'<svg class="nf-schematic" {attributes}viewBox="0 0 {w} {h}" width="{w}" height="{h}">'
            f"{before}<style>{_STYLE}</style>{''.join(self._parts)}</svg>"
        )

    def __repr__(self) -> str:
        return f"Schematic({self.width:g} by {self.height:g} cells)"

    def _repr_html_(self) -> str:
        return self._render(f'role="img" aria-label="{html.escape(self.alt)}" ', "")

    def svg(self) -> str:
        """Return a file of its own, on a white plate: for a README, or for print."""
        title = f'<title>{html.escape(self.alt)}</title><rect width="100%" height="100%" fill="#fff"/>'
        return self._render('xmlns="http://www.w3.org/2000/svg" role="img" color="#222" ', title)
