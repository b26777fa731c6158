r"""Writes texts whose gradients match gold's: ADMM between embeddings and readable words.

X are continuous input embeddings, one for each word of each text; Z are words of a lexicon of
whole dictionary words (and gold's own), with the mean embedding of their tokens. With U the dual
over ρ, n texts and p the causal language model behind the words chosen before,

    X-step   minimise  loss(X) + ρ/2n ‖X − Z + U‖²         by Adam;
    Z-step   minimise  ρ/2n ‖X − Z + U‖² − μ/n log p(Z)    word by word, among the k nearest
             words that MeCab still cuts as a word there;
    U-step   U += X − Z.

ρ and Adam's rate are in units in which the embeddings have root mean square 1. Of every text that
iterate is kept with which the mean gradient of all comes nearest to gold's, if it is readable.

Source: Nguyen et al. (2025), arXiv 2502.17607, algorithm 1. Different here: words in place of
tokens; the language model reads the words that this step has chosen and not the last one's, and
is weighed against the distance, where the paper takes the likeliest of the k nearest whatever it
does to the gradient; texts are kept one by one; the loss takes the head's gradients along its
training.

An encoder measures how far texts are from gold's gradients, as something to differentiate. For the
texts of a label, with their mean gradient s_c and gold's goal g_c at checkpoint c,

    loss = mean_c (1 − cos(s_c, g_c)),    s_c = mean_i (softmax(W_c hᵢ) − onehot(y)) ⊗ hᵢ.

The gradient of the head is a formula in h, so that one pass backwards gives the loss's derivative
by the encoder's input embeddings; no second derivative is taken. The language model says how likely
texts are, and their next words. This module imports torch.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from japagen.gradmm.target import Floats, GradientTarget
from japagen.japanese.morphology import Morpheme, Tagger
from japagen.llm.backends.huggingface import Checkpoint
from japagen.training.encoder import Encoder, pool, supports_bf16

_BATCH = 4  # texts of alike length that a model reads at a time


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Places in batches of texts of alike length, so that little is padded."""
    order = np.argsort(lengths, kind="stable").tolist()
    return [order[at : at + size] for at in range(0, len(order), size)]


