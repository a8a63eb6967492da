"""When a child that has died is started again, and when it is not."""

from collections import deque

__all__ = ["LONG_S", "WINDOW_S", "Policy"]

WINDOW_S = 60.0
"""Deaths within so many seconds count together."""
LONG_S = 1.0
"""A life as long as that was a good one: the next begins at once."""
FIRST_S, MOST_S = 0.05, 5.0


class Policy:
    """Exponential back-off, and a budget of deaths that no restart gives back. Its times are the caller's. [minder]"""

    def __init__(self, budget: int, *, long_s: float | None = None, most_s: float | None = None) -> None:
        """`budget`: deaths within WINDOW_S that end it; 0: none does. `long_s`: of a good life. `most_s`: the longest pause."""
        self._budget = budget
        self._long_s, self._most_s = long_s or LONG_S, most_s or MOST_S
        self._deaths: deque[float] = deque()
        self._delay_s = 0.0

    @property
    def recent(self) -> int:
        """Deaths that count together now."""
        return len(self._deaths)

    def died(self, now_s: float, lived_s: float) -> float | None:
        """Return after how many seconds the next life is to begin; None: there is to be none."""
        self._deaths.append(now_s)
        while self._deaths[0] <= now_s - WINDOW_S:
            self._deaths.popleft()
        if self._budget and len(self._deaths) >= self._budget:
            return None
        self._delay_s = 0.0 if lived_s >= self._long_s else min(max(2 * self._delay_s, FIRST_S), self._most_s)
        return self._delay_s
