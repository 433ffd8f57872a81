"""When the next attempt runs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from celeriac.tasks.retry import RetryPolicy

policies = st.builds(
    RetryPolicy,
    delay_s=st.floats(0, 1e5),
    backoff=st.floats(1, 100),
    max_delay_s=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
)
randoms = st.floats(0, 1, exclude_max=True)


def test_delays_double_up_to_the_cap() -> None:
    policy = RetryPolicy(delay_s=1, backoff=2, max_delay_s=10)
    assert [policy.delay_ms(attempt, 0) for attempt in range(1, 7)] == [1000, 2000, 4000, 8000, 10_000, 10_000]


def test_jitter_stretches_by_its_share_and_never_shortens() -> None:
    policy = RetryPolicy(delay_s=1, jitter=0.5)
    assert policy.delay_ms(1, 0) == 1000
    assert policy.delay_ms(1, 0.5) == 1250


@given(policies, st.integers(1, 10**9), randoms)
def test_a_delay_stays_between_the_first_one_and_the_stretched_cap(
    policy: RetryPolicy, attempt: int, random: float
) -> None:
    delay = policy.delay_ms(attempt, random)
    assert isinstance(delay, int)
    assert round(min(policy.delay_s, policy.max_delay_s) * 1000) <= delay
    assert delay <= round(policy.max_delay_s * (1 + policy.jitter) * 1000)


@given(policies, st.integers(1, 100), randoms)
def test_a_later_attempt_never_waits_less(policy: RetryPolicy, attempt: int, random: float) -> None:
    assert policy.delay_ms(attempt, random) <= policy.delay_ms(attempt + 1, random)
