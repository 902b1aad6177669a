"""Small ONNX graphs, written byte by byte: the device suite has no `onnx` package to make them.

Field numbers are those of onnx.proto3; `tests/runtime/test_engine_ort.py` holds the bytes against
the `onnx` package where it is installed.
"""

from __future__ import annotations

import numpy as np

ELEMENTS = {"float32": 1, "uint8": 2, "int8": 3, "int64": 7, "bool": 9, "float16": 10}
OPSET, IR_VERSION = 17, 8


def varint(number):
    out = bytearray()
    while True:
        low, number = number & 0x7F, number >> 7
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def value_info(name, dtype, shape):
    sizes = b"".join(
        block(1, number(1, size) if isinstance(size, int) else block(2, size)) for size in shape
    )
    tensor = number(1, ELEMENTS[dtype]) + block(2, sizes)
    return block(1, name) + block(2, block(1, tensor))


def initializer(name, array, external=None):
    """A constant; `external` is (file, offset) where its bytes lie in a file beside the graph."""
    head = b"".join(number(1, size) for size in array.shape)
    head += number(2, ELEMENTS[array.dtype.name]) + block(8, name)
    if external is None:
        return head + block(9, array.tobytes())
    file, offset = external
    facts = {"location": file, "offset": str(offset), "length": str(array.nbytes)}
    told = [block(13, block(1, key) + block(2, value)) for key, value in facts.items()]
    return head + b"".join(told) + number(14, 1)


def node(op, inputs, outputs, **attributes):
    out = b"".join(block(1, name) for name in inputs) + b"".join(block(2, name) for name in outputs)
    out += block(4, op)
    for name, value in attributes.items():
        body = block(1, name)
        if isinstance(value, int):
            body += number(3, value) + number(20, 2)
        else:
            body += b"".join(number(8, one) for one in value) + number(20, 7)
        out += block(5, body)
    return out


def model(nodes, inputs, outputs, constants=None, external=None):
    """A model's bytes.

    Args:
        nodes: of `node`.
        inputs, outputs: (name, dtype, shape) each.
        constants: name → array.
        external: name → (file, offset) of constants that lie in a file.
    """
    graph = b"".join(block(1, one) for one in nodes) + block(2, "graph")
    for name, array in (constants or {}).items():
        graph += block(5, initializer(name, np.asarray(array), (external or {}).get(name)))
    graph += b"".join(block(11, value_info(*one)) for one in inputs)
    graph += b"".join(block(12, value_info(*one)) for one in outputs)
    return number(1, IR_VERSION) + block(7, graph) + block(8, block(1, "") + number(2, OPSET))
