"""From the network's raw tensors to what is in one image. Pure functions, thresholds as arguments."""
