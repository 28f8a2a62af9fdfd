"""Damages checkpoint files in every way it knows and loads each: nothing may crash, hang or take much memory.

    python bench/fuzz_checkpoints.py --count 2000

Each file is loaded in a process of its own, forked from one that has loaded an intact file, with one thread. There
  - anything raised but CheckpointError, and any death by a signal, counts as a crash;
  - taking longer than --seconds counts as a hang (the process is ended by SIGALRM);
  - RLIMIT_DATA lets writable private memory grow by twice the file's size plus --slack: more, even if it is
    never touched, fails to allocate and counts as excessive;
  - peak resident memory is measured too: VmHWM less VmRSS at the start, from /proc/self/status, and less the growth
    of RssFile, which is the code of libraries that a forked process maps anew. It has the same limit.
The slack is for what Python itself needs to parse a header and to describe a model.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import gc
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from sembox_ros.config import InputConfig
from sembox_ros.errors import CheckpointError
from sembox_ros.labels import load_scene_labels
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sembox_ros.models.checkpoint_file import digest_metadata
from sembox_ros.models.zoo import create_model, find_model

HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 1, 255, 256, 2**31, 2**63, 2**64, 10**30, 10**400, 0.5, 1e308, float('nan'), float('inf'), '',
    'x', '\x1b[31m', '[bold]', '\n', 'a' * 5000, '\ud800', [], [[]], [0] * 300, [0] * 20_000, {}, {'': None},
)  # fmt: skip
FORMATS = ('F64', 'F32', 'F16', 'BF16', 'I64', 'I8', 'U8', 'BOOL', 'F8_E4M3', 'C64', '', 'f32')


def damage_bytes(data: bytearray, dice: random.Random, header_end: int) -> bytearray:
    """Flips, cuts, insertions and lies about the header's length, most of them in the header."""
    kind = dice.randrange(9)
    end = header_end if dice.random() < 0.7 else len(data)
    if kind == 0:
        return data[: dice.randrange(end)]
    if kind == 1:
        return data + dice.randbytes(dice.randrange(1, 50))
    if kind == 2:
        lies = (0, 1, 2, header_end, header_end - 7, len(data) - 8, len(data), 2**31, 2**63, 2**64 - 1)
        data[:8] = struct.pack('<Q', dice.choice(lies))
    elif kind == 3:
        start = dice.randrange(end)
        del data[start : start + dice.randrange(1, 20)]
    elif kind == 4:
        start = dice.randrange(8, end)
        data[start:start] = dice.randbytes(dice.randrange(1, 20))
    elif kind == 5:
        data[:4] = dice.choice((b'PK\x03\x04', b'\x80\x02}q', b'\x80\x04\x95\x00', b'GGUF', b'<htm', b'\x89HDF'))
    elif kind == 6:
        for _ in range(dice.randrange(1, 9)):
            data[dice.randrange(end)] ^= 1 << dice.randrange(8)
    else:  # digits stay digits and letters letters, so that the JSON stays JSON
        first, last = (48, 58) if kind == 7 else (97, 123)
        places = [i for i in range(8, header_end) if first <= data[i] < last]
        for _ in range(dice.randrange(1, 4)):
            data[dice.choice(places)] = dice.randrange(first, last)
    return data


def damage_tensors(header: dict[str, Any], dice: random.Random) -> None:
    """Entries that are renamed, dropped, doubled, or lie about their size, place or format."""
    names = [name for name in header if name != '__metadata__']
    for _ in range(dice.randrange(1, 4)):
        name = dice.choice(names)
        entry = header.get(name)
        if not isinstance(entry, dict):
            continue
        kind = dice.randrange(7)
        if kind == 0:
            header[dice.choice(('', '\n', 'x' * 3000, name + '.x', '__metadata__'))] = header.pop(name)
        elif kind == 1:
            del header[name]
        elif kind == 2:
            header[f'{name}.copy'] = dict(entry)
        elif kind == 3:
            place = dice.randrange(2)
            offsets = list(entry['data_offsets'])
            offsets[place] = dice.choice((*HOSTILE, offsets[place] + 4, offsets[place] * 1000))
            entry['data_offsets'] = offsets
        elif kind == 4:
            entry['shape'] = dice.choice(([2**40], [2**32, 2**32], [-1, -1], [0], [1] * 100, *HOSTILE))
        elif kind == 5:
            entry['dtype'] = dice.choice(FORMATS)
        else:
            entry[dice.choice(('dtype', 'shape', 'data_offsets', 'extra'))] = dice.choice(HOSTILE)


