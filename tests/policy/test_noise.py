"""Density and distribution of the service time belong together, and the two scales are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.policy.noise import BURSTS, JITTERS_S, PACKET_BYTES, ServiceNoise

relaxed = settings(deadline=None)
MEANS = st.floats(1e-6, 1e3)


@relaxed
@given(MEANS, st.floats(1e-9, 1e-2), st.floats(-10, 1e4), st.floats(0, 100))
def test_a_probability_lies_between_nothing_and_all(mean_s: float, byte_s: float, slack_s: float, ahead: float) -> None:
    within = ServiceNoise().within(np.array([mean_s]), slack_s, np.array([byte_s]), ahead_s=ahead)
    assert 0 <= within[0] <= 1


@relaxed
@given(MEANS, st.floats(1e-9, 1e-2), st.tuples(st.floats(-1, 1e3), st.floats(-1, 1e3)))
def test_more_time_is_never_less_likely(mean_s: float, byte_s: float, slacks: tuple[float, float]) -> None:
    noise = ServiceNoise()
    less, more = (noise.within(np.array([mean_s]), slack_s, np.array([byte_s]))[0] for slack_s in sorted(slacks))
    assert less <= more + 1e-12


@pytest.mark.parametrize(("link_bytes", "rate"), [(1_500, 125e3), (20_000, 125e3), (4_000, 5e6)])
def test_the_distribution_is_the_densitys_integral(link_bytes: int, rate: float) -> None:
    noise = ServiceNoise()
    mean, byte = np.array([link_bytes / rate]), np.array([1 / rate])
    times = np.linspace(mean[0] * 0.3, mean[0] * 3, 2_000)
    density = np.array([noise.density(mean, byte, time)[0] for time in times])
    between = noise.within(mean, times[-1], byte)[0] - noise.within(mean, times[0], byte)[0]
    assert float(np.trapezoid(density, times)) == pytest.approx(between, abs=0.02)


def test_a_poisson_server_is_matched() -> None:
    draw = np.random.default_rng(0)
    rate, packets = 125e3, 8
    taken = draw.gamma(packets, PACKET_BYTES / rate, 20_000)
    mean, byte = np.array([packets * PACKET_BYTES / rate]), np.array([1 / rate])
    noise = ServiceNoise()
    for share in (0.1, 0.5, 0.9):
        at = float(np.quantile(taken, share))
        assert noise.within(mean, at, byte)[0] == pytest.approx(share, abs=0.04)


def test_both_scales_are_found() -> None:
    draw = np.random.default_rng(1)
    byte, mass = np.array([8e-6]), np.ones(1)
    smooth, bursty = ServiceNoise(), ServiceNoise()
    for _ in range(3_000):
        smooth.learn(mass, 20_000 * byte, byte, 20_000 * 8e-6 + float(draw.normal(0, 0.002)))
        bursty.learn(mass, 30_000 * byte, byte, float(draw.gamma(20, PACKET_BYTES * 8e-6)))
    assert smooth.burst < 0.1
    assert 0.5 < bursty.burst < 1.6


@relaxed
@given(st.lists(st.tuples(st.floats(1e-6, 1e3), st.floats(-1e3, 1e6)), max_size=50))
def test_no_residual_drives_a_scale_out_of_bounds(residuals: list[tuple[float, float]]) -> None:
    noise = ServiceNoise()
    for mean_s, service_s in residuals:
        noise.learn(np.ones(1), np.array([mean_s]), np.array([1e-6]), service_s)
        assert BURSTS[0] <= noise.burst <= BURSTS[1]
        assert JITTERS_S[0] <= noise.jitter_s <= JITTERS_S[1]
