"""A program of numpy and onnxruntime alone that asks an unpacked bundle a question."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..runtime.bundle import Bundle
from ..runtime.prompt import PromptParts, Shown, prompt_pieces, runs
from .hub_graphs import POSITIONS, decoder_graph, vision_is_whole

QUESTION = "What happened?"

_PROGRAM = """import numpy as np
import onnxruntime as ort


def opened(name):
    return ort.InferenceSession(f"onnx/{{name}}.onnx", providers=["CPUExecutionProvider"])


# {question!r} as tokenizer.json and prompt.json write it{told}.
PROMPT = {prompt}
STOP, MOST = {stop}, {most}
embed_tokens, decoder = opened("embed_tokens"), opened("decoder_model_merged")


def rows(ids):
    return embed_tokens.run(None, {{"input_ids": np.array([ids], np.int64)}})[0]


{seen}{places}types = {{"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(int8)": "i1"}}
cache = {{
    one.name: np.zeros((1, one.shape[1], {room}, one.shape[3]), types[one.type])
    for one in decoder.get_inputs()
    if one.name.startswith("past_key_values.")
}}
present = [name.replace("past_key_values", "present") for name in cache]
embeds = np.concatenate([{part}], axis=1)
said, length = [], 0
while len(said) < MOST:
    count = embeds.shape[1]
    inputs = {{
        "inputs_embeds": embeds,
        "attention_mask": np.ones((1, length + count), np.int64),
{given}        **cache,
    }}
    logits, *kept = decoder.run(["logits", *present], inputs)
    cache, length = dict(zip(cache, kept)), length + count
    token = int(logits[0, -1].argmax())
    if token in STOP:
        break
    said.append(token)
    embeds = rows([token])
{after}print(said)
"""
_SEEN = """# A grey frame; a real one is made as preprocessor_config.json says.
pixels = np.zeros((1, 3, {height}, {width}), np.float32)
seen = opened("vision_encoder").run(["image_features"], {{"pixel_values": pixels}})[0]
"""
_PLACES = """# Places on each axis: time, row and column in a frame, the same on all in text.
places, at = [], 0
for part in PROMPT:
    if part is None:
        row, column = np.divmod(np.arange({rows} * {columns}), {columns})
        places.append(np.stack([0 * row, row, column]) + at)
        at += max({rows}, {columns})
    else:
        places.append(np.tile(np.arange(len(part)) + at, ({axes}, 1)))
        at += len(part)
places = np.concatenate(places, axis=1)[:, None]
"""
_NEXT_PLACE = "    places, at = np.full(({axes}, 1, 1), at), at + 1\n"
_BY_AXIS = '        "position_ids": places,\n'
_ONE_PLACE = '        "position_ids": np.arange(length, length + count)[None],\n'


def hub_program(bundle: Bundle) -> str:
    """The program; it prints the ids of a greedy answer to `QUESTION`.

    It is about one frame where `vision_encoder.onnx` makes of a picture what the decoder reads, and
    about none else.
    """
    manifest = bundle.manifest
    layout, (height, width) = manifest.layout(), manifest.input.size_px
    sees = (manifest.input.channels or 3) == 3 and vision_is_whole(bundle)
    places, given, after = _positions(bundle)
    return _PROGRAM.format(
        question=QUESTION,
        told=", None for a frame" if sees else "",
        prompt=_prompt(bundle, sees),
        stop=set(layout.stop_ids),
        most=layout.max_answer_tokens,
        seen=_SEEN.format(height=height, width=width) if sees else "",
        places=places,
        part="seen if part is None else rows(part) for part in PROMPT" if sees else
             "rows(part) for part in PROMPT",
        given=given,
        after=after,
        room=_room(bundle),
    )  # fmt: skip


def _prompt(bundle: Bundle, sees: bool) -> list[list[int] | None]:
    """Ids, and None for a frame."""
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_file(str(bundle.path("tokenizer.json")))
    frame = np.zeros((bundle.manifest.tokens_per_frame, 1), np.float32)
    parts = PromptParts(QUESTION, [(0.0, frame)] if sees else [], time_s=0.0)
    found: list[list[int] | None] = []
    for run in runs(
        prompt_pieces(bundle.manifest.layout(), parts),
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
    ):
        if isinstance(run, Shown):
            found.append(None)
        elif found and (last := found[-1]) is not None:
            last.extend(run)
        else:
            found.append(list(run))
    return found


def _room(bundle: Bundle) -> int:
    """Slots that the cache has from the beginning; a cache of another type cannot grow."""
    cache, kv_dtype = bundle.manifest.cache, bundle.variant("decoder").kv_dtype
    return 0 if cache is None or kv_dtype in (None, "float32") else cache.capacity


def _positions(bundle: Bundle) -> tuple[str, str, str]:
    """How the program makes positions, hands them over, and goes on after a token."""
    for value in decoder_graph(bundle).input:
        if value.name != POSITIONS:
            continue
        shape = value.type.tensor_type.shape.dim
        if len(shape) == 2:
            return "", _ONE_PLACE, ""
        facts = bundle.manifest.positions
        assert facts is not None
        rows, columns = facts.frame_grid or (1, bundle.manifest.tokens_per_frame)
        places = _PLACES.format(rows=rows, columns=columns, axes=facts.axes)
        return places, _BY_AXIS, _NEXT_PLACE.format(axes=facts.axes)
    return "", "", ""
