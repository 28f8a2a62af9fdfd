"""From uint8 images to scenes. `predictor.Predictor` is the one door for the node, the commands and the tests."""
