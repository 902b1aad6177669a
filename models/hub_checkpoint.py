"""A checkpoint folder of the Hugging Face Hub: what its files say, and its model in float32."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ..runtime.errors import CheckpointInvalid, VocabularyMismatch
from ..runtime.json_fields import Fields
from ..runtime.manifest_values import Source
from .checkpoint import TOKENIZER, checkpoint_sha256, config_fields, read_json
from .decoder_weights import FileWeights
from .hub_tokenizer import hub_tokenizer
from .large_model import (
    decoder_in_files,
    decoder_names,
    is_of_layers,
    is_too_large,
    put_decoder_on_meta_,
    without_layers,
)
from .transformers_parts import REFUSALS, one_line
from .weights import check_index, stored_tensors, weight_files

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# A snapshot in the Hub's cache: models--owner--name/snapshots/<commit>.
_CACHED = re.compile(r"models--(?P<owner>.+?)--(?P<name>.+)")
_FRONT_MATTER = re.compile(r"\A---\n(?P<lines>.*?)\n---\n", re.DOTALL)
_LICENCE = re.compile(r"^license:[ \t]*[\"']?(?P<licence>[\w.+-]+)", re.MULTILINE)


# As PIL counts them, and so `resample` of a processor.
_FILTERS = MappingProxyType({1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "area"})
# PEFT's, which transformers reads where it lies beside a model.
ADAPTER = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class HubCheckpoint:
    """A folder as `save_pretrained` writes it, or a snapshot of the Hub; nothing is loaded yet.

    Attributes:
        folder: where it is.
        config: its config.json.
    """

    folder: Path
    config: Fields

    @classmethod
    def opened(cls, folder: Path, architectures: tuple[str, ...]) -> HubCheckpoint:
        """The checkpoint, if it holds a whole model of one of these architectures.

        Raises:
            CheckpointMissing: no config.json, or a file of the weights is not there.
            CheckpointInvalid: another architecture, quantized weights, or a damaged file.
        """
        config = config_fields(folder)
        named = config.texts("architectures") if "architectures" in config else ()
        if named and not set(named) & set(architectures):
            raise CheckpointInvalid(
                f"{folder / 'config.json'} has the architecture {', '.join(named)}, expected "
                f"{' or '.join(architectures)}",
                hint="take the checkpoint of the whole model, with its language model head",
            )
        if "quantization_config" in config:
            method = config.mapping("quantization_config").get("quant_method", "some method")
            raise CheckpointInvalid(
                f"{folder / 'config.json'} says that the weights are quantized ({method})",
                hint="take the checkpoint before it was quantized; export quantizes it itself",
            )
        if (folder / ADAPTER).is_file():
            raise CheckpointInvalid(
                f"{folder} holds an adapter beside the checkpoint ({ADAPTER}), which "
                "transformers would merge without a word",
                hint="move it into a folder of its own, and give that as --adapter",
            )
        check_index(folder, stored_tensors(weight_files(folder)))
        return cls(folder, config)

    def check_text(self, *kinds: str) -> None:
        """Refuse a language model of another type than these.

        Raises:
            CheckpointInvalid: names the type.
        """
        text = self.config.object("text_config", lambda below: below)
        if "model_type" in text:
            text.text("model_type", one_of=kinds)

    def file(self, name: str) -> Fields | None:
        """Another JSON file of the folder; None where it is not there.

        Raises:
            CheckpointInvalid: it is no JSON object.
        """
        file = self.folder / name
        return Fields(read_json(file), name, CheckpointInvalid) if file.is_file() else None

    def tokenizer(self, rows: int) -> Tokenizer:
        """The tokenizer; the table may have unused rows at its end, as many do.

        Args:
            rows: of the embedding table.

        Raises:
            CheckpointMissing, CheckpointInvalid: as `hub_tokenizer`.
            VocabularyMismatch: a token has no row.
        """
        tokenizer = hub_tokenizer(self.folder)
        ids = tokenizer.get_vocab(with_added_tokens=True)
        text, last = max(ids.items(), key=lambda item: item[1], default=("", -1))
        if last >= rows:
            raise VocabularyMismatch(
                f"{self.folder / TOKENIZER} has the token {text!r} with the id {last}, but the "
                f"embedding table has {rows} rows",
                hint="take the tokenizer that the model was trained with",
            )
        return tokenizer

    def stop_texts(self, tokenizer: Tokenizer) -> tuple[str, ...]:
        """Texts of the tokens that generation_config.json, or config.json, ends an answer with."""
        generation = self.file("generation_config.json")
        text = self.config.maybe("text_config", lambda below: below)
        told = (one for one in (generation, self.config, text) if one and "eos_token_id" in one)
        # A null there says nothing: it does not hide what the next file says.
        ids_told = (one.anything("eos_token_id") for one in told)
        found: Any = next((ids for ids in ids_told if ids is not None), ())
        ids = found if isinstance(found, tuple | list) else [found]
        texts = [tokenizer.id_to_token(token) for token in ids if isinstance(token, int)]
        return tuple(dict.fromkeys(text for text in texts if text))

    def colours(
        self, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std per colour on the scale [0, 1], as the model's own processor takes them.

        Args:
            mean, std: where no file says.

        Raises:
            CheckpointInvalid: colours are not brought to a mean and std at all.
        """
        fields = self._image_processor()
        if fields is None:
            return mean, std
        if "do_normalize" in fields and not fields.flag("do_normalize"):
            raise CheckpointInvalid(
                f"{fields.place} has do_normalize false, expected colours with a mean and a std",
                hint="write true, with image_mean [0, 0, 0] and image_std [1, 1, 1]: the same",
            )
        return (
            fields.numbers("image_mean") if "image_mean" in fields else mean,
            fields.numbers("image_std") if "image_std" in fields else std,
        )

    def filter(self, usual: str) -> str:
        """What the model's own processor makes a picture smaller with, as `FrameInput` has it.

        Args:
            usual: where no file says, or it says something that a bundle does not have.
        """
        fields = self._image_processor()
        named = fields.anything("resample") if fields and "resample" in fields else None
        return _FILTERS.get(named, usual) if isinstance(named, int) else usual

    def _image_processor(self) -> Fields | None:
        fields = self.file("preprocessor_config.json")
        if fields is None and (whole := self.file("processor_config.json")) is not None:
            fields = whole.maybe("image_processor", lambda below: below)  # as transformers 5 writes
        return fields

    def model(
        self, config_class: type[PreTrainedConfig], model_class: type[PreTrainedModel],
        check: Callable[[Any], object] = lambda config: None,
    ) -> Any:  # fmt: skip
        """The whole model, float32, in eval mode, its weights all there and none left over.

        A decoder that is too large for the memory stays in its files (`stored_decoder`), and its
        parameters are on the device `meta`.
        `check` raises for a choice that does not fit the config, before weights are read.

        Raises:
            CheckpointInvalid: config.json makes no model, or names the first tensor that is
                missing, left over or of another shape.

        Cost: the float32 weights in memory, and one tensor more; a second or two per gigabyte.
        """
        stored = stored_tensors(weight_files(self.folder))
        is_large = is_too_large(stored)
        try:
            config = config_class.from_dict(self._described())
            check(config)
            with _silent():
                loaded: Any = model_class.from_pretrained(
                    str(self.folder),
                    config=without_layers(config) if is_large else config,
                    dtype="float32",
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                    use_safetensors=True,
                    local_files_only=True,
                )
        except (*REFUSALS, OSError, ImportError) as error:
            raise CheckpointInvalid(
                f"{self.folder / 'config.json'} makes no {model_class.__name__}: {one_line(error)}",
                hint="check that the folder is a whole checkpoint of the Hub",
            ) from error
        model, found = loaded
        if is_large:
            names = decoder_names(stored)
            left_over = {one for one in found["unexpected_keys"] if not is_of_layers(one, names)}
            found = {**found, "unexpected_keys": left_over}
            put_decoder_on_meta_(model, config)
        self._check_loaded(found)
        return model.eval().requires_grad_(False)

    def stored_decoder(self, decoder: nn.Module) -> FileWeights | None:
        """The weights of a decoder that stayed in its files; None of one that is in memory.

        Raises:
            BundleError: the decoder has a part that cannot be exported.
            CheckpointInvalid: a tensor is missing or has another shape.
        """
        return decoder_in_files(decoder, stored_tensors(weight_files(self.folder)))

    def source(self, family: str) -> Source:
        """What the manifest says of it: id and commit where they are known, licence, hash.

        Cost: reads every file once, about a second per gigabyte.
        """
        name, revision = self.folder.resolve().name, None
        folder = self.folder.absolute()
        cached = _CACHED.fullmatch(folder.parent.parent.name)
        if cached and folder.parent.name == "snapshots":
            name, revision = f"{cached['owner']}/{cached['name']}", folder.name
        return Source(
            checkpoint=name,
            sha256=checkpoint_sha256(self.folder),
            licence=self._licence(),
            family=family,
            revision=revision,
        )

    def _licence(self) -> str:
        """What the front matter of README.md says, in the Hub's words."""
        file = self.folder / "README.md"
        text = file.read_text("utf-8", errors="replace") if file.is_file() else ""
        front = _FRONT_MATTER.match(text.replace("\r\n", "\n"))
        found = _LICENCE.search(front["lines"]) if front else None
        return found["licence"] if found else "unknown"

    def _described(self) -> dict[str, Any]:
        """config.json without what names code."""
        described = dict(read_json(self.folder / "config.json"))
        described.pop("auto_map", None)
        return described

    def _check_loaded(self, found: Mapping[str, Any]) -> None:
        faults = {"missing from": "missing_keys", "no part of the model of config.json in":
                  "unexpected_keys"}  # fmt: skip
        for what, key in faults.items():
            if names := sorted(found[key]):
                raise CheckpointInvalid(
                    f"the tensor {names[0]} is {what} the weights of {self.folder.name} "
                    f"(and {len(names) - 1} more)",
                    hint="check that config.json belongs to these weights, and that all are there",
                )
        for name, got, expected in sorted(found["mismatched_keys"]):
            raise CheckpointInvalid(
                f"the tensor {name} has the shape {list(got)}, expected {list(expected)}",
                hint="check that config.json belongs to these weights",
            )


@contextmanager
def _silent() -> Iterator[None]:
    """transformers reports on its loading; what matters is raised here."""
    told: Any = logging
    level, shows_bar = told.get_verbosity(), told.is_progress_bar_enabled()
    told.set_verbosity(told.CRITICAL)
    told.disable_progress_bar()
    try:
        yield
    finally:
        told.set_verbosity(level)
        if shows_bar:
            told.enable_progress_bar()
