"""Which output of the network learns which object."""
