from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engine_contract import EngineContract

# What `engine: auto` does at a first start, then a signal that Python handles.
ENGINES_COME_AND_GO = """
import os, signal, sys
import torch
from sembox_ros.inference.engines import create_engine
from sembox_ros.inference.graphs import load_exported

signal.signal(signal.SIGUSR1, lambda *_: print('handled'))
checkpoint, batch = load_exported(sys.argv[1]), torch.zeros(1, 3, 128, 128)
first = create_engine(checkpoint, 'openvino', device=torch.device('cpu'))
second = create_engine(checkpoint, 'openvino', device=torch.device('cpu'))
first(batch), second(batch)
del first, second
os.kill(os.getpid(), signal.SIGUSR1)
third = create_engine(checkpoint, 'openvino', device=torch.device('cpu'))
third(batch)
"""


class TestOpenVino(EngineContract):
    name = 'openvino'
    library = 'openvino'

    def test_signals_are_survived_when_engines_have_come_and_gone(self, tiny_onnx: Path) -> None:
        result = subprocess.run(
            [sys.executable, '-c', ENGINES_COME_AND_GO, str(tiny_onnx)], capture_output=True, text=True, check=False
        )
        assert (result.returncode, result.stdout) == (0, 'handled\n'), result.stderr
