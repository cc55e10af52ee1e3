"""Charts as inline SVG: lines over time and a distribution by percentile, readable in light and dark."""

import math
from collections.abc import Callable, Sequence
from html import escape

import attrs

WIDTH, HEIGHT = 860, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 34
TICKS = 5
LEAST = 0.001  # of either unit, tasks per second or milliseconds: nothing smaller is worth an axis

Point = tuple[float, float | None]


@attrs.frozen
class Line:
    """One series: a name for the legend, a colour class of the page's style, and points; None leaves a gap."""

    name: str
    colour: str
    points: Sequence[Point]
    dashed: bool = False


def line_chart(title: str, unit: str, lines: Sequence[Line], *, may_be_log: bool = False) -> str:
    """Lines over seconds. `may_be_log` lets the y axis turn logarithmic when values spread over two decades."""
    lines = [line for line in lines if any(y is not None for _, y in line.points)]
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points if y is not None]
    if not ys:
        return _empty(title)
    low, high = min(xs), max(*xs, min(xs) + 1)
    place_x = _linear(low, high, LEFT, WIDTH - RIGHT)
    ticks, place_y = _y_axis(ys, may_be_log=may_be_log)
    x_ticks = [(tick, f"{tick:g} s") for tick in _nice_ticks(low, high)]
    body = _grid(x_ticks, place_x, ticks, place_y) + "".join(_path(line, place_x, place_y) for line in lines)
    return _figure(title, unit, lines, body + _hover(lines, place_x, unit, lambda x: f"{x:g} s"))


def percentile_chart(title: str, unit: str, lines: Sequence[Line]) -> str:
    """Lines over percentiles, where each step to the right (90, 99, 99.9) is ten times rarer."""
    lines = [line for line in lines if line.points]
    ys = [y for line in lines for _, y in line.points if y is not None]
    if not ys:
        return _empty(title)
    rarest = max([2.0, *(_nines(x) for line in lines for x, _ in line.points if x < 100)])
    ticks, place_y = _y_axis(ys, may_be_log=True)

    def place_x(percent: float) -> float:
        return LEFT + min(_nines(percent), rarest) / rarest * (WIDTH - RIGHT - LEFT)

    marks = [percent for percent in (0, 50, 90, 99, 99.9, 99.99, 99.999) if _nines(percent) <= rarest]
    x_ticks = [(percent, f"{percent:g} %") for percent in marks]
    body = _grid(x_ticks, place_x, ticks, place_y) + "".join(_path(line, place_x, place_y) for line in lines)
    return _figure(title, unit, lines, body + _hover(lines, place_x, unit, lambda x: f"{x:.4g} %"))


def _nines(percent: float) -> float:
    return -math.log10(max(1e-7, 1 - percent / 100))


def _linear(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _y_axis(ys: Sequence[float], *, may_be_log: bool) -> tuple[list[float], Callable[[float], float]]:
    top = max(*ys, LEAST)
    bottom = max(LEAST, min((y for y in ys if y > 0), default=top))
    if may_be_log and top / bottom > 100:
        low, high = math.floor(math.log10(bottom)), math.ceil(math.log10(top))
        place = _linear(low, high, HEIGHT - BOTTOM, TOP)
        ticks = [10.0**power for power in range(low, high + 1)]
        return ticks, lambda value: place(math.log10(max(value, 10.0**low)))
    ticks = _nice_ticks(0.0, top)
    if ticks[-1] < top:
        ticks.append(ticks[-1] + (ticks[1] - ticks[0]))
    return ticks, _linear(0.0, ticks[-1], HEIGHT - BOTTOM, TOP)


def _nice_ticks(low: float, high: float) -> list[float]:
    """Round values from at or above `low` to at or below `high`, about TICKS of them."""
    rough = (high - low) / TICKS or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)] or [low]


def _grid(
    x_ticks: Sequence[tuple[float, str]],
    place_x: Callable[[float], float],
    y_ticks: Sequence[float],
    place_y: Callable[[float], float],
) -> str:
    parts: list[str] = []
    for y in y_ticks:
        at = place_y(y)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_short(y)}</text>')
    for x, label in x_ticks:
        at = place_x(x)
        anchor = "start" if at < LEFT + 10 else "end" if at > WIDTH - RIGHT - 20 else "middle"
        parts.append(f'<text class="tick" x="{at:.1f}" y="{HEIGHT - 12}" text-anchor="{anchor}">{escape(label)}</text>')
    return "".join(parts)


def _path(line: Line, place_x: Callable[[float], float], place_y: Callable[[float], float]) -> str:
    steps: list[str] = []
    pen_down = alone = False
    for x, y in [*line.points, (0.0, None)]:
        if y is None:
            # A point between two gaps has no line; a stroke of no length makes it a dot.
            steps.append("h0" if alone else "")
            pen_down = alone = False
            continue
        steps.append(f"{'L' if pen_down else 'M'}{place_x(x):.1f} {place_y(y):.1f}")
        alone = not pen_down
        pen_down = True
    dash = " dashed" if line.dashed else ""
    return f'<path class="line {line.colour}{dash}" d="{"".join(steps)}"/>'


def _hover(lines: Sequence[Line], place_x: Callable[[float], float], unit: str, label: Callable[[float], str]) -> str:
    """An invisible column at each x whose tooltip names every value there."""
    at: dict[float, list[str]] = {}
    for line in lines:
        for x, y in line.points:
            if y is not None:
                at.setdefault(x, []).append(f"{line.name}: {_short(y)} {unit}")
    xs = sorted(at)
    parts: list[str] = []
    for number, x in enumerate(xs):
        left = place_x(xs[number - 1]) if number else place_x(x)
        right = place_x(xs[number + 1]) if number + 1 < len(xs) else place_x(x)
        start, end = (left + place_x(x)) / 2, (right + place_x(x)) / 2
        text = escape("\n".join([label(x), *at[x]]))
        parts.append(
            f'<rect class="hover" x="{start:.1f}" y="{TOP}" width="{max(1.0, end - start):.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"><title>{text}</title></rect>'
        )
    return "".join(parts)


def _figure(title: str, unit: str, lines: Sequence[Line], body: str) -> str:
    legend = "".join(
        f'<span class="key"><i class="{line.colour}{" dashed" if line.dashed else ""}"></i>{escape(line.name)}</span>'
        for line in lines
    )
    return (
        f'<figure><figcaption><b>{escape(title)}</b> <span class="unit">{escape(unit)}</span>'
        f'<span class="legend">{legend}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{body}</svg></figure>'
    )


def _empty(title: str) -> str:
    return f'<figure><figcaption><b>{escape(title)}</b></figcaption><p class="none">Nothing was measured.</p></figure>'


def _short(value: float) -> str:
    if value < 0.01:
        return "0"
    if value >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
