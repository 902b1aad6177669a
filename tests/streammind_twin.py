"""StreamMind from its equations: one frame after another in plain PyTorch, by the released names.

It shares no code with the models under test, reads the checkpoint's tensors itself, and keeps
nothing but what the equations name. Slow, and meant to be. Also here: a checkpoint for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel, MistralConfig, MistralForCausalLM

from .small_tokenizer import TEXT, trained_tokenizer

# Words of the prompt, so that they are not cut into single letters everywhere.
WORDS = "[INST] <<SYS>>\nA chat\n<</SYS>>\n\n\n What? [/INST] A box is there. </s>[INST] \n [/INST]"
SIDE_PX, LAYERS, GATE_LAYERS = 32, 3, 2
WIDTH, DIM, STATE, TAPS = 64, 48, 16, 4
INNER, RANK = 2 * WIDTH, WIDTH // 16
TOWER, PROJECTOR = "model.vision_tower.vision_tower.vision_model.", "model.mm_projector."
GATE = PROJECTOR + "cls_net.cls_model."


def streammind_tokenizer() -> Tokenizer:
    return trained_tokenizer(TEXT + 20 * WORDS)


def tower_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=DIM, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=4,
        image_size=SIDE_PX, patch_size=8, projection_dim=32,
    )  # fmt: skip


def mistral_config(vocabulary: int, layers: int, **more: Any) -> MistralConfig:
    return MistralConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=160, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
        sliding_window=None, **more,
    )  # fmt: skip


def save_streammind(folder: Path, *, classes: int = 2, has_gate: bool = True) -> Path:
    """A checkpoint as StreamMind's training writes it, with random weights."""
    tokenizer = streammind_tokenizer()
    vocabulary = tokenizer.get_vocab_size() + 5
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0}}
    with torch.random.fork_rng():
        torch.manual_seed(6)
        llm = MistralForCausalLM(mistral_config(vocabulary, LAYERS, rms_norm_eps=1e-5, **rope))
        shallow = MistralForCausalLM(mistral_config(classes, GATE_LAYERS))
        tower = CLIPVisionModel(tower_config())
        tensors = {TOWER + name: part for name, part in tower.named_parameters()}
        tensors |= dict(llm.named_parameters())
        if has_gate:
            tensors |= {GATE + name: part for name, part in shallow.named_parameters()}
        for part in tensors.values():
            # Wider than an initialisation, so that words vary and the gate has an opinion.
            part.data.mul_(3.0 if part.ndim == 2 else 1.0)
        tensors |= _projector()
        table = tensors["model.embed_tokens.weight"].data
        table.mul_(3).copy_(table.half().float())
    folder.mkdir(parents=True)
    save_file({name: part.detach().contiguous() for name, part in tensors.items()},
              folder / "model.safetensors")  # fmt: skip
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(_config(vocabulary)))
    return folder


def _config(vocabulary: int) -> dict[str, Any]:
    """Keys as the original's; `vision_config` is ours, since no published tower is this small."""
    return {
        "architectures": ["Videollama2MistralForCausalLM"], "model_type": "videollama2_mistral",
        "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": WIDTH, "image_aspect_ratio": "pad", "initializer_range": 0.02,
        "intermediate_size": 160, "max_position_embeddings": 2048, "mm_hidden_size": DIM,
        "mm_projector_type": "mamba", "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2, "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "num_attention_heads": 4, "num_frames": 8, "num_hidden_layers": LAYERS,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 1_000_000.0,
        "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "vision_config": {**tower_config().to_diff_dict(), "model_type": "clip_vision_model"},
        "vocab_size": vocabulary,
    }  # fmt: skip


def _projector() -> dict[str, torch.nn.Parameter]:
    shapes = {
        "pre_net.fc3.weight": (WIDTH, DIM), "pre_net.fc3.bias": (WIDTH,),
        "mamba_model.ssms.0.norm.weight": (WIDTH,), "mamba_model.ssms.0.norm.bias": (WIDTH,),
        "mamba_model.ssms.0.mixer.in_proj.weight": (2 * INNER, WIDTH),
        "mamba_model.ssms.0.mixer.conv1d.weight": (INNER, 1, TAPS),
        "mamba_model.ssms.0.mixer.conv1d.bias": (INNER,),
        "mamba_model.ssms.0.mixer.x_proj.weight": (RANK + 2 * STATE, INNER),
        "mamba_model.ssms.0.mixer.dt_proj.weight": (INNER, RANK),
        "mamba_model.ssms.0.mixer.dt_proj.bias": (INNER,),
        "mamba_model.ssms.0.mixer.A_log": (INNER, STATE),
        "mamba_model.ssms.0.mixer.D": (INNER,),
        "mamba_model.ssms.0.mixer.out_proj.weight": (WIDTH, INNER),
        "mamba_model.norm_fn.weight": (WIDTH,), "mamba_model.norm_fn.bias": (WIDTH,),
        "post_net.fc3.weight": (WIDTH, WIDTH), "post_net.fc3.bias": (WIDTH,),
    }  # fmt: skip
    made = {}
    for name, shape in shapes.items():
        part = torch.randn(shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.3)
        if "norm" in name and name.endswith("weight"):
            part += 1
        made[PROJECTOR + name] = torch.nn.Parameter(part)
    rates = torch.arange(1.0, STATE + 1).log().repeat(INNER, 1)
    made[PROJECTOR + "mamba_model.ssms.0.mixer.A_log"].data.mul_(0.1).add_(rates)
    return made


