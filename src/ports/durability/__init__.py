"""The durability port: what a backend offers, from outside and to workflow code.

Every backend keeps the promises D1 to D26; `testing.contracts.durability` tests them:

D1   `start` with an id that exists returns the same execution when workflow and input are equal, else raises
     `ExecutionAlreadyExists`; two concurrent starts create one execution.
D2   A result, once returned, is the same for every later caller, in any process, after any restart.
D3   An activity whose result is journaled never runs again for that execution.
D4   An activity that may have run is run again with the same idempotency key and a higher attempt number.
D5   Attempts, back-off and timeouts follow the activity's options, also across a crash.
D6   A worker that lost its lease cannot write: its append is refused, its execution goes on elsewhere, once.
D7   A worker is killed: another resumes its executions within the lease time.
D8   Timers survive restarts and never fire early.
D9   Signals are applied once each, in the order sent by one sender, also when sent before a worker starts.
D10  Cancellation raises `CancelledError` in the workflow at its current await; clean-up code may await
     activities, and the execution ends as cancelled.
D11  Workflow code that no longer matches its journal raises `NonDeterminismError`; the execution is kept,
     not failed, and goes on once the code is right again.
D12  What cannot be serialised, or is over the backend's limit, is a clear error at the call.
D13  The event stream of an execution is complete and ordered, and can be read from any position.
D14  A secret given to a session or tool source is in no stored byte.
D15  A worker that is asked to stop finishes or hands over; nothing is lost, nothing runs twice.
D16  N workers share the executions; adding one raises throughput, losing one loses nothing.
D17  A tool call that needs a person's approval waits for it as long as it takes, across crashes; it is made
     only as it was shown, at most once, and never after it was denied.
D18  An update is accepted and answered once: its caller gets what the handler returns or raises, and so does
     whoever sends the same id again, in any process, after any crash. A rejected one changes nothing.
D19  An execution whose code misbehaves harms itself alone: what the code raises is a failure of its own, and
     if it ends one worker after the other, it is held until somebody resumes it. The others go on.
D20  No attempt begins after the lease under which it was written has run out; a step of the wall clock
     neither takes a lease away nor stretches a timeout.
D21  What fails says where: kind, message, cause and the user's own frames, without values, are in the
     journal, in `describe()`, and once in the log.
D22  `retry` re-opens an execution that failed, was cancelled or terminated, under the same id and with
     today's code, from where it ended: no completed step runs again, a failed step is tried anew.
D23  `fork` starts a new execution whose journal begins with a prefix of another one: nothing in it runs
     again, what follows has idempotency keys of its own, and the original is untouched.
D24  A paused execution begins no step and takes no input; what is under way may end and is kept. Timers that
     come due meanwhile fire when it is resumed, and messages wait. Queries are answered.
D25  An export holds all that is needed: imported on any backend it replays to the same state, and can be
     forked there; an import never runs by itself.
D26  An execution is found by its tags, its workflow, its status, its id and its time: page after page, each
     one that stays comes exactly once. Tags from code change together with what the code asks for then.
"""
