"""The inbox's thread: what arrives, handed on to the service's loop.

Looking at files takes as long as a file server likes, so it is done here, and the loop
gets what it comes to. Nothing is shared but the ledger, which this thread only reads.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from tigerflow.errors import InputDirectoryError
from tigerflow.log import logger
from tigerflow.naming import NAMED_AT_MOST, files_word, printable
from tigerflow.service.admission import Admission, Admitted
from tigerflow.service.file_results import Results
from tigerflow.service.inbox import Inbox
from tigerflow.shortage import in_thread


@dataclass(frozen=True)
class Arrivals:
    """Hands arrivals on, from the first scan until the inbox is stopped.

    The calls are made in the thread of `loop`.
    """

    admission: Admission
    results: Results
    loop: asyncio.AbstractEventLoop
    #: Gets a batch; and whether all files that existed at the start are known.
    on_batch: Callable[[Admitted, bool], None]
    #: Gets why the input directory cannot be read; None when it can be again.
    on_trouble: Callable[[InputDirectoryError | None], None]
    #: Gets what nobody expected, and ends the thread.
    on_fault: Callable[[BaseException], None]

    async def hand_on(self, inbox: Inbox) -> None:
        """Return when the inbox has been stopped."""
        await in_thread(self._watch, inbox)

    def see_trouble(self, trouble: InputDirectoryError | None) -> None:
        """Hand on what the inbox says of its directory."""
        self._tell(self.on_trouble, trouble)

    def _watch(self, inbox: Inbox) -> None:
        try:
            self._hand_on(inbox)
        except Exception as error:  # noqa: BLE001 -- without it, the service would wait forever
            self._tell(self.on_fault, error)

    def _hand_on(self, inbox: Inbox) -> None:
        is_first, are_all_known = True, False
        while (batch := inbox.batch(wait=are_all_known)) is not None:
            if is_first:
                # The directory can be read, and nothing is processed yet: no error that
                # is removed here is one of this run.
                _report_gone(self.results.forget_gone())
                is_first = False
            if not batch:
                are_all_known = True
                self.admission.end_start()
                if sentence := self.results.unmatched():
                    logger.warning("{}", sentence)
            self._tell(self.on_batch, self.admission.admit(batch), are_all_known)

    def _tell(self, function: Callable[..., object], *values: object) -> None:
        # The loop may be over already.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *values)


def _report_gone(names: list[str]) -> None:
    """Report failed files that are forgotten because the user removed them."""
    if names:
        some = ", ".join(map(printable, names[:NAMED_AT_MOST]))
        more = ", …" if len(names) > NAMED_AT_MOST else ""
        logger.warning(
            "Forgot {} failed {} whose {} gone: {}{}",
            len(names),
            files_word(len(names)),
            "input is" if len(names) == 1 else "inputs are",
            some,
            more,
        )
