"""The tokenizer of the reference assistant: one token a word, made from a list of words.

A word carries the space before it (`▁red`), also at the beginning of a text; punctuation stands
without one, a number is written digit by digit. Whatever is made of the words it was given comes
back from its tokens letter by letter; any other word is `<unk>`.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

BOS, STOP, SILENT, UNKNOWN = "<s>", "</s>", "<silent>", "<unk>"
FRAME, MEMORY, USER, ASSISTANT = "<frame>", "<memory>", "<user>", "<assistant>"
SPECIAL = (BOS, STOP, SILENT, UNKNOWN, FRAME, MEMORY, USER, ASSISTANT)

SPACE = "▁"
PIECE = rf"{SPACE}?[^\W\d_]+|{SPACE}?\d|{SPACE}?[^\w\s{SPACE}]|{SPACE}|_"


def word_tokenizer(words: Iterable[str]) -> Tokenizer:
    """A tokenizer of these words, of all digits, and of the tokens that structure a prompt.

    Args:
        words: words and punctuation marks; phrases are taken apart. Their order does not matter.
    """
    cut = _cut()
    pieces = {piece for digit in "0123456789" for piece in (digit, SPACE + digit)}
    for word in words:
        for piece, _ in cut.pre_tokenize_str(word):
            pieces.add(piece)
            if not any(letter.isalpha() for letter in piece):
                # A mark may stand behind a word, or with a space before it.
                pieces |= {piece.removeprefix(SPACE), SPACE + piece.removeprefix(SPACE)} - {""}
    vocabulary = {text: number for number, text in enumerate((*SPECIAL, *sorted(pieces)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    return tokenizer


def is_lossless(tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text comes back from its tokens as it was."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    back: str = tokenizer.decode(ids, skip_special_tokens=False)
    return back == text


def _cut() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=True),
            pre_tokenizers.Split(Regex(PIECE), "isolated"),
        ]
    )
