"""sembox_ros: one camera network for semantics and boxes, from training to a ROS 2 node."""

import os

__version__ = '0.1.0'

# PyTorch's CPU threads wait for each other by spinning, which takes the cores from ROS and from other programs; beside
# one busy program the network took four times as long. Sleeping costs little. OpenMP reads this when it is loaded.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
