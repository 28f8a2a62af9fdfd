from __future__ import annotations

from engine_contract import EngineContract


class TestOnnxRuntime(EngineContract):
    name = 'onnxruntime'
    library = 'onnxruntime'
