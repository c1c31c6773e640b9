"""The journal port: the methods of a store, of which the engine in `runtime` makes a backend.

An execution in a store is a *head* (its workflow, status, owner and times), a *journal* (numbered records,
append-only) and an *inbox* (messages that no append has consumed yet). Records and messages are bytes to the
store: it never reads them. One object implements five small ports:

- `Journal`: create, append, read, follow;
- `Inbox`: send, read;
- `Leases`: claim executions, renew, release;
- `Presence`: which workers are alive;
- `Catalogue`: look at heads, find them by filters, tag them, and forget old ones.

Ownership. A worker *claims* an execution and gets a `Claim` with a *fencing token*, greater than every
earlier token of that id (also of an execution that had the id and was forgotten: number the claims of the
whole store). The claim is good until it is released or another claim succeeds, which cannot be before the
lease runs out; a write under an older token is refused whole, so a worker that was paused for longer than its
lease can do no harm (the fencing tokens of Kleppmann, "How to do distributed locking").

An execution can be claimed when it is running and not held, has no owner, and either its wake-up time has
come or its inbox holds a message beyond those consumed; or when its owner's lease has run out (then
`Claim.recovered`). All of this is one number that an adapter can store and index, the time at which it is
*claimable*:

- after `create`: now;
- after a claim or renewal: when the lease runs out;
- after a release: now if the inbox holds unread messages, else `wake_at` but not before now, or in `wake_in`
  seconds, or never;
- after a message to an execution without owner: now, unless it was earlier;
- after a release with `hold`: `wake_at` but not before now, or in `wake_in` seconds, or never; messages do
  not matter;
- after `Leases.resume` of an execution that was released with `hold`: now.

There are two sorts of time. `wake_at` is a date: it comes when the wall clock says so. Everything else is a
duration: leases and `wake_in` last as long as they were meant to, and what is claimable stays so, whatever
steps the wall clock makes. A store measures these by a clock that is never set, if all who open it share one.

Fruitless claims. Code can end the process that runs it, and the next one, and the one after that. So a store
counts how many claims of an execution in a row were lost without progress (`Claim.fruitless`): the claim
itself adds one, so that a worker cannot die before it has counted. The engine decides what counts as progress
and which number stands for the claims that were lost before (`Commit.fruitless`), and when the execution is
held (`Commit.hold`).

All times are seconds since the epoch by the adapter's own clock. Every method raises `StorageError` (or a
subclass) when the store fails, and then a write has either happened whole or not at all. The engine
tries a call again only after an error that is `retryable` (`StorageUnavailable`, for instance); every other
error ends what the caller was doing, so raise one that is `retryable` exactly when the same call may succeed
later without anybody's help.

One store object belongs to one event loop; storage may be open in several objects at once. Concurrent calls
of one object are carried out in any order: a caller that needs an order awaits one call before it makes the
next.

Text is limited, so that every store can hold it. The values below check it when they are made:

- ids, and the names of workflows, task queues and workers: see `check_id`;
- a fingerprint: 1 to `FINGERPRINT_CHARACTERS_MAX` printable ASCII characters;
- the reason of a release, and an overview: valid Unicode without NUL, at most `REASON_BYTES_MAX` or
  `OVERVIEW_BYTES_MAX` bytes in UTF-8;
- what an execution waits for: at most `WAITING_CHARACTERS_MAX` printable ASCII characters;
- tags: see `core.tags`.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from unicodedata import category

from outlast.core.json import whole_characters
from outlast.core.records import Status
from outlast.core.tags import ALL_TAGS_MAX, checked_changes, checked_tags
from outlast.core.waiting import OVERVIEW_BYTES_MAX as OVERVIEW_BYTES_MAX
from outlast.ports.finding import EVERYTHING, Cursor, Where

DEFAULT_TASK_QUEUE = "default"

ID_BYTES_MAX = 1000
"""The longest id, in UTF-8."""
FINGERPRINT_CHARACTERS_MAX = 200
REASON_BYTES_MAX = 16_000
PAUSED = "paused"
"""The `Commit.waiting` of an execution that somebody has paused."""
WAITING_CHARACTERS_MAX = 40


def check_id(id: str) -> None:
    """Raise ValueError unless `id` can be the id of an execution or a message, in every store.

    Any text will do that is not empty, has no control characters, is valid Unicode and not over
    `ID_BYTES_MAX` bytes in UTF-8; ids are equal when their code points are.
    """
    given: Any = id
    if not isinstance(given, str):
        raise ValueError(f"an id is text, not {type(given).__name__}")
    try:
        size_bytes = len(id.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"id {id!r} has half of a surrogate pair; use valid Unicode") from error
    if not 0 < size_bytes <= ID_BYTES_MAX:
        raise ValueError(f"an id has 1 to {ID_BYTES_MAX} bytes in UTF-8, this one {size_bytes}: {id[:40]!r}")
    if any(category(character) == "Cc" for character in id):
        raise ValueError(f"id {id!r} has control characters; use printable ones")


def as_reason(text: str) -> str:
    """Return `text` as a reason that every store takes: without NUL and half characters, and not too long."""
    kept = whole_characters(text).replace("\0", "\N{REPLACEMENT CHARACTER}").encode()
    if len(kept) <= REASON_BYTES_MAX:
        return kept.decode()
    return kept[: REASON_BYTES_MAX - len(_CUT.encode())].decode(errors="ignore") + _CUT


_CUT = " … (cut)"


def _check_reason(reason: str | None) -> None:
    if reason is not None and reason != as_reason(reason):
        raise ValueError("not every store can hold this reason; shorten or clean it with as_reason()")


def _check_overview(overview: str | None, waiting: str | None) -> None:
    if overview is not None and (
        overview != whole_characters(overview)
        or "\0" in overview
        or len(overview.encode()) > OVERVIEW_BYTES_MAX
    ):
        raise ValueError(
            f"an overview is valid Unicode without NUL and has at most {OVERVIEW_BYTES_MAX} bytes in UTF-8; "
            f"this one does not: {overview[:40]!r}"
        )
    is_short = waiting is None or len(waiting) <= WAITING_CHARACTERS_MAX
    if waiting and not (is_short and waiting.isascii() and waiting.isprintable()):
        raise ValueError(
            f"the word for a wait has at most {WAITING_CHARACTERS_MAX} printable ASCII characters; this one "
            f"does not: {waiting[:60]!r}"
        )


def is_id(text: str) -> bool:
    """Return whether `check_id` allows the text as an id."""
    try:
        check_id(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class NewExecution:
    """An execution to be created: ready to be claimed at once, unless `reason` or `ended` is given.

    Raises:
        ValueError: a text holds what no store has to take; see the top of this module.
    """

    id: str
    workflow: str
    fingerprint: str
    """Equal exactly when workflow and input are equal."""
    task_queue: str = DEFAULT_TASK_QUEUE
    keep_seconds: float | None = None
    """The time for which it is kept after its end; None leaves that to the argument of `Catalogue.prune`."""
    reason: str | None = None
    """If given, the execution is created as one that was released with `hold`, for this reason."""
    tags: Mapping[str, str] = field(default_factory=dict)
    overview: str | None = None
    """See `Commit.overview`."""
    waiting: str | None = None
    """See `Commit.waiting`."""
    ended: Status | None = None
    """If given, the execution is created as one that ends at that moment with this status."""

    def __post_init__(self) -> None:
        _check_reason(self.reason)
        if self.ended in (Status.RUNNING, Status.PAUSED):
            raise ValueError(f"{self.ended} is not the status of an execution that has ended")
        if self.ended is not None and (self.reason is not None or self.waiting):
            raise ValueError("an execution that has ended waits for nothing: leave out reason and waiting")
        _check_overview(self.overview, self.waiting)
        if self.tags:
            object.__setattr__(self, "tags", checked_tags(self.tags, most=ALL_TAGS_MAX))
        for text in (self.id, self.workflow, self.task_queue):
            check_id(text)
        mark = self.fingerprint
        if not (0 < len(mark) <= FINGERPRINT_CHARACTERS_MAX and mark.isascii() and mark.isprintable()):
            raise ValueError(
                f"a fingerprint has 1 to {FINGERPRINT_CHARACTERS_MAX} printable ASCII characters; "
                f"this one does not: {mark[:40]!r}"
            )


@dataclass(frozen=True, slots=True)
class Head:
    """The facts that a store knows about an execution without reading its journal."""

    id: str
    workflow: str
    fingerprint: str
    task_queue: str
    status: Status
    length: int
    """The number of records in the journal."""
    created_at: float
    ended_at: float | None = None
    reason: str | None = None
    """The reason why the execution cannot go on at the moment, if its last owner gave one."""
    owner: str | None = None
    """The worker that claimed it last, until its release; the lease may have run out since."""
    fruitless: int = 0
    """The number of its last claims in a row that were lost without progress; see `Claim.fruitless`."""
    held: bool = False
    """True if it waits only for `Leases.resume`: it was released with `hold` and without a wake-up time."""
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    overview: str | None = None
    """The last one that was given; see `Commit.overview`."""
    waiting: str | None = None
    """The word for its wait, if that is known; see `Commit.waiting`."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something for an execution. The sender makes the `id`; it makes sending the message again harmless.

    Raises:
        ValueError: `id` is not what `check_id` allows.
    """

    id: str
    body: bytes

    def __post_init__(self) -> None:
        check_id(self.id)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message in an inbox; `number` grows by one with each, from 1."""

    number: int
    message: Message


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write to an execution, until someone else's claim succeeds."""

    execution_id: str
    workflow: str
    worker: str
    token: int
    length: int
    """The number of records when it was claimed."""
    consumed: int
    """The number of the last message that was consumed."""
    recovered_from: str | None = None
    """The owner from which it was taken, because the lease ran out; None if the last owner released it."""
    fruitless: int = 0
    """The number of claims in a row, before this one, that were lost without progress: their workers neither
    released the execution nor appended anything that the engine counts as progress."""

    @property
    def recovered(self) -> bool:
        """True if it was taken from an owner whose lease ran out; False if its last owner released it."""
        return self.recovered_from is not None


