"""The soak's verdict: what a leak looks like, and that it fails the run."""

from __future__ import annotations

import pytest

import soak

REST = {
    "resident memory, KiB": 40_000,
    "descriptors": 12,
    "threads": 1,
    "clients": 1,
    "channels": 0,
    "subscriptions": 0,
    "tasks": 2,
    "Python objects": 36_000,
}


def sample(phase="end", counters=None, **changed):
    has = {**REST, **{name.replace("_", " "): value for name, value in changed.items()}}
    return soak.Sample(0.0, phase, has, counters or {"opened": 10, "closed": 9})


def passes(end):
    begin = sample("begin")
    return soak.print_verdict([begin, end], begin, end)


def test_nothing_left_behind_passes():
    assert passes(sample())


def test_the_verdict_covers_everything_that_is_sampled():
    assert list(soak.TOLERANCE) == list(REST)


@pytest.mark.parametrize("name", list(REST))
def test_growth_up_to_the_tolerance_passes_and_more_fails(name):
    most = REST[name] + soak.TOLERANCE[name]
    for value, passed in [(most, True), (most + 1, False)]:
        end = sample()
        end.has[name] = value
        assert passes(end) is passed, value


@pytest.mark.parametrize("name", ["descriptors", "clients", "tasks"])
def test_what_may_not_differ_may_not_shrink_either(name):
    end = sample()
    end.has[name] -= 1
    assert not passes(end)


def test_memory_that_was_given_back_passes():
    end = sample()
    end.has["resident memory, KiB"] //= 2
    assert passes(end)


def test_a_client_that_was_never_counted_as_closed_is_noticed():
    assert soak.balanced(sample(counters={"opened": 10, "closed": 9}))
    assert not soak.balanced(sample(counters={"opened": 10, "closed": 8}))


def test_errors_and_tracebacks_in_the_log_are_found():
    logged = "2026 WARNING slow\n2026 ERROR hook raised\nTraceback (most recent call last):\n"
    assert len(soak.errors_in(logged)) == 2
    assert soak.errors_in("2026 WARNING error=reset\n") == []
