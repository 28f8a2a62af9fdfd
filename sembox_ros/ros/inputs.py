"""Which topic, type and reliability the camera's images come with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

POLL_S = 0.2


class Source(NamedTuple):
    """One way in which images can arrive."""

    topic: str
    kind: type
    reliability: ReliabilityPolicy

    def __str__(self) -> str:
        return f'{self.topic} ({self.kind.__name__}, {self.reliability.name.lower().replace("_", " ")})'


class ImageInput:
    """Subscribes to one camera's `image` in the transport that is wanted or found.

    raw:        `image` as sensor_msgs/Image.
    compressed: `image` or `image/compressed` as sensor_msgs/CompressedImage.
    auto:       the first of these that is published: `image` raw, `image` compressed, `image/compressed`.

    The graph is watched: the subscription is made when a publisher appears, and made anew when publishers change.
    QoS is the sensor data profile, but its reliability is that of the publishers: best effort unless all of them
    are reliable. Best effort to a reliable publisher is allowed, but Fast DDS then loses most images of a megabyte
    or more (docs/architecture.md has the measurement). `qos_overrides` parameters have the last word.

    Args:
        node: owns the subscription.
        topic: relative name of the camera's images, before remapping.
        transport: raw, compressed or auto.
        callback: called with every Image or CompressedImage.
    """

    def __init__(
        self, node: Node, topic: str, transport: str, callback: Callable[[Image | CompressedImage], None]
    ) -> None:
        self._node = node
        self._callback = callback
        self._subscription: Subscription | None = None
        self._source: Source | None = None
        topic = node.resolve_topic_name(topic)
        nested = topic if topic.endswith('/compressed') else f'{topic}/compressed'
        raw, compressed = [(topic, Image)], [(topic, CompressedImage), (nested, CompressedImage)]
        candidates = {'raw': raw, 'compressed': compressed, 'auto': raw + compressed}[transport]
        self._candidates = list(dict.fromkeys(candidates))
        self._watch()
        # Publishers come and go in real time, also while a simulation stands still.
        self._timer = node.create_timer(POLL_S, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def description(self) -> str:
        """What is subscribed to, or what is waited for, in words."""
        if self._source is not None:
            return str(self._source)
        return 'waiting for ' + ' or '.join(f'{topic} ({kind.__name__})' for topic, kind in self._candidates)

    def destroy(self) -> None:
        """End the subscription and the watch."""
        self._node.destroy_timer(self._timer)
        self._unsubscribe()

    def _watch(self) -> None:
        """Follow the publishers; with none left, keep listening where the last ones were."""
        published = [source for source in map(self._look_up, self._candidates) if source is not None]
        if not published:
            return
        same_topic = [s for s in published if self._source is not None and s[:2] == self._source[:2]]
        source = (same_topic or published)[0]
        if source != self._source:
            self._subscribe(source)

    def _look_up(self, candidate: tuple[str, type]) -> Source | None:
        """The candidate as its publishers offer it, or None if it has none."""
        topic, kind = candidate
        wanted = f'sensor_msgs/msg/{kind.__name__}'
        offers = [i.qos_profile for i in self._node.get_publishers_info_by_topic(topic) if i.topic_type == wanted]
        if not offers:
            return None
        reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
        return Source(topic, kind, ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT)

    def _subscribe(self, source: Source) -> None:
        self._unsubscribe()
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=qos_profile_sensor_data.depth, reliability=source.reliability
        )
        overridable = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH]
        # Declaring the reliability would freeze the one found first, so only a value that the user gave is taken.
        if self._node.has_parameter(f'qos_overrides.{source.topic}.subscription.reliability'):
            overridable.append(QoSPolicyKind.RELIABILITY)
        self._subscription = self._node.create_subscription(
            source.kind,
            source.topic,
            self._callback,
            qos,
            qos_overriding_options=QoSOverridingOptions(policy_kinds=overridable),
        )
        self._source = source
        self._node.get_logger().info(f'input: {self.description}')

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = None
