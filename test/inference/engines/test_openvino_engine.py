from __future__ import annotations

from engine_contract import EngineContract


class TestOpenVino(EngineContract):
    name = 'openvino'
    library = 'openvino'
