"""Packs the bundled model and changes single bits of what came out. Standard library only."""

import json
import os
import struct
import subprocess

from server_process import ANSWER_S, executable

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
MODEL = os.path.join(ROOT, "config", "models", "moira-demo")


def command(source, target, *options):
    return [executable(), "pack", source, target, "--json", *options]


def pack(source, target, *options):
    """The finished process."""
    return subprocess.run(command(source, target, *options), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=ANSWER_S, check=False)


def place_of(folder, tensor):
    """File and first byte of a tensor."""
    with open(os.path.join(folder, "model.safetensors.index.json"), encoding="utf-8") as file:
        path = os.path.join(folder, json.load(file)["weight_map"][tensor])
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
    return path, 8 + length + header[tensor]["data_offsets"][0]


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))
