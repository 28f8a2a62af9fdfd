"""What the node says about itself on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sembox_ros.replay.bags import BagMessage

DIAGNOSTICS_TOPIC = '/diagnostics'
# What becomes of a frame, as in docs/topics_and_parameters.md; `received` is the sum of the others.
FRAME_COUNTS = ('received', 'processed', 'dropped', 'stale', 'failed', 'paused', 'idle')
PERCENTILES = ('p50', 'p95', 'p99')


@dataclass(frozen=True)
class HealthReport:
    """One report of the node, for all of its cameras.

    Attributes:
        recorded_ns: when it was recorded, nanoseconds.
        values: as published, key -> text.
    """

    recorded_ns: int = 0
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Frames received so far, and what became of them."""
        return {name: int(self.values.get(name, 0)) for name in FRAME_COUNTS}

    @property
    def stages_ms(self) -> dict[str, dict[str, float]]:
        """Stage -> p50, p95 and p99 of the last frames in milliseconds."""
        stages = [key.removesuffix('_p50_ms') for key in self.values if key.endswith('_p50_ms')]
        return {stage: {p: float(self.values[f'{stage}_{p}_ms']) for p in PERCENTILES} for stage in stages}

    def memory_mib(self, kind: str) -> int:
        """`resident` memory of the process, or what the network holds of the `device`'s, in MiB."""
        return int(self.values.get(f'{kind}_memory_mib', 0))


def read_health(entry: BagMessage) -> HealthReport | None:
    """The report in a message of the diagnostics topic; None if it is about something else."""
    for status in entry.message.status:
        if status.name.endswith('sembox: frames'):
            return HealthReport(entry.received_ns, {pair.key: pair.value for pair in status.values})
    return None
