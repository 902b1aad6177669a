"""Posting to one address: one connection, kept open between posts, each bounded in time."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress

from .addresses import Target
from .answers import Answer

READ_MOST_BYTES = 65_536
"""Of an answer's body, which says nothing to us; a longer one costs the connection."""


class Unreached(Exception):
    """A post came to no answer; its text is the reason, without address or secret.

    Args:
        reason: a sentence without its end.
        may_be_stale: the receiver may just have closed a connection that was kept open.
    """

    def __init__(self, reason: str, *, may_be_stale: bool = False) -> None:
        super().__init__(reason)
        self.may_be_stale = may_be_stale


class Poster:
    """One connection to one target. One thread posts; any thread may abort.

    State: the connection; whether it was aborted for good.

    Args:
        target: where to.
        timeout_s: for all of a post, seconds; looking the name up is the system's affair.
        context: of TLS; None for http.
    """

    def __init__(self, target: Target, timeout_s: float, context: ssl.SSLContext | None) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._context = context
        self._connection: http.client.HTTPConnection | None = None
        self._is_aborted = False

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post once; a connection that the receiver had closed meanwhile is made anew.

        Raises:
            Unreached: there was no answer in time.
        """
        was_open = self._connection is not None
        try:
            return self._posted(body, headers)
        except Unreached as fault:
            if not (was_open and fault.may_be_stale) or self._is_aborted:
                raise
            return self._posted(body, headers)

    def abort(self) -> None:
        """End a post that goes on in another thread, which gets Unreached, and every later one."""
        self._is_aborted = True
        self._cut()

    def _cut(self) -> None:
        connection = self._connection
        peer = None if connection is None else connection.sock
        if peer is not None:
            with suppress(OSError):  # it has just been closed, which is what was wanted
                # Past the TLS layer, whose own shutdown would wait for the peer.
                socket.socket.shutdown(peer, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next post makes one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _posted(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        late = threading.Event()
        # A receiver that sends a byte now and then would stretch a timeout per read for ever.
        clock = threading.Timer(self._timeout_s, self._end_late, (late,))
        clock.daemon = True
        clock.start()
        try:
            connection = self._connected()
            if late.is_set() or self._is_aborted:
                raise TimeoutError
            connection.request("POST", self._target.path, body, dict(headers))
            with connection.getresponse() as response:
                if late.is_set() or self._is_aborted:
                    raise TimeoutError  # half a head, cut by ourselves, is read as a whole one
                answer = Answer(response.status, response.headers.get("Retry-After", ""))
                response.read(READ_MOST_BYTES)
                is_reusable = response.isclosed() and not response.will_close
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            is_late = late.is_set() or isinstance(error, TimeoutError)
            is_gone = isinstance(error, (ConnectionError, http.client.BadStatusLine))
            reason = self._reason(error, is_late=is_late)
            raise Unreached(reason, may_be_stale=is_gone and not is_late) from error
        finally:
            clock.cancel()
        if not is_reusable or late.is_set():
            self.close()
        return answer

    def _end_late(self, late: threading.Event) -> None:
        late.set()
        self._cut()

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            place = self._target.host, self._target.port
            connection = (
                http.client.HTTPConnection(*place, timeout=self._timeout_s)
                if self._context is None
                else http.client.HTTPSConnection(
                    *place, timeout=self._timeout_s, context=self._context
                )
            )
            self._connection = connection
            connection.connect()
        return self._connection

    def _reason(self, error: Exception, *, is_late: bool) -> str:
        if is_late:
            return f"no answer within {self._timeout_s:g} s"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {error.verify_message}"
        if isinstance(error, OSError) and error.strerror:
            return error.strerror.lower()
        return f"it does not speak HTTP ({type(error).__name__})"