@dataclass(frozen=True, slots=True)
class Commit:
    """Further changes that an append makes in the same atomic write."""

    consumed: int | None = None
    """Messages up to this number are consumed; the number never falls."""
    status: Status | None = None
    """The execution has ended with this status; it is released and takes no more messages."""
    release: bool = False
    """The claim is given up. Then `wake_at` and unread messages decide when it can be claimed again."""
    wake_at: float | None = None
    """With `release`: claimable from this date on, which may have passed. Without it and without `wake_in`,
    only a message makes it claimable."""
    wake_in: float | None = None
    """With `release`: claimable in so many seconds."""
    reason: str | None = None
    """With `release`: why the execution cannot go on; every append replaces the reason, also by None.

    Raises ValueError if it has a NUL character, half a surrogate pair or more than `REASON_BYTES_MAX` bytes:
    `as_reason` makes a reason of any text.
    """
    fruitless: int | None = 0
    """The value of `Claim.fruitless` from now on: 0 after progress; None leaves it unchanged. The engine may
    weigh what was lost: it may be any number up to 10**9."""
    hold: bool = False
    """Only with `release`: no message makes the execution claimable, only its wake-up time, if it has one, or
    `Leases.resume`."""
    seen: int | None = None
    """If given, the append is refused when there is a message with a higher number: the writer has seen those
    up to this one, and what it writes may be wrong after the next."""
    overview: str | None = None
    """The facts that a list shows of the execution: text that only the engine reads. It replaces the
    last one; None leaves that as it is.

    Raises ValueError if it has NUL, half a surrogate pair or more than `OVERVIEW_BYTES_MAX` bytes.
    """
    waiting: str | None = None
    """One word for what the execution waits for, by which it is found (`Where.waiting_for`). It replaces the
    last one; the empty text takes that away, and None leaves it as it is."""
    tags: Mapping[str, str | None] = field(default_factory=dict)
    """Tags to be added or replaced, however many there are already; None removes one."""

    def __post_init__(self) -> None:
        _check_overview(self.overview, self.waiting)
        if self.tags:
            object.__setattr__(self, "tags", checked_changes(self.tags))
        if self.wake_at is not None and self.wake_in is not None:
            raise ValueError("an execution has one wake-up time: give wake_at or wake_in")
        if self.hold and not self.release:
            raise ValueError("only what is released can be held: set release too")
        _check_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Work:
    """The result of `Leases.claim`."""

    claims: tuple[Claim, ...]
    mail: frozenset[str]
    """Executions that this worker owns, these claims included, whose inbox holds unread messages: those with
    a number above the last one that an append consumed."""
    next_wake_at: float | None
    """The earliest time at which a running execution of these workflows and this task queue becomes claimable
    by itself, because its wake-up time comes or its lease runs out (a lease of this worker may count or not);
    None if no time is known. It is in the future unless `limit` kept executions from being claimed."""
    version: int
    """The argument for the next `Leases.wait` of the same store object."""


