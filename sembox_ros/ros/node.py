"""The lifecycle node `sembox`: images of one or several cameras in; panoptic scenes, boxes and diagnostics out."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from sembox_ros.config import NodeConfig
from sembox_ros.errors import ConfigError, SemboxError
from sembox_ros.inference.predictor import Predictor
from sembox_ros.ros.diagnostics import HealthMonitor
from sembox_ros.ros.inputs import ImageInput
from sembox_ros.ros.outputs import SceneOutputs, topic_of
from sembox_ros.ros.parameters import change_config, declare_parameters
from sembox_ros.ros.shutdown import ends_quietly
from sembox_ros.ros.stages import SceneStages
from sembox_ros.ros.statistics import FrameStatistics
from sembox_ros.ros.transport import use_large_shared_memory
from sembox_ros.ros.worker import FrameWorker

STOP_TIMEOUT_S = 1.0  # patience with the frame in flight when the process is told to end


class SemboxNode(LifecycleNode):
    """Runs the network on the newest image of each camera and publishes what it sees.

    unconfigured --configure--> inactive --activate--> active, as in REP-2002's managed nodes. Configuring loads
    the checkpoint and creates the publishers; activating subscribes and starts the worker's threads. The executor
    only ever stores messages; the worker decodes, infers and publishes. Without named cameras there is one, whose
    name is empty.

    Raises:
        ConfigError: a parameter is unknown or its value is refused.
    """

    def __init__(self) -> None:
        super().__init__('sembox', automatically_declare_parameters_from_overrides=True)
        self.config: NodeConfig = declare_parameters(self)
        self._enabled = True
        self._predictor: Predictor | None = None
        self._outputs: dict[str, SceneOutputs] = {}
        self._inputs: dict[str, ImageInput] = {}
        self._worker: FrameWorker | None = None
        self._health: HealthMonitor | None = None
        self._total = FrameStatistics()
        self._statistics: dict[str, FrameStatistics] = {}
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)

    def declare_parameters(
        self, namespace: str, parameters: Sequence[tuple[Any, ...]], ignore_override: bool = False
    ) -> list[Parameter]:
        """As in rclpy, which calls it with all overrides, but an empty list is no error.

        rcl cannot tell the type of a list without elements and hands it over as a parameter that is not set.
        """
        for _, *given in parameters:
            if len(given) == 2 and given[0] is None:
                given[1].dynamic_typing = True
        return super().declare_parameters(namespace, parameters, ignore_override)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the checkpoint, warm the network up, create publishers, service and diagnostics."""
        try:
            predictor = self._load_predictor()
        except SemboxError as error:
            self.get_logger().error(f'cannot configure: {error}')
            return TransitionCallbackReturn.FAILURE
        self._predictor = predictor
        cameras = self.config.cameras or ('',)
        self._total = FrameStatistics()
        self._statistics = {camera: FrameStatistics(self._total) for camera in cameras}
        self._outputs = {camera: SceneOutputs(self, predictor.labels, predictor.parts, camera) for camera in cameras}
        self._health = HealthMonitor(
            self.get_fully_qualified_name(), str(predictor.device), predictor.checkpoint.trained
        )
        self._enable_service = self.create_service(SetBool, '~/enable', self._on_enable)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._diagnostics_timer = self.create_timer(
            self.config.diagnostics_period_s,
            self._publish_diagnostics,
            clock=Clock(clock_type=ClockType.STEADY_TIME),  # a simulation that stands still is no reason for silence
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras and start working."""
        result = super().on_activate(state)
        assert self._predictor is not None
        self._publish_labels()
        stages = SceneStages(self, self._predictor, self._outputs, self._statistics, lambda: self.config)
        self._worker = FrameWorker(
            stages,
            self._statistics,
            max_batch=self.config.max_batch,
            window_s=lambda: self.config.batch_window_ms * 1e-3,
        )
        self._inputs = {
            camera: ImageInput(
                self, topic_of(camera, 'image'), self.config.input_transport, partial(self._on_image, camera)
            )
            for camera in self._outputs
        }
        self.get_logger().info(f'active; {"; ".join(source.description for source in self._inputs.values())}')
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening and let the frames in flight finish."""
        self._stop_inputs()
        self.stop_worker(timeout_s=30.0)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back that configuring took."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        self._stop_inputs()
        self.stop_worker(timeout_s=STOP_TIMEOUT_S)
        self._release()
        return super().on_shutdown(state)

    def autostart(self) -> bool:
        """Configure and activate; False if that failed (the reason is logged)."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def stop_worker(self, timeout_s: float) -> bool:
        """Stop the worker's threads; False if a frame was still in flight after `timeout_s` seconds."""
        worker, self._worker = self._worker, None
        return worker is None or worker.stop(timeout_s)

    def _load_predictor(self) -> Predictor:
        config, logger = self.config, self.get_logger()
        start = time.perf_counter()
        predictor = Predictor.from_checkpoint(
            config.checkpoint or None,
            device=config.device,
            engine=config.engine,
            precision=config.precision,
            threads=config.threads,
        )
        checkpoint = predictor.checkpoint
        height, width = checkpoint.input.size_hw
        # The first run of a network is slow (memory, kernel choice); no camera frame should pay for it.
        predictor.predict([np.zeros((height, width, 3), np.uint8)], detection=config)
        logger.info(
            f'{checkpoint.config.name} on {predictor.device} by {predictor.engine.name} {predictor.engine.precision}, '
            f'input {height}x{width}, ready in {time.perf_counter() - start:.1f} s'
        )
        if predictor.measured:
            logger.info(f'engine auto chose from: {", ".join(map(str, predictor.measured))}')
        if not checkpoint.trained:
            logger.warning('the weights are UNTRAINED: masks and boxes are meaningless; set checkpoint:=FILE')
        return predictor

    def _stop_inputs(self) -> None:
        for source in self._inputs.values():
            source.destroy()
        self._inputs = {}

    def _publish_labels(self) -> None:
        for outputs in self._outputs.values():
            outputs.publish_labels(self.config)

    def _release(self) -> None:
        if self._predictor is None:
            return
        self.destroy_timer(self._diagnostics_timer)
        self.destroy_service(self._enable_service)
        self.destroy_publisher(self._diagnostics)
        for outputs in self._outputs.values():
            outputs.destroy()
        self._outputs = {}
        self._predictor = self._health = None

    def _on_image(self, camera: str, message: Image | CompressedImage) -> None:
        """Store the frame, nothing else: the executor has to stay free for the next one."""
        self._statistics[camera].count('received')
        worker = self._worker
        if worker is None or not self._enabled:
            self._statistics[camera].count('paused')
        else:
            worker.offer(camera, message)

    # Parameters, service, diagnostics

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            config = change_config(self.config, parameters, running=self._predictor is not None)
            if self._predictor is not None:
                self._predictor.choose_fusion(config)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _take_parameters(self, parameters: list[Parameter]) -> None:
        before, self.config = self.config, change_config(self.config, parameters, running=False)
        if self._worker is not None and before.score_threshold != self.config.score_threshold:
            self._publish_labels()

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        if not request.data and self._worker is not None:
            self._worker.discard('paused')
        response.success = True
        response.message = 'inference runs' if request.data else 'inference is paused'
        return response

    def _publish_diagnostics(self) -> None:
        if self._health is None or self._predictor is None:
            return
        self._diagnostics.publish(
            self._health.report(
                self._total,
                self._statistics,
                stamp=self.get_clock().now().to_msg(),
                states={name: self._state_of(name) for name in ('', *self._statistics)},
                device_memory_bytes=self._predictor.device_memory_bytes(),
            )
        )

    def _state_of(self, camera: str) -> str:
        """The state of one camera, or with an empty name of all, in words; says which images are missing."""
        if not self._inputs:
            return 'inactive'
        state = 'active' if self._enabled else 'paused'
        silent = [
            source.description
            for name, source in self._inputs.items()
            if camera in ('', name) and not self._statistics[name].counts()['received']
        ]
        return f'{state}, no image yet: {"; ".join(silent)}' if silent else state


class _RosHandler(logging.Handler):
    """Passes what the package's Python loggers say on to ROS."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = rclpy.logging.get_logger('sembox')
        (logger.warning if record.levelno >= logging.WARNING else logger.info)(record.getMessage())


def main(args: list[str] | None = None) -> None:
    """Entry point of the executable `sembox_node`; leaves with status 1 and one line if it cannot start."""
    logging.getLogger().setLevel(logging.ERROR)  # torch and friends: rclpy's logger speaks for the node
    ours = logging.getLogger('sembox_ros')
    ours.setLevel(logging.INFO)
    ours.addHandler(_RosHandler())
    use_large_shared_memory()
    try:
        rclpy.init(args=args)
    except Exception as error:  # malformed ROS arguments, in several exception types
        sys.exit(f'sembox: {str(error).splitlines()[0]}')
    status = 0
    node = None
    idle = True
    with ends_quietly():
        try:
            node = SemboxNode()
            if node.config.autostart and not node.autostart():
                status = 1
            else:
                executor = SingleThreadedExecutor()
                executor.add_node(node)
                executor.spin()
        except ConfigError as error:
            rclpy.logging.get_logger('sembox').fatal(str(error))
            status = 1
        finally:
            if node is not None:
                idle = node.stop_worker(STOP_TIMEOUT_S)
                node.destroy_node()
    sys.stdout.flush()
    sys.stderr.flush()
    if not idle:
        os._exit(status)  # a forward pass is still running in C++ and cannot be interrupted; nothing is left to save
    sys.exit(status)


if __name__ == '__main__':
    main()
