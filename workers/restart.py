"""Whether, and when, a worker that died is started again. Pure: the time is an argument.

Restart intensity and period as in OTP supervisors: more than `max_restarts` restarts within `period_s` mean that
starting again does not help.
"""

from __future__ import annotations

from collections import Counter, deque

from remotemedia.config import RestartPolicy


class RestartHistory:
    """The restarts of one worker so far, and the frames that may be to blame for them."""

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self._times: deque[float] = deque()
        self._attempts: Counter[int] = Counter()

    def next_delay(self, now: float, chance: float) -> float | None:
        """A worker has died at `now` (seconds, monotonic): how long to wait before it is started again, None: never.

        `chance`: a random number from 0 to 1, which shortens the wait by up to a half, so that many workers that died
        of one cause do not come back at one moment.
        """
        policy, times = self.policy, self._times
        while times and now - times[0] > policy.period_s:
            times.popleft()
        if len(times) >= policy.max_restarts:
            return None
        times.append(now)
        if len(times) == 1:
            return 0.0
        first, most = policy.backoff_s
        return min(most, first * 2.0 ** (len(times) - 2)) * (1 - chance / 2)

    def blame(self, frame: int) -> bool:
        """The worker has died of, or with, the frame of this number; True: the frame is to be given up."""
        for finished in [other for other in self._attempts if other < frame]:
            del self._attempts[finished]
        self._attempts[frame] += 1
        return self._attempts[frame] >= self.policy.max_attempts
