"""The lifecycle node `sembox`: camera images in; masks, boxes and diagnostics out."""

from __future__ import annotations

import logging
import os
import re
import sys
import time

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from sembox_ros.config import NodeConfig
from sembox_ros.errors import ConfigError, InputError, SemboxError
from sembox_ros.inference.predictor import Predictor
from sembox_ros.ros.conversions import decode_image
from sembox_ros.ros.diagnostics import HealthMonitor
from sembox_ros.ros.inputs import ImageInput
from sembox_ros.ros.outputs import SceneOutputs, needed_parts
from sembox_ros.ros.parameters import change_config, declare_parameters
from sembox_ros.ros.worker import FrameStatistics, FrameWorker, Stopwatch

REPORT_PERIOD_S = 5.0  # between two log lines about the same kind of bad frame
STOP_TIMEOUT_S = 1.0  # patience with the frame in flight when the process is told to end


class SemboxNode(LifecycleNode):
    """Runs the network on the newest image and publishes what it sees.

    unconfigured --configure--> inactive --activate--> active, as in REP-2002's managed nodes. Configuring loads
    the checkpoint and creates the publishers; activating subscribes and starts the worker thread. The executor
    only ever stores messages; the worker converts, infers and publishes.

    Raises:
        ConfigError: a parameter is unknown or its value is refused.
    """

    def __init__(self) -> None:
        super().__init__('sembox', automatically_declare_parameters_from_overrides=True)
        self.config: NodeConfig = declare_parameters(self)
        self._enabled = True
        self._predictor: Predictor | None = None
        self._outputs: SceneOutputs | None = None
        self._input: ImageInput | None = None
        self._worker: FrameWorker | None = None
        self._health: HealthMonitor | None = None
        self._statistics = FrameStatistics()
        self._reported: dict[str, float] = {}
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the checkpoint, warm the network up, create publishers, service and diagnostics."""
        try:
            predictor = self._load_predictor()
        except SemboxError as error:
            self.get_logger().error(f'cannot configure: {error}')
            return TransitionCallbackReturn.FAILURE
        self._predictor = predictor
        self._statistics = FrameStatistics()
        self._outputs = SceneOutputs(self, predictor.labels)
        self._health = HealthMonitor(
            self.get_fully_qualified_name(), str(predictor.device), predictor.checkpoint.trained
        )
        self._enable_service = self.create_service(SetBool, '~/enable', self._on_enable)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._diagnostics_timer = self.create_timer(self.config.diagnostics_period_s, self._publish_diagnostics)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start working."""
        result = super().on_activate(state)
        assert self._outputs is not None
        self._outputs.publish_labels(self.config)
        self._worker = FrameWorker(self._process, self._statistics)
        self._input = ImageInput(self, self.config.input_transport, self._on_image)
        self.get_logger().info(f'active; {self._input.description}')
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening and let the frame in flight finish."""
        self._stop_input()
        self.stop_worker(timeout_s=30.0)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back that configuring took."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        self._stop_input()
        self.stop_worker(timeout_s=STOP_TIMEOUT_S)
        self._release()
        return super().on_shutdown(state)

    def autostart(self) -> bool:
        """Configure and activate; False if that failed (the reason is logged)."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def stop_worker(self, timeout_s: float) -> bool:
        """Stop the worker thread; False if a frame was still in flight after `timeout_s` seconds."""
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

    def _stop_input(self) -> None:
        if self._input is not None:
            self._input.destroy()
            self._input = None

    def _release(self) -> None:
        if self._outputs is None:
            return
        self.destroy_timer(self._diagnostics_timer)
        self.destroy_service(self._enable_service)
        self.destroy_publisher(self._diagnostics)
        self._outputs.destroy()
        self._outputs = self._predictor = self._health = None

    # Frames

    def _on_image(self, message: Image | CompressedImage) -> None:
        """Executor thread: store the frame, nothing else."""
        self._statistics.count('received')
        worker = self._worker
        if worker is None or not self._enabled:
            self._statistics.count('paused')
        else:
            worker.offer(message)

    def _process(self, message: Image | CompressedImage, arrival: float) -> None:
        """Worker thread: one frame from message to messages; whatever happens is counted and nothing is raised."""
        try:
            outcome = self._process_frame(message, arrival)
        except InputError as error:
            outcome = 'failed'
            self._report_failure(str(error))
        except Exception as error:  # a frame must never end the node
            if not rclpy.ok(context=self.context):
                return  # publishers vanish under a frame in flight when the process is told to end
            outcome = 'failed'
            self._report_failure(f'unexpected {type(error).__name__}: {error}')
        self._statistics.count(outcome)

    def _process_frame(self, message: Image | CompressedImage, arrival: float) -> str:
        predictor, outputs, config = self._predictor, self._outputs, self.config
        assert predictor is not None
        assert outputs is not None
        if self._is_stale(message, config.max_age_s):
            return 'stale'
        topics = outputs.wanted_topics()
        if not topics:
            return 'idle'
        watch = Stopwatch()
        watch.timings_ms['wait'] = (time.perf_counter() - arrival) * 1e3
        with watch.stage('decode'):
            image = decode_image(message, max_pixels=config.max_image_pixels, warn=self._warn_once)
        [scene] = predictor.predict([image], detection=config, outputs=needed_parts(topics))
        watch.timings_ms.update(scene.timings_ms)
        with watch.stage('encode'):
            messages = outputs.encode(topics, image, scene, message.header, config)
        with watch.stage('publish'):
            outputs.publish(messages)
        watch.timings_ms['total'] = (time.perf_counter() - arrival) * 1e3
        self._statistics.record(watch.timings_ms)
        return 'processed'

    def _is_stale(self, message: Image | CompressedImage, max_age_s: float) -> bool:
        if max_age_s <= 0:
            return False
        now = self.get_clock().now()
        age = now - Time.from_msg(message.header.stamp, clock_type=now.clock_type)
        return age.nanoseconds > max_age_s * 1e9

    def _report_failure(self, reason: str) -> None:
        """Remember the reason and log it, but not more often than every few seconds for one kind of reason."""
        self._statistics.last_failure = reason
        kind = re.sub(r'\d+', '#', reason)
        now = time.monotonic()
        if now - self._reported.get(kind, -REPORT_PERIOD_S) >= REPORT_PERIOD_S:
            if len(self._reported) > 100:  # hostile input must not grow memory
                self._reported.clear()
            self._reported[kind] = now
            failed = self._statistics.counts()['failed'] + 1
            self.get_logger().warning(f'bad frame dropped ({failed} so far): {reason}')

    def _warn_once(self, text: str) -> None:
        if text not in self._reported:
            self._reported[text] = float('inf')
            self.get_logger().warning(text)

    # Parameters, service, diagnostics

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            change_config(self.config, parameters, running=self._predictor is not None)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _take_parameters(self, parameters: list[Parameter]) -> None:
        before, self.config = self.config, change_config(self.config, parameters, running=False)
        active = self._worker is not None and self._outputs is not None
        if active and before.score_threshold != self.config.score_threshold:
            self._outputs.publish_labels(self.config)

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
        state = 'inactive' if self._input is None else 'active' if self._enabled else 'paused'
        if self._input is not None and not self._statistics.counts()['received']:
            state = f'{state}, no image yet: {self._input.description}'
        self._diagnostics.publish(
            self._health.report(
                self._statistics,
                stamp=self.get_clock().now().to_msg(),
                state=state,
                device_memory_bytes=self._predictor.device_memory_bytes(),
            )
        )


def main(args: list[str] | None = None) -> None:
    """Entry point of the executable `sembox_node`; leaves with status 1 and one line if it cannot start."""
    logging.getLogger().setLevel(logging.ERROR)  # torch and friends: rclpy's logger speaks for the node
    try:
        rclpy.init(args=args)
    except Exception as error:  # malformed ROS arguments, in several exception types
        sys.exit(f'sembox: {str(error).splitlines()[0]}')
    status = 0
    node = None
    idle = True
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
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():
            raise  # else a signal invalidated ROS while the node was being made
    finally:
        if node is not None:
            idle = node.stop_worker(STOP_TIMEOUT_S)
            node.destroy_node()
        rclpy.try_shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    if not idle:
        os._exit(status)  # a forward pass is still running in C++ and cannot be interrupted; nothing is left to save
    sys.exit(status)


if __name__ == '__main__':
    main()