def swap_leaf(value: Any, dice: random.Random) -> Any:
    """The same JSON with one value, somewhere inside, replaced, grown or dropped."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(list(value))
        if dice.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: swap_leaf(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.9:
        place = dice.randrange(len(value))
        return [*value[:place], swap_leaf(value[place], dice), *value[place + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and dice.random() < 0.6:
        return value + dice.choice((-1, 1, 7)) if dice.random() < 0.5 else value * 10 ** dice.randrange(1, 12)
    return dice.choice(HOSTILE)


def damage_metadata(header: dict[str, Any], dice: random.Random) -> None:
    """Keys that are missing or renamed, values of another kind or size; mostly with a digest that matches."""
    metadata = header['__metadata__']
    for _ in range(dice.randrange(1, 3)):
        key = dice.choice(list(metadata))
        kind = dice.randrange(8)
        if kind == 0:
            del metadata[key]
        elif kind == 1:
            metadata[key + 's'] = metadata.pop(key)
        elif kind == 2:
            metadata[key] = dice.choice(('', '[' * 3000, '{' * 3000, '9' * 5000, 'NaN', '"', 'null', '2', '\x00'))
        elif key in ('model', 'labels', 'input', 'trained', 'recipe', 'metrics'):
            with contextlib.suppress(ValueError, RecursionError):  # the first round may have broken it already
                metadata[key] = json.dumps(swap_leaf(json.loads(metadata[key]), dice))
    if dice.random() < 0.8:
        metadata['sha256_metadata'] = digest_metadata(metadata)


def mutate(original: bytes, seed: int) -> bytes:
    """The damaged file of that seed."""
    dice = random.Random(seed)
    header_end = 8 + struct.unpack('<Q', original[:8])[0]
    if dice.random() < 0.45:
        return bytes(damage_bytes(bytearray(original), dice, header_end))
    header = json.loads(original[8:header_end])
    if dice.random() < 0.35:
        damage_tensors(header, dice)
    else:
        damage_metadata(header, dice)
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + original[header_end:]


def memory(field: str) -> int:
    """One value of /proc/self/status, in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{field}:'):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def load_in_child(path: Path, allowance: int, seconds: int) -> dict[str, Any]:
    """Load one file in a forked process and tell how that went."""
    reader, writer = os.pipe()
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        limit = memory('VmData') + allowance
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        before, code = memory('VmRSS'), memory('RssFile')
        try:
            load_checkpoint(path)
            outcome, reason = 'loaded', ''
        except CheckpointError as error:
            outcome, reason = 'refused', str(error).replace(str(path), '')
        except BaseException as error:
            outcome, reason = 'crashed', repr(error)[:300]
        if 'allocate' in reason or 'MemoryError' in reason:
            outcome = 'excessive'
        growth = memory('VmHWM') - before - (memory('RssFile') - code)
        told = {'outcome': outcome, 'reason': reason, 'growth': growth}
        os.write(writer, json.dumps(told).encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, 'rb') as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told = json.loads(answer) if answer else {'outcome': 'crashed', 'reason': f'exit status {status}', 'growth': 0}
    if status == -signal.SIGALRM:
        told['outcome'] = 'hung'
    return {**told, 'seconds': time.perf_counter() - started}


def write_seeds(folder: Path) -> list[bytes]:
    """Two intact checkpoints of a small network, in float32 and in float16."""
    config = dataclasses.replace(
        find_model('sembox_b0').config, neck_channels=16, neck_cells=1, box_head_depth=1, semantic_channels=16,
        dpc_channels=16,
    )  # fmt: skip
    labels = load_scene_labels('cityscapes_19+coco_90')
    recipe = {'epochs': 3, 'schedule': [{'rate': 0.1, 'until': 2}, {'rate': 0.01, 'until': 3}], 'note': 'fuzz'}
    checkpoint = Checkpoint(
        create_model(config, seed=3).eval(), config, labels, InputConfig(size_hw=(128, 256)), recipe=recipe,
        metrics={'miou': 0.5},
    )  # fmt: skip
    seeds = []
    for half in (False, True):
        path = folder / f'intact_{half}.safetensors'
        save_checkpoint(checkpoint, path, half=half)
        load_checkpoint(path)
        data = path.read_bytes()
        end = 8 + struct.unpack('<Q', data[:8])[0]
        header = json.dumps(json.loads(data[8:end]), sort_keys=True).encode()  # safetensors' order differs every time
        seeds.append(struct.pack('<Q', len(header)) + header + data[end:])
        path.unlink()
    return seeds


def fuzz(count: int, first_seed: int, seconds: int, slack: int) -> dict[str, Any]:
    """Load `count` damaged files; returns counts, the worst of each measure, and every failure."""
    torch.set_num_threads(1)
    outcomes: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    slowest, largest_refused, largest_ratio = 0.0, 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        seeds = write_seeds(Path(name))
        gc.collect()
        ctypes.CDLL('libc.so.6').malloc_trim(0)  # a child must not find free memory that it would not have to ask for
        path = Path(name) / 'damaged.safetensors'
        for seed in range(first_seed, first_seed + count):
            data = mutate(seeds[seed % 2], seed)
            path.write_bytes(data)
            told = load_in_child(path, 2 * len(data) + slack, seconds)
            outcome = told['outcome']
            if outcome in ('loaded', 'refused') and told['growth'] > 2 * len(data) + slack:
                outcome = 'excessive'
            outcomes[outcome] += 1
            slowest = max(slowest, told['seconds'])
            if outcome == 'refused':
                largest_refused = max(largest_refused, told['growth'])
            if outcome == 'loaded':
                largest_ratio = max(largest_ratio, told['growth'] / len(data))
            if outcome not in ('loaded', 'refused'):
                failures.append({'seed': seed, **told, 'outcome': outcome})
    return {
        'files': count,
        **{k: outcomes[k] for k in ('refused', 'loaded', 'crashed', 'hung', 'excessive')},
        'slowest_s': round(slowest, 2),
        'seed_sizes_mb': [round(len(s) / 1e6, 1) for s in seeds],
        'largest_growth_refused_mb': round(largest_refused / 1e6, 1),
        'largest_growth_loaded_per_byte': round(largest_ratio, 2),
        'failures': failures,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, default=2000, help='how many files')
    parser.add_argument('--seed', type=int, default=0, help='the first file; file i depends on seed + i alone')
    parser.add_argument('--seconds', type=int, default=20, help='a file that takes longer hangs')
    parser.add_argument('--slack', type=int, default=4 * 2**20, help='bytes beyond twice the size of the file')
    options = parser.parse_args()
    started = time.perf_counter()
    report = fuzz(options.count, options.seed, options.seconds, options.slack)
    report['total_s'] = round(time.perf_counter() - started, 1)
    print(json.dumps(report))
    return 1 if report['failures'] else 0


if __name__ == '__main__':
    sys.exit(main())
