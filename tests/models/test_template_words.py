"""Prompts cut out of chat templates: the template's own words, token for token, or the family's."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.edge.cli import main
from edgestream.models.chat_layout import ChatWords, chat_layout
from edgestream.models.chat_template import PictureWords
from edgestream.models.families import llava_onevision, qwen2_5_vl, qwen3_vl, smolvlm, videollama3
from edgestream.models.hub_checkpoint import HubCheckpoint
from edgestream.models.template_words import HubPrompt, hub_prompt
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.errors import CheckpointInvalid
from edgestream.runtime.json_fields import Fields
from edgestream.runtime.prompt_layout import Text

from .. import qwen2_5_vl_checkpoint, qwen3_vl_checkpoint
from ..family_law import check_layout
from ..hub_checkpoints import QWEN2_FILES, chat_tokenizer, qwen2_tokenizer
from . import test_llava_onevision, test_smolvlm

SPECIAL = ("<s>", "<b>", "<|im_start|>", "<|im_end|>", "<|end|>", "<img>", "</img>", "<image>")
TOKENIZER = chat_tokenizer(SPECIAL)
IMAGE = TOKENIZER.token_to_id("<image>")
WORDS = ChatWords(
    user_open="<|im_start|>user\n",
    frame_open="<img>",
    frame_close="</img>",
    user_close="<|im_end|>\n",
    assistant_open="<|im_start|>assistant\n",
    turn_end="<|im_end|>",
)
PICTURES = PictureWords("<image>")
# Of these words; each piece of it is changed below.
TEMPLATE = (
    "{BEGIN}{% for message in messages %}{% if message['role'] == 'user' %}{USER}"
    "{% else %}{ASSISTANT}{% endif %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{IMAGE}{% else %}{TEXT}{{ part['text'] }}{% endif %}"
    "{% endfor %}{END}{% endfor %}{% if add_generation_prompt %}{PROMPT}{% endif %}"
)
PIECES = {
    "BEGIN": "", "USER": "<|im_start|>user\n", "ASSISTANT": "<|im_start|>assistant\n",
    "IMAGE": "<img><image></img>", "TEXT": "", "END": "<|im_end|>\n",
    "PROMPT": "<|im_start|>assistant\n",
}  # fmt: skip


def template(**pieces: str) -> str:
    text = TEMPLATE
    for name, piece in {**PIECES, **pieces}.items():
        text = text.replace("{" + name + "}", piece)
    return text


def prompt_of(
    folder: Path,
    source: str | None,
    words: ChatWords = WORDS,
    pictures: PictureWords = PICTURES,
    tokenizer=TOKENIZER,
    family: str = "mine",
) -> HubPrompt:
    """Of a folder that has this template, and nothing else."""
    if source is not None:
        (folder / "chat_template.jinja").write_text(source)
    hub = HubCheckpoint(folder, Fields({}, "config.json", CheckpointInvalid))
    return hub_prompt(hub, family, tokenizer, words, pictures)


@pytest.mark.parametrize("module", [qwen2_5_vl, qwen3_vl, smolvlm, llava_onevision])
def test_a_published_template_says_what_its_family_says(tmp_path, module):
    source, special = {
        qwen2_5_vl: (qwen2_5_vl_checkpoint.CHAT_TEMPLATE, qwen2_5_vl_checkpoint.SPECIAL),
        qwen3_vl: (qwen3_vl_checkpoint.CHAT_TEMPLATE, qwen3_vl_checkpoint.SPECIAL),
        smolvlm: (test_smolvlm.TEMPLATE, test_smolvlm.SPECIAL),
        llava_onevision: (test_llava_onevision.TEMPLATE, test_llava_onevision.SPECIAL),
    }[module]
    tokenizer = chat_tokenizer(special)
    made = prompt_of(tmp_path, source, module.WORDS, module.PICTURES, tokenizer)
    assert made == HubPrompt(chat_layout(module.WORDS, tokenizer)), made.notes


@pytest.mark.medium
@pytest.mark.parametrize("own", ["a frame behind its time", "a video"])
def test_a_template_of_videos_says_what_its_family_says(tmp_path, own):
    tokenizer = qwen2_tokenizer()
    source = json.loads((QWEN2_FILES / "chat_template.json").read_text())["chat_template"]
    if own == "a video":  # of which transformers' processor makes the frames with their times
        begin = source.index("{% for i in range(content['num_frames']) %}")
        end = source.index("{% endfor %}", begin) + len("{% endfor %}")
        source = source[:begin] + "{{- image_token + '\n' -}}" + source[end:]
    pictures = PictureWords(
        "<image>",
        is_video=True,
        system=videollama3.SYSTEM,
        variables=MappingProxyType({"image_token": "<image>", "add_system_prompt": False}),
    )
    made = prompt_of(tmp_path, source, videollama3.WORDS, pictures, tokenizer)
    assert made == HubPrompt(chat_layout(videollama3.WORDS, tokenizer)), made.notes
    source = source.replace("'_start|>'", "'_end|>'")
    made = prompt_of(tmp_path, source, videollama3.WORDS, pictures, tokenizer)
    assert "differs from the family mine in the system text, how a question" in made.notes[0]


CHANGES: dict[str, tuple[dict[str, str], str]] = {
    "a system text": ({"BEGIN": "<|im_start|>system\nLook.<|im_end|>\n"}, "the system text"),
    "bos": ({"BEGIN": "<b>"}, "the system text"),
    "a role": ({"USER": "<|im_start|>human: "}, "how a question is opened"),
    "a thought": (
        {"PROMPT": "<|im_start|>assistant\n<think>\n"}, "how an answer is opened"),
    "frames": ({"IMAGE": "<img>Picture: <image></img>\n"}, "how a question is opened, what"),
    "what ends a turn": (
        {"END": "<|end|>"}, "how a question ends, how an answer ends"),
    "texts": ({"TEXT": " - "}, "how a question is opened, what stands around frames, how an"),
    "all": (
        {"BEGIN": "<b>Look.", "USER": "[Q]", "ASSISTANT": "[A]", "IMAGE": "<image></img>",
         "TEXT": " ", "END": "<|end|>\n\n", "PROMPT": "[A] "},
        "the system text, how a question is opened, what stands around frames, how a question "
        "ends, how an answer is opened, how an answer ends"),
}  # fmt: skip


def thrice(text: str) -> str:
    """What the processor of a model with three tokens a frame makes of a text."""
    return text.replace("<image>", "<image>" * 3)


@pytest.mark.parametrize(("pieces", "told"), CHANGES.values(), ids=CHANGES)
def test_another_template_wins_and_says_in_what(tmp_path, pieces, told):
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": END}))
    made = prompt_of(tmp_path, template(**pieces))
    (note,) = made.notes
    begin = "the prompt is that of the checkpoint's chat_template.jinja, which differs from the "
    assert note.startswith(f"{begin}family mine in {told}")
    check_layout(made.layout, TOKENIZER, template(**pieces), thrice, IMAGE, tokens_per_frame=3)


END = TOKENIZER.token_to_id("<|end|>")
texts = st.lists(
    st.sampled_from(["<b>", "<|im_start|>", "</img>", "a", "who: ", " ", "\n", "[", "QuestionOn"]),
    max_size=4,
).map("".join)


@pytest.mark.medium
@given(st.fixed_dictionaries({name: texts for name in PIECES}), texts)
def test_any_template_is_taken_over_token_for_token_or_not_at_all(tmp_path_factory, pieces, behind):
    """Whatever the words are, they are written as the template does; or the family's stay."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": END}))
    made_of = {"IMAGE": f"{pieces['IMAGE']}<image>{behind}", "END": "<|end|>" + pieces["END"]}
    source = template(**{**pieces, **made_of})
    made = prompt_of(folder, source)
    if made.notes and made.notes[0].startswith("the prompt is that of the family"):
        assert made.layout == chat_layout(WORDS, TOKENIZER, ["<|end|>"])
        return
    check_layout(made.layout, TOKENIZER, source, str, IMAGE, tokens_per_frame=1)


