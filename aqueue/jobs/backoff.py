"""How long a failed job waits before its next attempt.

Exponential backoff: before retry k the wait is `base ** k` seconds, never more than a cap, with an
optional random part so that jobs which failed together do not all come back together.
"""

import math
import random


def backoff_delay(retry: int, *, base: float, cap: float, jitter: float = 0.0) -> float:
    """Return the seconds to wait before retry number `retry` (1 is the first).

    `jitter` is a fraction of the delay, 0 to 1: the result lies between `delay * (1 - jitter)` and
    `delay`, so jitter never exceeds the cap. Large exponents reach the cap instead of overflowing.
    """
    if base <= 0:
        return 0.0
    # Compared as logarithms: base ** retry may exceed what a float holds.
    delay = cap if cap <= 0 or retry * math.log(base) >= math.log(cap) else base**retry
    return delay * (1.0 - jitter * random.random()) if jitter else delay
