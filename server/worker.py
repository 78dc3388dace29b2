"""Threaded gunicorn worker that buffers a request before a thread takes it.

gunicorn's own gthread worker occupies a thread with each half-sent request, so that a few slow clients stop a server.
docs/decisions.md has the alternatives; tests/test_worker.py names the versions of gunicorn that this class fits.
"""

import errno
import resource
import socket
import time
from collections import deque
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ

from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

from errors import RequestTimeout
from server.connection import Connection

RECEIVED_AT_ONCE = 16 * 1024
# A closed connection is read for this long, so that a reset does not destroy its last response (RFC 9112, 9.6).
LINGER_SECONDS = 2.0
SETTLE_INTERVAL_SECONDS = 0.1
# At the limit of connections, one that has been idle for this long is closed for a new one.
CROWDED_SECONDS = 1.0
# File descriptors that a worker needs beside its connections: three per thread for the database, and its own.
RESERVED_FILES = 64
FILES_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
NO_CONNECTION_YET = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EPROTO)


class RegistryWorker(ThreadWorker):
    """Worker whose main thread polls all connections: idle, receiving or lingering (closed for writing).

    Threads only run the application. ``[server] request_timeout`` limits the receipt of a request and the sending of
    its response.
    """

    # set by gunicorn.conf.py: the time limit, and a function that counts and logs the finished requests
    request_timeout = 30
    settle = staticmethod(lambda: None)
    settled_at = 0.0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.lingering = deque()
        open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if open_files != resource.RLIM_INFINITY:
            room = max(open_files - RESERVED_FILES, self.cfg.threads + 1)
            self.worker_connections = min(self.worker_connections, room)
            self.max_keepalived = max(self.worker_connections - self.cfg.threads, 1)

    def run(self):
        """Serve until the worker stops, then settle the last requests."""
        try:
            super().run()
        finally:
            self.settle()

    def accept(self, listener):
        """Accept a connection; without free descriptors, close a waiting one or pause."""
        try:
            client_socket, client = listener.accept()
        except OSError as error:
            if error.errno in FILES_EXHAUSTED:
                if not self.make_room(0.0):
                    self.set_accept_enabled(False)  # the main loop enables it again within a second
            elif error.errno not in NO_CONNECTION_YET:
                raise
            return
        self.nr_conns += 1
        connection = Connection(self.cfg, client_socket, client, listener.getsockname(), self.request_timeout)
        self.wait_idle(connection)

    def _cap_keepalive(self, deadline):
        """Stop listening before a graceful shutdown waits for its connections."""
        self.stop_listening()
        super()._cap_keepalive(deadline)

    def stop_listening(self):
        """Accept pending connections and close the listeners.

        gunicorn keeps them open, so that clients connect to a worker that never serves them.
        """
        for listener in self.sockets:
            before = -1
            while before < self.nr_conns < self.worker_connections:
                before = self.nr_conns
                self.accept(listener)
            listener.close()

    def make_room(self, seconds):
        """Close the connection that has waited for longest, beyond ``seconds``.

        Returns: whether there was one.
        """
        latest = time.monotonic() - seconds
        for waiting, allowed in (
            (self.lingering, LINGER_SECONDS),
            (self.keepalived_conns, self.cfg.keepalive),
            (self.pending_conns, self.request_timeout),
        ):
            if waiting and waiting[0].timeout - allowed < latest:
                self.discard(waiting.popleft())
                return True
        return False

    def wait_idle(self, connection):
        """Wait for the first bytes of a request, up to the keep-alive timeout."""
        connection.sock.setblocking(False)
        connection.set_timeout()
        if not self.alive:
            connection.timeout = min(connection.timeout, time.monotonic() + LINGER_SECONDS)
        self.keepalived_conns.append(connection)
        self.watch(connection, self.receive_first)

    def wait_for_rest(self, connection):
        """Wait for the rest of a request, up to its deadline."""
        connection.sock.setblocking(False)
        connection.timeout = connection.deadline
        self.pending_conns.append(connection)
        self.watch(connection, self.receive_more)

    def watch(self, connection, callback):
        """Call ``callback`` when the connection is readable."""
        self.poller.register(connection.sock, EVENT_READ, partial(callback, connection))

    def receive_first(self, connection, client):
        """Receive the first bytes of a request on an idle connection."""
        if client.fileno() < 0:
            return  # closed by make_room in the same round of the poller
        connection.start_request()
        is_ready = self.receive(connection)
        if is_ready is None:
            return
        self.keepalived_conns.remove(connection)
        self.poller.unregister(client)
        if is_ready:
            self.enqueue_req(connection)
        elif not connection.received:
            self.forget(connection)
        else:
            self.wait_for_rest(connection)

    def receive_more(self, connection, client):
        """Receive more bytes of a request."""
        if client.fileno() >= 0 and self.receive(connection):
            self.pending_conns.remove(connection)
            self.poller.unregister(client)
            self.enqueue_req(connection)

    def receive(self, connection):
        """Receive bytes and return whether a thread should take the request.

        None without bytes.
        """
        if self.cfg.is_ssl:
            return True
        try:
            part = connection.sock.recv(RECEIVED_AT_ONCE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            part = b""
        connection.received += part
        return connection.is_ready() if part else bool(connection.received)

    def enqueue_req(self, conn):
        """Hand a request to a thread."""
        conn.queued = time.monotonic()
        super().enqueue_req(conn)

    def handle_request(self, req, conn):
        """Run the application, and close the connection of a client that does not read."""
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            self.log.info("A client did not read its response within %d seconds.", self.request_timeout)
            return False

    def _keepalive_after(self, conn, keepalive):
        """Return whether the connection stays open after its body was drained in time."""
        try:
            return super()._keepalive_after(conn, keepalive)
        except RequestTimeout:
            return False

    def handle_error(self, req, client, addr, exc):
        """Answer 408 to an incomplete request, and leave other errors to gunicorn."""
        if isinstance(exc, (RequestTimeout, TimeoutError)):
            send_refusal(client)
        else:
            super().handle_error(req, client, addr, exc)

    def finish_request(self, conn, fs):
        """Wait for the next request of a connection, or close it."""
        try:
            if not fs.cancelled() and fs.result():
                self.wait_for_next(conn)
            else:
                self.linger(conn)
        except Exception:
            self.forget(conn)

    def wait_for_next(self, connection):
        """Continue with bytes of a pipelined request, or wait for the next one."""
        if not connection.has_leftover():
            self.wait_idle(connection)
            return
        connection.start_request()
        if self.cfg.is_ssl or connection.is_ready():
            self.enqueue_req(connection)
        else:
            self.wait_for_rest(connection)

    def linger(self, connection):
        """Close a connection for writing, and read until the client closes it too."""
        connection.sock.shutdown(socket.SHUT_WR)
        connection.sock.setblocking(False)
        connection.timeout = time.monotonic() + LINGER_SECONDS
        self.lingering.append(connection)
        self.watch(connection, self.read_on)

    def read_on(self, connection, client):
        """Discard bytes of a lingering connection, and close it at its end."""
        if client.fileno() < 0:
            return
        try:
            if client.recv(RECEIVED_AT_ONCE):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self.lingering.remove(connection)
        self.discard(connection)

    def murder_pending(self):
        """Answer 408 to overdue requests, and close lingering connections.

        The main loop calls this at least once a second, so finished requests are settled here too.
        """
        now = time.monotonic()
        if now - self.settled_at > SETTLE_INTERVAL_SECONDS:
            self.settled_at = now
            self.settle()
        while self.pending_conns and self.pending_conns[0].timeout <= now:
            connection = self.pending_conns.popleft()
            self.poller.unregister(connection.sock)
            try:
                send_refusal(connection.sock)
                self.linger(connection)
            except OSError:
                self.forget(connection)
        while self.lingering and self.lingering[0].timeout <= now:
            self.discard(self.lingering.popleft())
        if self.nr_conns >= self.worker_connections:
            self.make_room(CROWDED_SECONDS)

    def discard(self, connection):
        """Close a connection that the poller watches."""
        self.poller.unregister(connection.sock)
        self.forget(connection)

    def forget(self, connection):
        """Close a connection that the poller does not watch."""
        self.nr_conns -= 1
        connection.close()


def send_refusal(client):
    """Send 408 if the socket takes it without waiting."""
    with suppress(OSError):
        util.write_error(client, 408, "Request Timeout", "The request was not complete within the time limit.")
