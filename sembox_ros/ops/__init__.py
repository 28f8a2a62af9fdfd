"""Geometry on tensors: boxes, anchors, non-maximum suppression, resizing. Knows no network and no ROS."""
