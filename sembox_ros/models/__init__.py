"""The networks: plain `torch.nn` modules that return raw tensors and know nothing of thresholds, colours or ROS."""
