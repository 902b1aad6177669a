"""What the user may choose of speaking: engine, what the language model sees, how it answers."""

from __future__ import annotations

from typing import Literal

from .settings_field import Table, setting


class EngineSettings(Table):
    """What models run on, and how watching and speaking share it; needs a bundle."""

    provider: Literal["auto", "cpu", "cuda"] = setting(
        "auto",
        "",
        "What the models run on. auto takes the fastest that this device proves by running the "
        "bundle's golden calls; a name takes that one or refuses.",
    )
    threads: int = setting(
        0,
        "threads",
        "CPU threads of each model; 0 takes all usable cores where lane is shared, and 1 where it "
        "is split. 0, because threads that find no free core slow each other down.",
        ge=0,
        le=256,
    )
    lane: Literal["shared", "split"] = setting(
        "shared",
        "",
        "How watching and speaking share the device: shared (one at a time, watching first) or "
        "split (both at once, one thread each). shared, because frames then wait least; on exactly "
        "two cores split was as good.",
    )
    speak_share: float = setting(
        0.25,
        "",
        "Share of the busy time that speaking gets at least; beyond it frames are dropped, not "
        "answers starved. A quarter still answers at a readable speed (a guess, to be measured).",
        ge=0,
        le=0.9,
    )
    chunk_tokens: int = setting(
        16,
        "tokens",
        "How much the language model reads in one go before a frame may pass. 16, because on a CPU "
        "frames then waited 17 ms at most (99 of 100), and 53 ms with 64.",
        ge=1,
        le=1024,
    )


class ContextSettings(Table):
    """What the language model sees when it speaks."""

    kind: Literal["auto", "recent", "recall", "continuous"] = setting(
        "auto",
        "",
        "recent: the last frames and the dialogue. recall: and what memory keeps of the past. "
        "auto: recall for questions about the past, else recent; @recent or @recall before a "
        "question overrides it. continuous: every frame is read as it comes, older ones are "
        "evicted.",
    )
    recent_frames: int = setting(
        4,
        "frames",
        "Frames that the context recent shows. 4, because SimpleStream answered streaming "
        "questions best with its last four.",
        ge=1,
        le=256,
    )
    recent_every_s: float = setting(
        1.0,
        "s",
        "Stream time between two frames of the context recent, at least. 1 s is SimpleStream's "
        "sampling; less shows the same picture several times.",
        ge=0,
        le=3600,
    )
    dialogue_turns: int = setting(
        4,
        "turns",
        "Questions with their answers that are shown again, newest first. 4 covers what a person "
        "refers back to (a guess, to be measured).",
        ge=0,
        le=256,
    )
    cache_slots: int = setting(
        0,
        "slots",
        "Positions that the model's cache holds, for as long as the run lasts; 0 for what the "
        "bundle says, which is what the model was made for.",
        ge=0,
        le=1_048_576,
    )
    sink_slots: int = setting(
        0,
        "slots",
        "The oldest positions after the system text that the context continuous never evicts. 0, "
        "because the system text stays anyway and serves as the sink.",
        ge=0,
        le=1_048_576,
    )
    recent_slots: int = setting(
        0,
        "slots",
        "The newest positions that the context continuous does not evict; 0 for half the cache, "
        "which leaves the other half to what is worth keeping longer.",
        ge=0,
        le=1_048_576,
    )
    block_slots: int = setting(
        0,
        "slots",
        "Positions that one eviction frees at least; 0 for an eighth of the cache. An eviction "
        "moves what is kept, so many small ones cost more than few large ones.",
        ge=0,
        le=1_048_576,
    )
    protected_slots: int = setting(
        0,
        "slots",
        "Positions of frames with an event that the context continuous keeps longer than others; 0 "
        "for an eighth of the cache, so that they cannot crowd out the present.",
        ge=0,
        le=1_048_576,
    )
    read_fps: float = setting(
        0.0,
        "1/s",
        "Frames that the context continuous reads per second, at most source.fps; 0 for what the "
        "bundle says, which is the rate that its model was trained at.",
        ge=0,
        le=120,
    )
    skip_still: bool = setting(
        True,
        "",
        "The context continuous does not read a frame on which nothing has changed. On, because "
        "such a frame says nothing new and would push an older one out.",
    )


class SessionSettings(Table):
    """Talking with the language model."""

    questions_waiting: int = setting(
        64,
        "questions",
        "Questions that may wait for their time; beyond it one is refused, never dropped. 64 is "
        "far more than a person asks, and bounded.",
        ge=1,
        le=100_000,
    )
    question_cuts_event: bool = setting(
        True,
        "",
        "A question ends a sentence about an event that is being spoken. On, because a person who "
        "waits goes before a sentence nobody asked for.",
    )
    adapter: str = setting(
        "",
        "",
        "Adapter of the bundle that answers where a request names no other; empty: the model "
        "without one. `edgestream inspect` lists them.",
        max_length=64,
    )
    describe_prompt: str = setting(
        "",
        "",
        "What the model is asked when an event opens. Empty takes what the bundle says; models "
        "made for streams are shown the frames alone, as they were trained.",
        max_length=1000,
    )
    question_on_branch: Literal["layout", "yes", "no"] = setting(
        "layout",
        "",
        "Whether the context continuous forgets a question and its answer afterwards (yes) or "
        "keeps them in the stream (no). layout does what the model was trained with.",
    )
    partials_every_s: float = setting(
        0.1,
        "s",
        "Time between two partial texts of an answer, at least; 0 tells of every token. Ten a "
        "second read as fluent, and keep a fast model from filling the log.",
        ge=0,
        le=60,
    )
    max_answer_tokens: int = setting(
        0,
        "tokens",
        "Length at which an answer is ended, at most what the bundle says; 0 for just that, which "
        "is what its model was made for.",
        ge=0,
        le=65_536,
    )
    temperature: float = setting(
        0.0,
        "",
        "Chance in the choice of words: 0 takes the likeliest token always. 0, because the same "
        "stream should give the same answers.",
        ge=0,
        le=2,
    )
    top_k: int = setting(
        0,
        "tokens",
        "With a temperature, only the likeliest so many tokens are drawn from; 0 for all, since "
        "top_p alone is the usual choice.",
        ge=0,
        le=1_000_000,
    )
    top_p: float = setting(
        1.0,
        "",
        "With a temperature, only the likeliest tokens that together have this probability are "
        "drawn from; 1 for all, so that a temperature alone does what it says.",
        gt=0,
        le=1,
    )
    repetition_penalty: float = setting(
        1.0,
        "",
        "How much less likely a token gets that this answer already holds; 1 for none, because "
        "a short answer rarely loops and names must be said again.",
        ge=1,
        le=2,
    )
    no_repeat_ngram: int = setting(
        0,
        "tokens",
        "No run of so many tokens comes twice in an answer; 0 for no such rule, because it also "
        "forbids names that must come twice.",
        ge=0,
        le=64,
    )
    seed: int = setting(
        0,
        "",
        "Start of the random numbers that a temperature draws with. One fixed number, so that a "
        "run can be repeated.",
        ge=0,
        le=4_294_967_295,
    )