UNFIT = {
    "it fails: ": "{{ raise_exception('no pictures') }}",
    "it fails: Encountered unknown tag": "{% nothing %}",
    "it fails: access to attribute": "{{ messages.__class__.__mro__ }}",
    "it does not write <image> for each frame": template(IMAGE=""),
    "it does not write each text": template(TEXT="{{ part['text'] }}"),
    "its words stand in no fixed places": template(IMAGE="Picture {{ loop.index }}: <image>\n"),
    "it does not look into the parts": "{% for one in messages %}{{ one['content'] }}{% endfor %}",
    "an answer does not end with": template(END="\n"),
    "what ends a turn depends": template(
        END="<|im_end|>{% if loop.last and not add_generation_prompt %}.{% endif %}"
    ),
}


@pytest.mark.parametrize(("why", "source"), UNFIT.items(), ids=UNFIT)
def test_a_template_that_cannot_be_taken_over_is_one_sentence(tmp_path, why, source):
    made = prompt_of(tmp_path, source)
    (note,) = made.notes
    begin = "the prompt is that of the family mine; the checkpoint's own chat template cannot be "
    assert note.startswith(f"{begin}taken over: {why}"), note
    assert "\n" not in note and made.layout == chat_layout(WORDS, TOKENIZER)


@pytest.mark.parametrize(
    "name", ["chat_template.json", "processor_config.json", "tokenizer_config.json"]
)
def test_older_places_of_a_template_are_read(tmp_path, name):
    source = template(BEGIN="{{ bos_token }}", USER="<|im_start|>human\n")
    told = {"chat_template": source, "bos_token": {"content": "<s>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "<s>"}}))
    (tmp_path / name).write_text(json.dumps(told))
    made = prompt_of(tmp_path, None)
    assert (
        made.layout.token_texts["bos_id"] == ("<s>",)
        and f"the checkpoint's {name}" in made.notes[0]
    )
    if name == "tokenizer_config.json":
        several = [{"name": "tools", "template": "x"}, {"name": "default", "template": source}]
        (tmp_path / name).write_text(json.dumps({**told, "chat_template": several}))
        assert prompt_of(tmp_path, None) == made
    (tmp_path / name).write_text("{")
    assert f"{name} is no JSON" in prompt_of(tmp_path, None).notes[0]


def test_a_template_that_takes_plain_texts_is_given_them(tmp_path):
    source = (
        "{% for message in messages %}<|im_start|>{{ message['role'] + ': ' }}"
        "{% if message['content'] is string %}{{ message['content'] }}{% elif "
        "message['content'][0]['type'] == 'image' %}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{% else %}{{ raise_exception('texts only') }}{% endif %}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
    )
    made = prompt_of(tmp_path, source)
    assert "differs from the family mine" in made.notes[0], made.notes
    assert made.layout.segments["user_close"][0].text == "<|im_end|>"


@pytest.mark.slow
def test_export_says_whose_words_a_bundle_has(tmp_path, capsys):
    folder, _ = test_smolvlm.tiny_folder(tmp_path / "tiny")
    source = test_smolvlm.TEMPLATE.replace("{{ 'Assistant:' }}", "{{ 'Assistant: I see' }}")
    (folder / "chat_template.jinja").write_text(source)
    out, plain = tmp_path / "bundle", ["--vision", "fp32", "--llm", "fp32"]
    assert main(["export", str(folder), "--out", str(out), *plain]) == 0
    note = (
        "the prompt is that of the checkpoint's chat_template.jinja, which differs from the family "
        "smolvlm in how an answer is opened"
    )
    assert f"note: {note}\n" in capsys.readouterr().out
    bundle = open_bundle(out)
    assert json.loads((out / "manifest.json").read_text())["notes"] == [note]
    assert note.replace("'", "&#x27;") in (out / "report.html").read_text()
    assert bundle.manifest.layout().segments["assistant"] == (Text("Assistant: I see"),)
