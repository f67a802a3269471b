"""How long an answer takes: a number of seconds, or a distribution written as a short text."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

Delay = Callable[[Random], float]

FORMS = "0.2 | uniform:LOW:HIGH | exponential:MEAN | lognormal:MEDIAN:SIGMA"


def parse_latency(spec: float | str) -> Delay | None:
    """A function that draws seconds; None where there is never a delay.

    Args:
        spec: seconds, or one of `uniform:0.1:0.5`, `exponential:0.3`, `lognormal:0.3:0.5`
            (the last is median and sigma).

    Raises:
        ValueError: if `spec` is none of these, or negative.

    >>> parse_latency(0.2)(Random(0))
    0.2
    >>> parse_latency(0) is None
    True
    """
    kind, *texts = str(spec).split(":")
    try:
        numbers = [float(text) for text in texts]
        if not numbers:
            kind, numbers = "fixed", [float(kind)]
    except ValueError:
        raise ValueError(f"latency {spec!r} is not of the form {FORMS}") from None
    if any(number < 0 or not math.isfinite(number) for number in numbers):
        raise ValueError(f"latency {spec!r} must not be negative or infinite")
    match kind, numbers:
        case "fixed", [seconds]:
            return (lambda _random: seconds) if seconds else None
        case "uniform", [low, high]:
            return lambda random: random.uniform(low, high)
        case "exponential", [mean] if mean:
            return lambda random: random.expovariate(1 / mean)
        case "lognormal", [median, sigma] if median:
            return lambda random: random.lognormvariate(math.log(median), sigma)
    raise ValueError(f"latency {spec!r} is not of the form {FORMS}")
