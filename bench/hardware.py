"""What a measurement ran on, without anything that names the machine."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

CPU_FLAGS = ('avx2', 'avx512f', 'avx512_bf16', 'avx512_vnni', 'avx_vnni', 'amx_bf16', 'amx_int8')
PACKAGES = (
    'torch', 'torchvision', 'openvino', 'onnxruntime', 'onnx', 'triton', 'effdet', 'timm',
    'segmentation-models-pytorch', 'ros-rclpy',
)  # fmt: skip
# Settings of the environment that change speed or memory.
SETTINGS = re.compile(r'(MALLOC|OMP|MKL|ONEDNN|DNNL|KMP|OPENBLAS|FASTDDS_BUILTIN|RMW_|GLIBC_TUNABLES)\w*$')


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_flags() -> list[str]:
    """Those of `CPU_FLAGS` that the processor has (Linux, x86; empty elsewhere)."""
    info = Path('/proc/cpuinfo')
    found = re.search(r'^flags\s*:(.*)$', info.read_text(), re.MULTILINE) if info.exists() else None
    present = set(found[1].split()) if found else set()
    return [flag for flag in CPU_FLAGS if flag in present]


def cpu_name() -> str:
    """The processor's own name."""
    info = Path('/proc/cpuinfo')
    found = re.search(r'^model name\s*:\s*(.*)$', info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1] if found else platform.machine()


def versions() -> dict[str, str]:
    """Versions of what is installed of `PACKAGES`."""
    known = {}
    for package in PACKAGES:
        try:
            known[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return known


def settings() -> dict[str, str]:
    """Environment variables that change speed, and which allocator is loaded before the C library's."""
    found = {name: value for name, value in sorted(os.environ.items()) if SETTINGS.match(name)}
    preloaded = [Path(item).name for item in re.split(r'[: ]', os.environ.get('LD_PRELOAD', '')) if item]
    return {**found, **({'LD_PRELOAD': ' '.join(preloaded)} if preloaded else {})}


def describe_machine(threads: int) -> dict[str, Any]:
    """Processor, memory, versions and settings; no host name and no path.

    Args:
        threads: that each candidate computes with.
    """
    return {
        'processor': cpu_name(),
        'cores': count_cores(),
        'threads': threads,
        'flags': cpu_flags(),
        'memory_gib': round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30, 1),
        'python': platform.python_version(),
        'versions': versions(),
        'settings': settings(),
    }
