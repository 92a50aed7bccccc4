import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.schedule import learning_rate

_TOTAL = st.integers(1, 10**9)
_PEAK = st.floats(1e-6, 100)


@st.composite
def _schedules(draw):
    total = draw(_TOTAL)
    return total, draw(st.integers(0, total - 1)), draw(_PEAK)


@given(_schedules())
def test_peak_at_the_end_of_warmup_and_zero_at_the_end(schedule):
    total, warmup, peak = schedule
    assert learning_rate(warmup, total, warmup, peak) == peak
    assert learning_rate(total, total, warmup, peak) == 0
    assert learning_rate(total + 1, total, warmup, peak) == 0


@given(_schedules(), st.floats(0, 1), st.floats(0, 1))
def test_rises_then_falls_and_stays_within_zero_and_peak(schedule, a, b):
    total, warmup, peak = schedule
    early, late = sorted((int(a * total), int(b * total)))
    rates = [learning_rate(seen, total, warmup, peak) for seen in (early, late)]
    assert all(0 <= rate <= peak for rate in rates)
    if late <= warmup:
        assert rates[0] <= rates[1]
    if early >= warmup:
        assert rates[0] >= rates[1]


@given(_schedules(), st.floats(0, 1), st.integers(2, 64))
def test_does_not_depend_on_how_samples_are_counted_in_batches(schedule, part, factor):
    """Counting in larger units, as larger batches or more processes would, changes nothing."""
    total, warmup, peak = schedule
    seen = int(part * total)
    scaled = learning_rate(seen * factor, total * factor, warmup * factor, peak)
    assert scaled == pytest.approx(learning_rate(seen, total, warmup, peak), rel=1e-9, abs=1e-12 * peak)


def test_known_values():
    rates = [learning_rate(seen, 1000, 200, 2.0) for seen in (0, 50, 100, 200, 600, 1000)]
    assert rates == pytest.approx([0, 0.5, 1, 2, 1, 0])


def test_without_warmup_starts_at_the_peak():
    assert learning_rate(0, 1000, 0, 2.0) == 2.0


def test_of_no_training_at_all_is_zero():
    assert learning_rate(0, 0, 0, 2.0) == 0