@dataclass(frozen=True, slots=True)
class WorkerCard:
    """The facts that a worker announces about itself. Raises ValueError when `check_id` refuses a name."""

    identity: str
    """The name under which it claims: the `worker` of its claims, the `owner` in a head."""
    workflows: tuple[str, ...]
    """The names of the workflows that it runs, sorted."""
    task_queue: str
    started_at: float

    def __post_init__(self) -> None:
        for text in (self.identity, self.task_queue, *self.workflows):
            check_id(text)


@dataclass(frozen=True, slots=True)
class PresentWorker:
    """A worker that is alive, as far as the store knows, and what it owns."""

    card: WorkerCard
    executions: tuple[str, ...]
    """The ids of the executions that it owns, sorted."""


ENDLESS = sys.maxsize
"""More records than any journal holds: a reader that follows from there waits for the execution's end."""


class Journal(Protocol):
    """The ordered, append-only records of executions."""

    @abstractmethod
    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        """Create an execution whose journal holds `first` and the records after it; return its head and True.

        J1  If the id exists, nothing changes: its head and False are returned, whatever else `new` holds.
        J2  Two concurrent calls with one id create one execution: exactly one of them gets True.
        J13  With `new.ended`, it is all the same as an execution that was created before, and ended with that
             status at this moment: its head has the end, it is not claimed, takes no messages, is forgotten
             when the time for that has come, and can be opened again by `amend`.

        J3, J5 and J6 hold for these records as well.
        """

    @abstractmethod
    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        """Add `records` after the first `position` records, and apply `commit`.

        J3  Durable: once it returns, every reader sees the records, also after a crash of any process.
        J4  Fenced: raises `LeaseLost`, and changes nothing, unless `claim.token` is the newest one of the
            execution, the claim has not been released, and the journal holds exactly `position` records.
            A lease that ran out is good as long as nobody else has claimed the execution.
        J5  All or nothing: whatever it raises, the records and the commit are written together or not at all.
        J6  No record may be longer than `limit_bytes`: raises `PayloadTooLarge`, and changes nothing.
        J14  With `commit.seen`: raises `MessagesUnseen`, and changes nothing, if a message with a higher
             number was sent. A stale claim raises `LeaseLost` all the same.
        J12  The head has the last overview, and the last word for a wait, that `create` or an append gave.
             What it waits for is gone with its end, and when `amend` or `Leases.resume` makes it claimable;
             the overview and the tags stay.

        When it is cancelled, the write happens or it does not, and the outcome is settled for every reader
        when the call has ended: a store that has sent the write waits for its outcome before it
        raises `CancelledError`. (Else a reader could see the journal without the records, and with them a
        moment later.) The caller drops the claim and reads again. The same holds for `StorageError`, as far
        as the store can know: after a broken connection the write may still arrive, and only fencing makes
        that harmless.
        """

    @abstractmethod
    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        """Add one record without a claim, and set the status; return whether that was done.

        J8  False, and nothing has changed, unless the journal holds exactly `position` records.
        J9  A final status ends the execution, also if it is held. Its claim, if there is one, is released
            without a word to its owner, whose next write is refused.
        J10  The status `running` makes an execution that has ended claimable now: not held, `fruitless` 0,
             no reason, no end. The messages that were sent before its end and that no append has consumed
             are in its inbox, under the same numbers; the ids of messages stay known as far as the store has
             kept them.

        J3, J5 and J6 hold here too. It is announced as an append and a release are.

        Raises:
            ExecutionNotFound: nothing has changed.
            ExecutionAlreadyEnded: the status is final, and the execution has ended already; nothing has
                changed.
        """

    @abstractmethod
    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        """Return the records from number `after` (counted from 0) to the end; none for an unknown id.

        J7  Records never change and never disappear while their execution is kept.
        J11 With a `limit`, which is 1 or more: only the first `limit` of these records, all of them if there
            are no more. The engine reads long journals so, and the store must not read further: other
            executions of the worker wait meanwhile.
        """

    @abstractmethod
    async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
        """Return when the journal holds more than `length` records, or has ended, or it timed out.

        It may also return for no reason. It does not miss an append that happened before the call. The
        timeout is measured by the adapter's clock.
        """

    @property
    @abstractmethod
    def limit_bytes(self) -> int:
        """The longest record or message that this store takes."""


