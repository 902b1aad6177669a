"""Write the decoder of a checkpoint as GGUF files for llama.cpp: F32, then Q4_0 and Q8_0 of it.

    LLAMA_PYTHON benchmarks/llama_gguf.py CHECKPOINT FOLDER

LLAMA_PYTHON is the interpreter of an environment of its own, made with (a quarter of an hour):

    python -m venv llama-env
    CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF" \\
        llama-env/bin/pip install llama-cpp-python==0.3.36 gguf==0.19.0

llama.cpp turns neighbouring numbers of a head where `transformers` turns its two halves, so the
rows of q and k are put in that order. Its own quantizer makes the quantized files, "pure": the
table of tokens and the head in the same form as all else, as in our int4.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import gguf  # type: ignore[import-not-found]
import llama_cpp  # type: ignore[import-not-found]
import numpy as np

FORMS = {"Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0}
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    """Every float32 tensor of the checkpoint, mapped, not read."""
    file = folder / "model.safetensors"
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    return {
        name: np.memmap(
            file, np.float32, "r", 8 + length + facts["data_offsets"][0], tuple(facts["shape"])
        )
        for name, facts in header.items()
        if name != "__metadata__" and facts["dtype"] == "F32"
    }


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k with the two halves of each head dealt in turn."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


def write_f32(checkpoint: Path, target: Path) -> None:
    """The decoder as it is; the words are numbered, since nobody reads them."""
    config = json.loads((checkpoint / "config.json").read_text())["text_config"]
    writer = gguf.GGUFWriter(str(target), "llama")
    _facts(writer, config)
    tensors = tensors_of(checkpoint)
    writer.add_tensor("token_embd.weight", np.asarray(tensors["model.embed_tokens.weight"]))
    writer.add_tensor("output_norm.weight", np.asarray(tensors["model.norm.weight"]))
    if not config["tie_word_embeddings"]:
        writer.add_tensor("output.weight", np.asarray(tensors["lm_head.weight"]))
    for layer in range(config["num_hidden_layers"]):
        for theirs, ours in NAMES.items():
            weight = np.asarray(tensors[f"model.layers.{layer}.{theirs}.weight"])
            if ours == "attn_q":
                weight = interleaved(weight, config["num_attention_heads"])
            if ours == "attn_k":
                weight = interleaved(weight, config["num_key_value_heads"])
            writer.add_tensor(f"blk.{layer}.{ours}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _facts(writer: Any, config: dict[str, Any]) -> None:
    head_dim = config["head_dim"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{index}>" for index in range(config["vocab_size"])])
    writer.add_token_scores([0.0] * config["vocab_size"])
    kinds = [gguf.TokenType.NORMAL] * config["vocab_size"]
    kinds[:3] = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    writer.add_token_types(kinds)


def quantize(source: Path, target: Path, form: int) -> None:
    """The same model in another form, made by llama.cpp's own quantizer.

    Raises:
        RuntimeError: it refused.
    """
    choice = llama_cpp.llama_model_quantize_default_params()
    choice.nthread, choice.ftype, choice.pure = 1, form, True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), choice):
        raise RuntimeError(f"llama.cpp could not quantize {source.name}")


def main() -> None:
    """Write what is missing."""
    checkpoint, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    full = folder / "F32.gguf"
    if not full.exists():
        write_f32(checkpoint, full.with_suffix(".part"))
        full.with_suffix(".part").rename(full)
    for name, form in FORMS.items():
        target = folder / f"{name}.gguf"
        if not target.exists():
            quantize(full, target.with_suffix(".part"), form)
            target.with_suffix(".part").rename(target)


if __name__ == "__main__":
    main()
