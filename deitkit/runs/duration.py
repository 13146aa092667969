"""Durations in words, for people. Measures none."""

from __future__ import annotations


def spell_seconds(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 07 min`, `3 d 4 h`."""
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def spell_about(seconds: float) -> str:
    """In three characters, or few more: `42s`, `3m`, `2h`, `3d`, `9w`, `2y`; rounded down."""
    whole = max(int(seconds), 0)
    sizes = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60}
    unit = next((unit for unit, size in sizes.items() if whole >= size), "s")
    return f"{whole // sizes.get(unit, 1)}{unit}"