class Inbox(Protocol):
    """Messages to executions, in the order in which they were sent."""

    @abstractmethod
    async def send(self, execution_id: str, message: Message) -> None:
        """Put `message` into the inbox, and announce it to workers.

        I1  Durable once it returns; if one call returned before another was made, their messages are in that
            order.
        I2  Sending an id again changes nothing, consumed or not, whatever the body. Ids are per execution.
        I3  Raises `ExecutionNotFound`, `ExecutionAlreadyEnded` or `PayloadTooLarge`, and changes nothing. To
            send an id again to an execution that has ended since may raise `ExecutionAlreadyEnded` or not.
        """

    @abstractmethod
    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        """Return the messages with a number above `after`, in order; none for an unknown id.

        I4  With a `limit`, which is 1 or more: only the first `limit` of these messages, all of them if there
            are no more.
        I5  Those that an append has consumed are left out.
        """


class Leases(Protocol):
    """The claims of workers to executions."""

    @abstractmethod
    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        """Claim up to `limit` executions of these workflows, those that have waited longest first.

        They have waited since they became claimable. A `limit` of 0 claims nothing, but reports the mail.

        L1  An execution has at most one valid claim: tokens of one execution only grow.
        L2  No claim succeeds before the previous owner's lease ran out, unless that owner released it.
        L3  `recovered_from` names the previous owner exactly when that owner did not release it.
        L6  A claim that is `recovered` adds one to `fruitless`, in the same atomic write; any other claim
            leaves it. Otherwise only an append, by its commit, and `resume` change it.
        L7  An execution that was released with `hold` is not claimed before its wake-up time, and without one
            not at all, whatever messages its inbox holds or gets; the inbox keeps them.
        L9  No step of the wall clock changes when an execution can be claimed, unless it waits for a date
            (`Commit.wake_at`).

        A claim passes over nothing that is claimable just because another call has it locked at that moment:
        a store that skips locked rows (`SKIP LOCKED`) looks again before it returns, or announces the skipped
        executions; otherwise they would wait for a later claim by chance. It reads `Work.version` before it
        looks at the executions; read afterwards, the version would hide changes in between.
        """

    @abstractmethod
    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        """Make the leases last `lease_seconds` from now; return the ids of those that are lost or released.

        L4  Atomic for each claim; a lease that ran out but was claimed by nobody else is renewed. A claim
            that is not valid any more changes nothing.
        """

    @abstractmethod
    async def wait(self, version: int, timeout_seconds: float) -> None:
        """Return when something may have become claimable or some inbox may have mail since `version`.

        L5  It misses nothing that happens after the `claim` that returned `version`, even before this call:
            executions that are created, resumed or released (the wake-up time may be a new `next_wake_at`)
            and messages. It may return for no reason. Claims, leases that run out and wake-up times that come
            are not announced: the caller bounds the wait by `next_wake_at` and a limit of its own.

        An announcement may come late, and is lost only together with the connection that carries it: then
        the wait returns as soon as the store notices the loss, at the latest after `timeout_seconds`.
        """

    @abstractmethod
    async def resume(self, execution_id: str) -> bool:
        """Make an execution that was released with `hold` claimable now; return whether it was.

        L8  Durable once it returns: the execution is not held, its `fruitless` is 0, and its reason is gone.
            An execution that has an owner, or was last released without `hold`, stays unchanged.

        Raises:
            ExecutionNotFound, ExecutionAlreadyEnded: nothing has changed.
        """


