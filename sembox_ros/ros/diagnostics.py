"""The node's health as diagnostic_msgs, for rqt_robot_monitor and aggregators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from sembox_ros.ros.statistics import FrameStatistics


@dataclass
class HealthMonitor:
    """Turns statistics into a DiagnosticArray; remembers the last failure counts to tell new failures from old.

    Attributes:
        name: full name of the node.
        device: where the network runs.
        trained: False if the weights are random.
    """

    name: str
    device: str
    trained: bool
    _failed_before: Counter[str] = field(default_factory=Counter)

    def report(
        self,
        total: FrameStatistics,
        cameras: Mapping[str, FrameStatistics],
        *,
        stamp: Time,
        states: Mapping[str, str],
        device_memory_bytes: int,
    ) -> DiagnosticArray:
        """One status for the node, and one for each camera that has a name.

        The node's holds all counts, latencies in milliseconds and memory in MiB; a camera's, its own counts and
        latencies. WARN while frames keep failing or, for the node, while the weights are untrained; else OK.

        Args:
            total: of all cameras.
            cameras: name -> statistics; the name is empty for the only camera of a node without names.
            stamp: time of the report.
            states: camera -> state in words; '' is the node's.
            device_memory_bytes: what the network holds on its device.
        """
        memory = {
            'resident_memory_mib': f'{resident_memory_bytes() / 2**20:.0f}',
            'device_memory_mib': f'{device_memory_bytes / 2**20:.0f}',
        }
        node = self._status('frames', total, states[''], {'device': self.device}, memory)
        if node.level == DiagnosticStatus.OK and not self.trained:
            node.level = DiagnosticStatus.WARN
            node.message = f'{states[""]}; weights are untrained, outputs are meaningless'
        named = [name for name in cameras if name]
        array = DiagnosticArray(
            status=[node, *(self._status(f'frames of {name}', cameras[name], states[name], {}, {}) for name in named)]
        )
        array.header.stamp = stamp
        return array

    def _status(
        self, title: str, statistics: FrameStatistics, state: str, before: dict[str, str], after: dict[str, str]
    ) -> DiagnosticStatus:
        counts = statistics.counts()
        new_failures = counts['failed'] - self._failed_before[title]
        self._failed_before[title] = counts['failed']
        level, message = DiagnosticStatus.OK, state
        if new_failures > 0:
            level = DiagnosticStatus.WARN
            message = f'{new_failures} frame(s) failed since the last report: {statistics.last_failure}'
        values = {'state': state, **before, **{k: str(v) for k, v in counts.items()}}
        for stage, percentiles in statistics.percentiles_ms().items():
            for label, value in zip(('p50', 'p95', 'p99'), percentiles, strict=True):
                values[f'{stage}_{label}_ms'] = f'{value:.2f}'
        values.update(after)
        return DiagnosticStatus(
            level=level,
            name=f'{self.name}: {title}',
            message=message,
            hardware_id=self.device,
            values=[KeyValue(key=k, value=v) for k, v in values.items()],
        )


def resident_memory_bytes() -> int:
    """Memory of this process that is in RAM, in bytes (Linux)."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) * 1024
    return 0
