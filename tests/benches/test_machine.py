"""What the benches read of processes: the kernel's own figures, in the units that are said."""

from __future__ import annotations

import os
import sys

import fixed  # noqa: F401 - the path of the benches
import pytest

import machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def own_cpu_s():
    used = os.times()
    return used.user + used.system


def test_cpu_time_is_that_of_user_and_system_together():
    before = own_cpu_s()
    found = machine.cpu_s(os.getpid())
    # Both round to ticks, each of the two kinds by itself.
    assert before - 2 * TICK_S <= found <= own_cpu_s() + 2 * TICK_S


def test_name_of_a_process_cannot_confuse_its_figures(monkeypatch):
    fields = ["R", *map(str, range(1, 50))]
    stat = f"7 (a) b (c) {' '.join(fields)}"
    monkeypatch.setattr(machine.Path, "read_text", lambda *_: stat)
    assert machine.cpu_s(7) == (11 + 12) * TICK_S


def test_resident_memory_is_in_bytes():
    before = machine.resident_bytes(os.getpid())
    touched = bytearray(b"x" * (64 << 20))
    assert machine.resident_bytes(os.getpid()) - before > 32 << 20
    assert len(touched) == 64 << 20


def test_machine_is_described():
    assert set(machine.described()) == {"system", "cpu", "cores", "python"}
    assert machine.memory().endswith(" kB")


def test_other_systems_are_refused(monkeypatch):
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    with pytest.raises(SystemExit, match="Linux only"):
        machine.require_linux()
