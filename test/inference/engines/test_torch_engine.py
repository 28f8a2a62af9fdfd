from __future__ import annotations

from engine_contract import EngineContract


class TestTorch(EngineContract):
    name = 'torch'
    library = None
