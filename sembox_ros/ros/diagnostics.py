"""The node's health as diagnostic_msgs, for rqt_robot_monitor and aggregators."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from sembox_ros.ros.worker import FrameStatistics


@dataclass
class HealthMonitor:
    """Turns statistics into a DiagnosticArray; remembers the last failure count to tell new failures from old.

    Attributes:
        name: full name of the node.
        device: where the network runs.
        trained: False if the weights are random.
    """

    name: str
    device: str
    trained: bool
    _failed_before: int = 0

    def report(
        self, statistics: FrameStatistics, *, stamp: Time, state: str, device_memory_bytes: int
    ) -> DiagnosticArray:
        """One status with counts, latencies in milliseconds and memory in MiB.

        WARN while frames keep failing or the weights are untrained, else OK.
        """
        counts = statistics.counts()
        new_failures = counts['failed'] - self._failed_before
        self._failed_before = counts['failed']
        level, message = DiagnosticStatus.OK, state
        if new_failures > 0:
            level = DiagnosticStatus.WARN
            message = f'{new_failures} frame(s) failed since the last report: {statistics.last_failure}'
        elif not self.trained:
            level, message = DiagnosticStatus.WARN, f'{state}; weights are untrained, outputs are meaningless'
        values = {'state': state, 'device': self.device, **{k: str(v) for k, v in counts.items()}}
        for stage, percentiles in statistics.percentiles_ms().items():
            for label, value in zip(('p50', 'p95', 'p99'), percentiles, strict=True):
                values[f'{stage}_{label}_ms'] = f'{value:.2f}'
        values['resident_memory_mib'] = f'{resident_memory_bytes() / 2**20:.0f}'
        values['device_memory_mib'] = f'{device_memory_bytes / 2**20:.0f}'
        status = DiagnosticStatus(
            level=level,
            name=f'{self.name}: frames',
            message=message,
            hardware_id=self.device,
            values=[KeyValue(key=k, value=v) for k, v in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = stamp
        return array


def resident_memory_bytes() -> int:
    """Memory of this process that is in RAM, in bytes (Linux)."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) * 1024
    return 0