def load_models(encoder: Encoder, checkpoint: Checkpoint, text_type: str) -> tuple[Encoder, Reader]:
    """A copy of the encoder that is trained later and a reader, on a GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = copy.deepcopy(encoder.model)
    half = device == "cuda" or supports_bf16()
    reader = checkpoint.load().to(device, torch.bfloat16 if half else torch.float32)
    prefix = f"{text_type}\n"
    return replace(encoder, model=model.to(device)), Reader(reader, checkpoint.tokenizer, prefix)


class Matcher:
    """The matching loss of texts under one encoder.

    Args:
        encoder: Makes vectors of unit length; its weights get no gradients any more.
        target: Gold's gradients, from this encoder.
        max_length: Longest input in tokens.
    """

    def __init__(self, encoder: Encoder, target: GradientTarget, max_length: int = 128) -> None:
        self.tokenizer: Any = encoder.tokenizer
        self._encoder = encoder
        self._max_length = min(max_length, encoder.max_length)
        encoder.model.requires_grad_(False)
        # Input embeddings, shape (vocabulary, width).
        self.table: torch.Tensor = encoder.model.get_input_embeddings().weight  # type: ignore[assignment]
        self._scale = target.scaling.scale
        parts = (target.scaling.centre, target.heads, target.goals)
        self._centre, self._heads, self._goals = (
            torch.tensor(part, dtype=torch.float32, device=self.table.device) for part in parts
        )

    def word_embeddings(self, surfaces: Sequence[str]) -> torch.Tensor:
        """Mean input embedding of each word's tokens, shape (n, width)."""
        rows = self.tokenizer(list(surfaces), add_special_tokens=False)["input_ids"]
        blank = self.tokenizer.get_vocab().get("▁")  # SentencePiece puts it before a text
        kept = [[token for token in row if token != blank] or row for row in rows]
        return torch.stack([self.table[row].mean(dim=0) for row in kept])

    def embed(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Input embeddings of texts (n, length, width), and 1 for tokens and 0 for padding."""
        read = [self._encoder.prefix + text for text in texts]
        batch = self.tokenizer(read, truncation=True, max_length=self._max_length, padding=True)
        ids, mask = _tensors(batch, self.table.device)
        return self.table[ids], mask

    def vectors(self, embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Unit-length vectors of texts, shape (n, width)."""
        model, lengths = self._encoder.model, mask.sum(dim=1).tolist()
        found: list[Any] = [None] * len(lengths)
        for places in by_length(lengths, _BATCH):
            longest = max(lengths[place] for place in places)
            read, own = embeddings[places, :longest], mask[places, :longest]
            states = model(inputs_embeds=read, attention_mask=own).last_hidden_state
            for place, vector in zip(places, pool(states, own, self._encoder.pooling), strict=True):
                found[place] = vector
        return nn.functional.normalize(torch.stack(found), dim=1)

    def gradients(self, vectors: torch.Tensor, label: int) -> torch.Tensor:
        """Each text's gradient at every checkpoint, shape (n, checkpoints, labels, width + 1)."""
        scaled = (vectors - self._centre) / self._scale
        features = torch.cat([scaled, scaled.new_ones(len(scaled), 1)], dim=1)
        logits = torch.einsum("nd,ckd->nck", features, self._heads)
        hot = nn.functional.one_hot(torch.tensor(label, device=logits.device), logits.shape[-1])
        left = torch.softmax(logits, dim=-1) - hot
        return left[..., None] * features[:, None, None, :]

    def distance(self, mean: torch.Tensor, label: int) -> torch.Tensor:
        """1 − cos of a mean gradient, shape (checkpoints, labels, width + 1), with gold's."""
        goal = self._goals[:, label].flatten(-2)
        return 1 - nn.functional.cosine_similarity(mean.flatten(-2), goal, dim=-1).mean()

    @torch.no_grad()
    def text_gradients(self, texts: Sequence[str], label: int) -> torch.Tensor:
        """Gradients of texts of one label as `gradients` gives them, without a graph."""
        return self.gradients(self.vectors(*self.embed(texts)), label)


class Reader:
    """A causal model of transformers that reads texts behind a common beginning.

    Args:
        model: In evaluation mode.
        tokenizer: Its tokenizer.
        context: What stands before every text, such as what the texts are, with a line's end;
            the attribute holds its tokens.
    """

    def __init__(self, model: Any, tokenizer: Any, context: str) -> None:
        self.model = model
        self.device: torch.device = model.device
        self.tokenizer = tokenizer
        self.context: list[int] = tokenizer(context)["input_ids"]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text by itself."""
        return [list(row) for row in self.tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def padded(
        self, rows: Sequence[Sequence[int]], side: Literal["left", "right"]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens as rows of one length, and 1 for tokens and 0 for padding."""
        read = {"input_ids": [list(row) for row in rows]}
        pad = self.tokenizer.pad
        return _tensors(pad(read, padding_side=side, return_attention_mask=True), self.device)

    def log_likelihoods(self, texts: Sequence[str], given: int = 0) -> Floats:
        """Log-probability of each text's tokens behind its first ``given``, shape (n,)."""
        rows = [self.context + row for row in self.tokens(texts)]
        start, found = len(self.context) + given, np.zeros(len(rows))
        for places in by_length([len(row) for row in rows], _BATCH):
            ids, mask = self.padded([rows[place] for place in places], "right")
            with torch.inference_mode():
                logits = self.model(ids, attention_mask=mask, use_cache=False).logits
                log_p = torch.log_softmax(logits[:, :-1].float(), dim=-1)
                own = log_p.gather(2, ids[:, 1:, None])[..., 0].where(mask[:, 1:] > 0, 0)
            found[places] = own[:, start - 1 :].sum(dim=1).cpu().numpy()
        return found

    def perplexities(self, texts: Sequence[str]) -> Floats:
        """exp(− log-probability / tokens) of each text, shape (n,)."""
        counts = np.array([max(len(row), 1) for row in self.tokens(texts)])
        return np.asarray(np.exp(-self.log_likelihoods(texts) / counts))


class Writing:
    """Texts that grow by a word at a time, a batch of them read together.

    Words are of one or more tokens; shorter ones are padded on the left and masked.

    Args:
        reader: Whose model reads.
        number: Texts.
    """

    def __init__(self, reader: Reader, number: int) -> None:
        self._reader = reader
        self._cache: Any = None
        self._mask = torch.zeros((number, 0), dtype=torch.long, device=reader.device)
        self.add([reader.context] * number, range(number))

    @torch.inference_mode()
    def add(self, tokens: Sequence[Sequence[int]], rows: Sequence[int]) -> None:
        """Adds tokens to texts, at least one to each.

        ``logits`` are then those of the token behind them, shape (rows, vocabulary).

        Args:
            tokens: For each text.
            rows: The texts that go on, at least one; the others are read no more.
        """
        if len(rows) < len(self._mask):
            self._cache.batch_select_indices(torch.tensor(rows, device=self._mask.device))
            self._mask = self._mask[rows]
        ids, new = self._reader.padded([tokens[row] for row in rows], "left")
        self._mask = torch.cat([self._mask, new], dim=1)
        places = (self._mask.cumsum(dim=1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        out = self._reader.model(
            ids,
            attention_mask=self._mask,
            position_ids=places,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = out.past_key_values
        self.logits: torch.Tensor = out.logits[:, -1].float()


def _tensors(batch: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """A padded batch's tokens, and 1 for tokens and 0 for padding."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


_JAPANESE = re.compile(r"[ぁ-ゖァ-ヺー一-鿿々]+")
_MOST_WORDS = 100  # time grows with the longest text
_ITERATIONS = 4  # of all three steps
_STEPS = 4  # of Adam in an X-step
_RATE = 0.3  # Adam's
_RHO = 1e-4
_NEAREST = 30  # k
_READABILITY = 0.01  # μ


class Lexicon:
    """Words that texts may be made of: dictionary words, and unknown words that gold has.

    Args:
        texts: Their dictionary words are in the lexicon, beside whole words that are one token of
            either model.
        matcher: Has the words' embeddings.
        reader: Has their tokens.
        tagger: Cuts texts.
    """

    def __init__(
        self, texts: Iterable[str], matcher: Matcher, reader: Reader, tagger: Tagger
    ) -> None:
        self._matcher, self._reader, self._tagger = matcher, reader, tagger
        self._allowed: set[str] = set()
        self._at: dict[str, int] = {}
        self.surfaces: list[str] = []
        self.tokens: list[list[int]] = []
        device = matcher.table.device
        self.table = matcher.table[:0]
        self.first = torch.zeros(0, dtype=torch.long, device=device)
        self.rest = torch.zeros(0, device=device)
        self.unit = 1.0
        known = [w.surface for t in texts for w in tagger.tokenize(t) if self._allows(w)]
        pieces = {piece.removeprefix("▁") for piece in matcher.tokenizer.get_vocab()}
        whole = sorted(p for p in pieces if _JAPANESE.fullmatch(p) and self.fits("", p))
        single = [p for p, row in zip(whole, reader.tokens(whole), strict=True) if len(row) == 1]
        self._add([*known, *single])
        self.unit = float(self.table.pow(2).mean().sqrt())
        self.table = self.table / self.unit

    def with_gold(self, gold: Iterable[str]) -> Lexicon:
        """A lexicon with the words of gold, the unknown ones too; this one does not change."""
        words = [word for text in gold for word in self._tagger.tokenize(text)]
        found = copy.copy(self)
        found._allowed = {word.surface for word in words if word.is_unknown}
        found._at, found.surfaces, found.tokens = dict(self._at), [*self.surfaces], [*self.tokens]
        found._add([word.surface for word in words])
        return found

    def _add(self, words: Iterable[str]) -> None:
        new = [word for word in dict.fromkeys(words) if word not in self._at]
        if not new:
            return
        self._at |= {word: len(self.surfaces) + at for at, word in enumerate(new)}
        self.surfaces += new
        tokens = self._reader.tokens(new)
        self.tokens += tokens
        first = self.first.new_tensor([row[0] for row in tokens])
        # What a word's first token leaves open depends little on what stands before it.
        rest = self.rest.new_zeros(len(new))
        longer = [at for at, row in enumerate(tokens) if len(row) > 1]
        if longer:
            found = self._reader.log_likelihoods([new[at] for at in longer], given=1)
            rest[longer] = rest.new_tensor(found)
        self.table = torch.cat([self.table, self._matcher.word_embeddings(new) / self.unit])
        self.first, self.rest = torch.cat([self.first, first]), torch.cat([self.rest, rest])

    def _allows(self, word: Morpheme) -> bool:
        return not word.is_unknown or word.surface in self._allowed

    def fits(self, before: str, surface: str) -> bool:
        """Whether MeCab cuts a word as one allowed morpheme behind ``before``."""
        cut = self._tagger.tokenize(before + surface)
        return bool(cut) and cut[-1].surface == surface and self._allows(cut[-1])

    def places(self, text: str) -> list[int]:
        """The words of a text that are in the lexicon, by their place in it."""
        found = [self._at.get(word.surface) for word in self._tagger.tokenize(text)]
        return [at for at in found if at is not None][:_MOST_WORDS]

    def nearest(self, points: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The nearest words of each point and their squared distances, each (n, number)."""
        found = torch.cdist(points, self.table).topk(
            min(number, len(self.surfaces)), dim=1, largest=False
        )
        return found.indices, found.values.pow(2)


@dataclass(frozen=True)
class Group:
    """Texts of one label that are matched to one target, at least one.

    Attributes:
        texts: What they are before.
        label: Its index.
        matcher: The loss.
        lexicon: What they are made of.
    """

    texts: Sequence[str]
    label: int
    matcher: Matcher
    lexicon: Lexicon


def synthesise(
    groups: Sequence[Group], reader: Reader, perplexity: float = 1.5
) -> list[tuple[list[str], Floats]]:
    """Writes as many texts of each group as are given to start from.

    Args:
        groups: At least one; the language model writes the texts of all together.
        reader: The causal language model.
        perplexity: Most that a text's perplexity may be, over that of the text given.

    Returns:
        Of each group's texts the iterate, the start included, with which the loss is least, and
        its perplexity over that of the start; deterministic. What is new consists of whole words.
    """
    states = [_State(group, reader) for group in groups]
    for _ in range(_ITERATIONS):
        for state in states:
            state.move()
        _project(states, reader)
        for state in states:
            state.keep(reader, perplexity)
    return [(state.kept, state.growth) for state in states]


def _project(states: Sequence[_State], reader: Reader) -> None:
    """The Z-step and the U-step."""
    for state in states:
        state.begin()
    writing = Writing(reader, sum(len(state.made) for state in states))
    for place in range(max(state.longest for state in states)):
        tokens: list[list[int]] = []
        going: list[bool] = []
        for state in states:
            written, more = state.write(place, writing.logits[len(tokens) :])
            tokens += written
            going += more
        rows = [row for row, more in enumerate(going) if more]
        if rows:
            writing.add(tokens, rows)
    for state in states:
        state.end()


class _State:
    """X, Z and U of a group: a row for each word, text after text.

    Attributes:
        made: The texts of Z.
        longest: Most words of one of them.
        kept: Of each text the best iterate so far.
        growth: Its perplexity over that of the start.
    """

    def __init__(self, group: Group, reader: Reader) -> None:
        self._label, self._matcher = group.label, group.matcher
        self._lexicon = lexicon = group.lexicon
        self.kept, self.growth = list(group.texts), np.ones(len(group.texts))
        self._natural = reader.perplexities(self.kept)
        self._gradients = self._matcher.text_gradients(self.kept, self._label)
        self.made = list(self.kept)
        words = [lexicon.places(text) or [0] for text in self.kept]
        device, size = lexicon.table.device, len(words)
        lengths = torch.tensor([len(row) for row in words], device=device)
        self._lengths, self.longest = lengths.tolist(), int(lengths.max())
        self._text = torch.arange(size, device=device).repeat_interleave(lengths)
        self._place = torch.cat([torch.arange(len(row), device=device) for row in words])
        flat = [word for row in words for word in row]
        self._z = lexicon.table[torch.tensor(flat, device=device)]
        self._x, self._dual = self._z, torch.zeros_like(self._z)
        self._points = self._x
        # What stands around a text: the prefix and special tokens before it, one token behind.
        around = self._matcher.embed([""])[0][0]
        self._begin = len(around) - 1
        ends = self._begin + lengths
        places = torch.arange(int(ends.max()) + 1, device=device)
        self._mask = (places <= ends[:, None]).long()
        self._frame = around.new_zeros(size, len(places), around.shape[1])
        self._frame[:, : self._begin] = around[:-1]
        self._frame[torch.arange(size, device=device), ends] = around[-1]

    def move(self) -> None:
        """The X-step."""
        goal = self._z - self._dual
        x = self._x.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=_RATE)
        for _ in range(_STEPS):
            inputs = self._frame.clone()
            inputs[self._text, self._begin + self._place] = x * self._lexicon.unit
            vectors = self._matcher.vectors(inputs, self._mask)
            mean = self._matcher.gradients(vectors, self._label).mean(dim=0)
            apart = (x - goal).pow(2).sum() / len(inputs)
            loss = self._matcher.distance(mean, self._label) + _RHO / 2 * apart
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        self._x = x.detach()

    def begin(self) -> None:
        """Begins the Z-step."""
        self._points, self._z = self._x + self._dual, torch.zeros_like(self._x)
        self.made = [""] * len(self._frame)

    def write(self, place: int, logits: torch.Tensor) -> tuple[list[list[int]], list[bool]]:
        """Chooses the words of a place.

        Args:
            place: Which word of every text.
            logits: First those of the tokens behind each text that is so long, in order, shape
                (texts or more, vocabulary).

        Returns:
            Of each such text the word's tokens, and whether it goes on.
        """
        here = self._place == place
        texts, lexicon = self._text[here].tolist(), self._lexicon
        if not texts:
            return [], []
        near, distance = lexicon.nearest(self._points[here], _NEAREST)
        likely = logits[: len(texts)].gather(1, lexicon.first[near]) + lexicon.rest[near]
        order = (_READABILITY * likely - _RHO / 2 * distance).argsort(dim=1, descending=True)
        chosen = []
        for text, words in zip(texts, near.gather(1, order).tolist(), strict=True):
            fitting = (w for w in words if lexicon.fits(self.made[text], lexicon.surfaces[w]))
            chosen.append(next(fitting, words[0]))
            self.made[text] += lexicon.surfaces[chosen[-1]]
        self._z[here] = lexicon.table[torch.tensor(chosen, device=logits.device)]
        going = [self._lengths[text] > place + 1 for text in texts]
        return [lexicon.tokens[word] for word in chosen], going

    def end(self) -> None:
        """The U-step."""
        self._dual = self._points - self._z

    def keep(self, reader: Reader, perplexity: float) -> None:
        """Keeps of the texts of Z which bring the loss down and are as readable as asked for."""
        ratios = reader.perplexities(self.made) / self._natural
        new = self._matcher.text_gradients(self.made, self._label)
        total, size = self._gradients.sum(dim=0), len(self.made)
        least = self._matcher.distance(total / size, self._label)
        for row in np.flatnonzero(ratios <= perplexity).tolist():
            changed = total - self._gradients[row] + new[row]
            found = self._matcher.distance(changed / size, self._label)
            if found < least:
                total, least, self._gradients[row] = changed, found, new[row]
                self.kept[row], self.growth[row] = self.made[row], ratios[row]
