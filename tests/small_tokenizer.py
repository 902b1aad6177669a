"""A byte-level tokenizer for tests, trained on a few lines in the words of a stream; no PyTorch."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SYSTEM = "You watch a camera, and speak when something happens."
# How Llama 3 cuts a text before merging: punctuation keeps the line feed after it, so that "]\n"
# can be one token. (GPT-2's pattern would split it.)
CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXT = """\n[,,,,]\nUser: What do you see?\nAssistant: A red circle moves to the left of the door.
\n[,,]\nAssistant: The person in the blue coat opens the door, looks around and walks away.
\n[,]\nUser: What happened before?\nAssistant: The green square was on the table, then it fell down.
\n[,,,]\nUser: How many people are there now?\nAssistant: Two people stand beside a yellow car.
\n[]\nAssistant: A dog runs through the garden while somebody carries a box out of the house.
\n[,,,,,]\nUser: Tell me when the light goes out.\nAssistant: I will tell you. The light is on.
\n[,]\nAssistant: The light went out. It is dark, nothing can be seen in front of the window.
"""


def trained_tokenizer(text: str, most_tokens: int = 700) -> Tokenizer:
    """A byte-level BPE tokenizer, trained on this text, in which "]\\n" is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CUT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=most_tokens,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # "]\n" often enough to be merged whatever else the text says.
    tokenizer.train_from_iterator([text, "x]\n" * 50], trainer)
    return tokenizer