class StreamMindTwin:
    """The model of a checkpoint folder.

    Attributes:
        llm: the language model, of transformers.
    """

    def __init__(self, folder: Path) -> None:
        self._tensors = load_file(folder / "model.safetensors")
        vocabulary = len(self._tensors["model.embed_tokens.weight"])
        rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0}}
        config = mistral_config(vocabulary, LAYERS, rms_norm_eps=1e-5, **rope)
        self.llm = self._loaded(MistralForCausalLM(config), "")
        self._tower = self._loaded(CLIPVisionModel(tower_config()), TOWER)
        # Library defaults: norms of 1e-6, theta of 10 000.
        self._gate = self._loaded(MistralForCausalLM(mistral_config(2, GATE_LAYERS)), GATE)

    @torch.inference_mode()
    def patch_mean(self, pixels: Tensor) -> Tensor:
        """(dim,) of one frame, (3, side, side)."""
        seen = self._tower(pixel_values=pixels[None], output_hidden_states=True)
        patches: Tensor = seen.hidden_states[-2][0, 1:]
        return patches.sum(0) / len(patches)

    @torch.inference_mode()
    def tokens(self, means: Sequence[Tensor]) -> list[Tensor]:
        """The perception token of each frame, (width,), one frame after another."""
        seen: list[Tensor] = []
        state = torch.zeros(INNER, STATE)
        told = []
        for mean in means:
            h = _leaky(self._linear("pre_net.fc3", mean))
            z = self._normed("mamba_model.ssms.0.norm", h)
            both = self._mixer("in_proj") @ z
            seen.append(both[:INNER])
            gate = both[INNER:]
            u, read, state = self._stepped(seen, state)
            y = read + self._mixer("D", "") * u
            h = h + self._mixer("out_proj") @ (y * gate / (1 + torch.exp(-gate)))
            normed = self._normed("mamba_model.norm_fn", h)
            told.append(self._linear("post_net.fc3", _leaky(normed)))
        return told

    @torch.inference_mode()
    def response(self, token: Tensor) -> float:
        """The gate's probability of a response to one token, by the whole of its layers."""
        logits = self._gate(inputs_embeds=token[None, None]).logits[0, -1]
        spread = logits.exp() / logits.exp().sum()
        return float(spread[1])

    def _stepped(self, seen: list[Tensor], state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The convolution's output, what is read of the state, and the new state."""
        taps, mixed = self._mixer("conv1d"), self._mixer("conv1d", ".bias").clone()
        for back in range(min(TAPS, len(seen))):
            mixed = mixed + taps[:, 0, TAPS - 1 - back] * seen[-1 - back]
        u = mixed / (1 + torch.exp(-mixed))
        chosen = self._mixer("x_proj") @ u
        low, written, told = chosen[:RANK], chosen[RANK : RANK + STATE], chosen[RANK + STATE :]
        step = self._mixer("dt_proj") @ low + self._mixer("dt_proj", ".bias")
        dt = torch.logaddexp(step, torch.zeros_like(step))
        rates = -torch.exp(self._mixer("A_log", ""))
        new = torch.empty_like(state)
        for channel in range(INNER):
            kept = torch.exp(dt[channel] * rates[channel])
            new[channel] = kept * state[channel] + dt[channel] * u[channel] * written
        return u, new @ told, new

    def _mixer(self, name: str, ending: str = ".weight") -> Tensor:
        return self._tensors[f"{PROJECTOR}mamba_model.ssms.0.mixer.{name}{ending}"]

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight = self._tensors[f"{PROJECTOR}{name}.weight"]
        return weight @ x + self._tensors[f"{PROJECTOR}{name}.bias"]

    def _normed(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean()
        scaled = centred / torch.sqrt((centred**2).mean() + 1e-5)
        weight = self._tensors[f"{PROJECTOR}{name}.weight"]
        return scaled * weight + self._tensors[f"{PROJECTOR}{name}.bias"]

    def _loaded(self, model: Any, prefix: str) -> Any:
        names = [name for name, _ in model.named_parameters()]
        state = {name: self._tensors[prefix + name] for name in names}
        model.load_state_dict(state, strict=True)
        return model.eval().requires_grad_(False)


def _leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.01 * x)
