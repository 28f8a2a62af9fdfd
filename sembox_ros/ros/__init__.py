"""The ROS 2 face: the only part of the package that imports rclpy, cv_bridge or message packages."""
