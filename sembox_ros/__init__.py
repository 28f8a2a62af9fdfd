"""sembox_ros: one camera network for semantics and boxes, from training to a ROS 2 node."""

__version__ = '0.1.0'
