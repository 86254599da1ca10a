"""What happened to an operation, in the past tense; log lines and metrics are receivers.

The sender is always ``IdempotencyRecord``. Receivers run through ``send_robust``: one that raises is logged by
Django and changes no outcome. ``claimed`` is sent inside the transaction, which a database error of a receiver would
break: one that asks the records' database does so in ``atomic()``. None of the arguments shows a key, a payload or a
body in its ``repr``.
"""

from __future__ import annotations

from django.dispatch import Signal

#: (operation, attempt, using): the claim was won; sent inside the transaction, before the view.
claimed = Signal()
#: (operation, attempt, snapshot, using): record and effects are committed together.
completed = Signal()
#: (operation, using): rolled back and not stored; a retry runs again.
released = Signal()
#: (operation, snapshot, using, waited): a stored answer is given to a retry, after ``waited`` seconds of polling.
replayed = Signal()
#: (operation, error, using, waited): refused by the engine; ``error`` is an IdempotencyError.
rejected = Signal()
#: (count, using): records were deleted, by a purge, in the admin or for erasure.
purged = Signal()
