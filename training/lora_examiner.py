"""Figures of an adapted model on dialogues that it was not trained on.

Teacher-forced, as VideoLLM-online scores: LM-PPL, LG-Match (correctness), TimeDiff, Fluency; and
freely: what it says at its own moments, against the moments of the dialogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ..evaluation.dialogue_scores import (
    TriggerScore,
    TurnLogs,
    mean_scores,
    score_triggers,
    score_turns,
)
from .dialogues import ASSISTANT
from .live_loss import SILENT, LiveLoss, label_counts
from .live_rows import Atom, LiveRow, RowWriter, Seen
from .lora_data import LiveStream, Piece, pieces_of, sentences_of
from .lora_model import LoraModel
from .lora_stage import RowBatch, live_terms, logits_of, row_batch
from .lora_watching import Watcher

ROWS_AT_ONCE = 4
TOLERANCE_S = 1.0
"""Between a moment of the dialogue and one at which the model speaks."""


@dataclass(frozen=True, slots=True)
class Examiner:
    """Scores a model.

    Attributes:
        streams: that it was not trained on.
        writer: of the layout.
        loss: as in training.
        watcher: watches them freely.
        fps: frames a second, for TimeDiff.
        silent_ids: tokens that say nothing.
    """

    streams: tuple[LiveStream, ...]
    writer: RowWriter
    loss: LiveLoss
    watcher: Watcher
    fps: float
    silent_ids: tuple[int, ...]

    @property
    def model(self) -> LoraModel:
        return self.watcher.model

    @torch.no_grad()
    def loss_of_all(self) -> float:
        """The loss on all streams; the lower the better. By it the best checkpoint is chosen."""
        self.model.eval()
        pieces = pieces_of(self.streams, self.watcher.most_tokens)
        batches = [self._batch(pieces[at : at + ROWS_AT_ONCE], self.streams)
                   for at in range(0, len(pieces), ROWS_AT_ONCE)]  # fmt: skip
        counts = torch.stack([label_counts(batch.kinds) for batch in batches]).sum(0)
        terms = [live_terms(self.model, batch, self.loss, counts) for batch in batches]
        return float(sum(float(one.stream + one.words) for one in terms))

    def figures(self) -> Mapping[str, float]:
        """All figures: `loss`, VideoLLM-online's four, and the triggers of a free run."""
        scores = [
            score_turns(logs, fps=self.fps)
            for logs in (self._logs(stream) for stream in self.streams)
            if logs
        ]
        mean = mean_scores(scores)
        told = {"lm_ppl": mean.ppl, "correctness": mean.correctness,
                "time_diff_s": mean.time_diff_s, "fluency": mean.fluency}  # fmt: skip
        known = {name: value for name, value in told.items() if value is not None}
        return {"loss": self.loss_of_all(), **known, **self._triggers()}

    def _triggers(self) -> dict[str, float]:
        """Precision, recall and F1 of the moments at which it speaks, over all streams as one."""
        total = TriggerScore()
        for stream in self.streams:
            spoken = [time_s for time_s, ids in self.watcher.spoken(stream) if ids]
            true = [time_s for time_s, _ in sentences_of(stream)]
            total += score_triggers(spoken, true, TOLERANCE_S)
        return {"precision": total.precision, "recall": total.recall, "f1": total.f1}

    @torch.no_grad()
    def _logs(self, stream: LiveStream) -> list[TurnLogs]:
        """Of each text of the assistant, with the frames since the one before."""
        self.model.eval()
        logs: list[TurnLogs] = []
        pieces = pieces_of([stream], self.watcher.most_tokens)
        for piece in pieces:
            batch = self._batch([piece], [stream])
            turns = list(_turns(batch, logits_of(self.model, batch), self.silent_ids))
            spoken = _spoken(stream.atoms, piece)
            for log, at in zip(turns, spoken, strict=False):
                if log is not None:
                    logs.append(self._with_later(log, stream, piece, at))
        if logs:
            logs[-1] = replace(logs[-1], is_last=True)
        return logs

    def _with_later(self, log: TurnLogs, stream: LiveStream, piece: Piece, at: int) -> TurnLogs:
        """The same with the frames that follow, where the model did not speak in time."""
        following = _following(stream.atoms, at, max(0, len(log.silence) - 1))
        if not len(log.silence) or not log.silent_wins.all() or not following:
            return log
        atoms = (*stream.atoms[:at], *(Seen(frame, SILENT) for frame in following))
        longer = replace(stream, atoms=atoms, costs=tuple(self.writer.costs(atoms)))
        batch = self._batch([Piece(0, piece.begin, at, len(atoms))], [longer])
        silence, wins = _silence(logits_of(self.model, batch), self.silent_ids)
        return replace(log, later_silence=silence, later_silent_wins=wins)

    def _batch(self, pieces: Sequence[Piece], streams: Sequence[LiveStream]) -> RowBatch:
        return row_batch(pieces, streams, self.writer, self.model.device)


def _spoken(atoms: Sequence[Atom], piece: Piece) -> list[int]:
    """Of each text of the assistant that a piece learns, the number of its atom."""
    return [
        at
        for at in range(piece.learned, piece.end)
        if not isinstance(atom := atoms[at], Seen) and atom.role == ASSISTANT and atom.learn
    ]


def _following(atoms: Sequence[Atom], at: int, most: int) -> list[int]:
    """Frames of the next stretch after an atom, at most so many."""
    found: list[int] = []
    for atom in atoms[at + 1 :]:
        if not isinstance(atom, Seen) or len(found) >= most:
            break
        found.append(atom.frame)
    return found


def _turns(
    batch: RowBatch, logits: torch.Tensor, silent_ids: Sequence[int]
) -> Iterator[TurnLogs | None]:
    """Logs of each learned text of the one row of a batch; None of an answer without frames.

    Frames before a question belong to the next text that nobody asked for.
    """
    row: LiveRow = batch.rows[0]
    index = {int(at): number for number, at in enumerate(_labelled(row))}
    losses = cross_entropy(logits.float(), batch.labels, reduction="none").cpu().numpy()
    right = (logits.argmax(-1) == batch.labels).cpu().numpy()
    silence, wins = _silence(logits, silent_ids)
    decisions = [index[at] for _, at in row.decisions]
    done = 0
    for kind, tokens in row.answers:
        words = [index[at] for at in tokens]
        if len(tokens) == 1 and int(batch.labels[words[0]]) in silent_ids:
            continue  # a question that nobody answers
        stretch: list[int] = []
        if kind == "describe":
            stretch = [at for at in decisions[done:] if at < words[0]]
            done += len(stretch)
        yield TurnLogs(
            token_losses=losses[words], token_right=right[words],
            silence=silence[stretch], silent_wins=wins[stretch],
            later_silence=silence[:0], later_silent_wins=wins[:0], is_last=False,
        )  # fmt: skip


def _labelled(row: LiveRow) -> np.ndarray:
    found: np.ndarray = np.flatnonzero(np.asarray(row.labels) >= 0)
    return found


def _silence(logits: torch.Tensor, silent_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """P(silent) and whether silence is the best, of each label."""
    ids = torch.tensor(list(silent_ids), device=logits.device)
    chance = torch.softmax(logits.float(), -1)[:, ids].sum(-1)
    return chance.cpu().numpy(), torch.isin(logits.argmax(-1), ids).cpu().numpy()