class Presence(Protocol):
    """The workers that are alive. It is for people to look at: no claim and no lease depends on it."""

    @abstractmethod
    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        """Say that the worker is alive, and will be for `lease_seconds` from now.

        P1  Once it returns, every store lists the worker until `lease_seconds` have passed since its last
            announcement, and not longer.
        P2  The last announcement under one identity counts, even if its time is shorter.
        """

    @abstractmethod
    async def leave(self, identity: str) -> None:
        """Say that the worker has stopped.

        P3  Once it returns, no store lists the worker until it is announced again. Its claims stay. If the
            worker was never announced, nothing changes.
        """

    @abstractmethod
    async def workers(self) -> Sequence[PresentWorker]:
        """Return the workers that are alive, in the order in which they started.

        P4  A worker's executions are those whose head names the worker as their owner.
        """


class Catalogue(Protocol):
    """Looking at executions from outside."""

    @abstractmethod
    async def head(self, execution_id: str) -> Head | None:
        """Return the head, or None if the execution does not exist."""

    @abstractmethod
    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        """Return heads, the newest first: by `created_at`, and by id where that is equal, both descending.

        K2  There are `limit` of them, or all that are left. With a cursor, only those that come after that
            place, even if the execution that it names is gone; what came or went before the place does not
            matter, and an execution that stays is neither left out nor returned again. Ids are compared by
            code points, and times as heads have them.
        K3  `where` finds exactly the executions for which all of it holds at one moment: `limit` counts only
            these. An execution that is held counts as paused, and not as running. `where.waiting_for` is
            compared with `Head.waiting`, and bounds of time with `Head.created_at`.
        """

    @abstractmethod
    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        """Add or replace tags, and remove those whose value is None; also after the execution's end.

        K4  Durable and whole once it returns; every other tag, of this execution and of others, stays. No
            claim and nothing else of the execution changes.

        Raises:
            ExecutionNotFound: nothing has changed.
            DefinitionError: it would have more than `TAGS_MAX` tags and more than before, or
                `checked_changes` refuses them; nothing has changed.
        """

    @abstractmethod
    async def prune(self, ended_before: float | None = None) -> int:
        """Forget executions that ended long enough ago, with their messages; return their number.

        An execution with `keep_seconds` is forgotten when that time has passed since its end, and not before;
        any other is forgotten if it ended before `ended_before`. The id is then free.

        K1  A running execution is never forgotten.
        """


class Store(Journal, Inbox, Leases, Presence, Catalogue, Protocol):
    """All five ports in one object, which is an async context manager: it opens and closes the store."""

    @abstractmethod
    async def __aenter__(self) -> Store:
        """Open the store; raises `StorageError`, which says what to do, if it cannot be used."""

    @abstractmethod
    async def __aexit__(self, *_: object) -> None:
        """Close it. Appended records stay; claims stay until they are released or run out."""
