"""gunicorn's threaded worker, for which a thread is only what a whole request has earned."""

import errno
import re
import resource
import socket
import time
from collections import deque
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ

from gunicorn import http, sock, util
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn, ThreadWorker

from errors import RequestTimeout

# A request of up to this size, head and body, waits outside the threads; larger ones are read by a thread.
LARGEST_WAITING = 128 * 1024
RECEIVED_AT_ONCE = 16 * 1024
# A closed connection is read on for so long, lest its last answer be lost with the bytes that come still.
LINGER_SECONDS = 2.0
SETTLED_EVERY = 0.1
# With all connections taken, one that has waited for longer gives way to who comes.
CROWDED_SECONDS = 1.0
# Files that a worker needs beside its connections: the database's, three a thread, and its own.
RESERVED_FILES = 64
FILES_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
NO_CONNECTION_YET = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EPROTO)
END_OF_HEAD = b"\r\n\r\n"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,6})[ \t]*\r\n", re.IGNORECASE)
BARE_LF = re.compile(rb"(?<!\r)\n")
EXPECTATION = re.compile(rb"\r\nexpect:", re.IGNORECASE)
BODILESS = (b"GET ", b"HEAD")


class DeadlineUnreader(SocketUnreader):
    """What the parser reads from: no read outlives the request's deadline. Raises RequestTimeout."""

    def __init__(self, connection):
        super().__init__(connection.sock)
        self.connection = connection

    def chunk(self, size_hint=None):
        self.sock.settimeout(max(self.connection.deadline - time.monotonic(), 0.001))
        try:
            return super().chunk(size_hint)
        except TimeoutError:
            if self.connection.parser.mesg:
                self.connection.parser.mesg.force_close()
            raise RequestTimeout(self.connection.seconds) from None
        finally:
            self.sock.settimeout(self.connection.seconds)


class Connection(TConn):
    """A client's connection; ``received`` is what it has sent of a request that no thread has taken yet."""

    def __init__(self, cfg, client_socket, client, server, seconds):
        super().__init__(cfg, client_socket, client, server)
        self.seconds = seconds
        self.data_ready = True  # no thread is to wait for the first byte
        self.received = bytearray()
        self.searched = 0
        self.whole = None  # how long the request is, once its head is here: a head is not read again for each piece
        self.deadline = self.queued = 0.0

    def begin(self):
        """A request begins to arrive."""
        self.deadline = time.monotonic() + self.seconds

    def is_ready(self):
        """Whether a thread could answer at once what was received, or would be the first to refuse it."""
        if self.whole is not None:
            return len(self.received) >= self.whole
        searched, self.searched = self.searched, len(self.received)
        end = self.received.find(END_OF_HEAD, max(searched - len(END_OF_HEAD), 0))
        if end < 0:
            return self.searched > LARGEST_WAITING or BARE_LF.search(self.received, searched) is not None
        if self.received.startswith(BODILESS) or EXPECTATION.search(self.received, 0, end):
            return True
        length = CONTENT_LENGTH.search(self.received, 0, end + 2)
        self.whole = end + len(END_OF_HEAD) + int(length[1]) if length else 0
        return len(self.received) >= self.whole or self.whole > LARGEST_WAITING

    def init(self):
        """A thread takes it; the time that it waited for one is not the client's. Raises OSError."""
        self.deadline += time.monotonic() - self.queued
        self.sock.settimeout(max(self.deadline - time.monotonic(), 0.001))
        if self.parser is None:
            if self.cfg.is_ssl:
                self.sock = sock.ssl_wrap_socket(self.sock, self.cfg)
                self.sock.do_handshake()
            self.parser = http.get_parser(self.cfg, self.sock, self.client)
            self.parser.unreader = DeadlineUnreader(self)
        self.sock.settimeout(self.seconds)
        self.initialized = True
        if self.received:
            self.parser.unreader.unread(bytes(self.received))
            self.received = bytearray()
            self.searched, self.whole = 0, None

    def left_over(self):
        """Whether more was read than the request that was answered; plain bytes go back to ``received``."""
        if self.cfg.is_ssl:
            return bool(self.parser.unreader.buf.getvalue()) or self.sock.pending() > 0
        self.received += self.parser.unreader.take_buffered()
        return bool(self.received)


class RegistryWorker(ThreadWorker):
    """Connections wait in the poller: idle, arriving (part of a request is there) or lingering (answered, closing).

    All but the answering itself runs on the main thread, which never waits for one client. ``[server] request_timeout``
    bounds the arriving of a request, and the sending of its answer.
    """

    # gunicorn.conf.py sets these
    request_timeout = 30
    board = slot = None
    settled_at = 0.0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.lingering = deque()
        open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if open_files != resource.RLIM_INFINITY:
            room = max(open_files - RESERVED_FILES, self.cfg.threads + 1)
            self.worker_connections = min(self.worker_connections, room)
            self.max_keepalived = max(self.worker_connections - self.cfg.threads, 1)

    def load_wsgi(self):
        """WSGI joins the values of a header that comes twice: tell which ones did, in ``registry.repeated_headers``."""
        super().load_wsgi()
        application = self.wsgi
        if begin_serving := getattr(application, "begin_serving", None):
            self.settle = begin_serving(self.board, self.slot)

        def marking_application(environ, start_response):
            names = [name for name, _ in start_response.__self__.req.headers]
            repeated = () if len(set(names)) == len(names) else [name for name in names if names.count(name) > 1]
            environ["registry.repeated_headers"] = frozenset(repeated)
            return application(environ, start_response)

        self.wsgi = marking_application

    def settle(self):
        """Count and log the requests that were answered, where the application does."""

    def run(self):
        try:
            super().run()
        finally:
            self.settle()

    def accept(self, listener):
        try:
            client_socket, client = listener.accept()
        except OSError as error:
            if error.errno in FILES_EXHAUSTED:
                if not self.make_room(0.0):
                    self.set_accept_enabled(False)  # the main loop enables it again, a second later at most
            elif error.errno not in NO_CONNECTION_YET:
                raise
            return
        self.nr_conns += 1
        connection = Connection(self.cfg, client_socket, client, listener.getsockname(), self.request_timeout)
        self.wait_idle(connection)

    def _cap_keepalive(self, deadline):
        self.stop_listening()
        super()._cap_keepalive(deadline)

    def stop_listening(self):
        """Take who has connected already, and close: by itself gunicorn lets others connect, and wait in vain."""
        for listener in self.sockets:
            before = -1
            while before < self.nr_conns < self.worker_connections:
                before = self.nr_conns
                self.accept(listener)
            listener.close()

    def make_room(self, seconds):
        """Close the connection that is longest about closing, idle, or sending, for more than ``seconds``, if any."""
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
        connection.sock.setblocking(False)
        connection.set_timeout()
        if not self.alive:
            connection.timeout = min(connection.timeout, time.monotonic() + LINGER_SECONDS)
        self.keepalived_conns.append(connection)
        self.watch(connection, self.receive_first)

    def wait_for_rest(self, connection):
        connection.sock.setblocking(False)
        connection.timeout = connection.deadline
        self.pending_conns.append(connection)
        self.watch(connection, self.receive_more)

    def watch(self, connection, callback):
        self.poller.register(connection.sock, EVENT_READ, partial(callback, connection))

    def receive_first(self, connection, client):
        """The first bytes of a request, on an idle connection."""
        if client.fileno() < 0:
            return  # closed to make room, by an earlier event of the same round
        connection.begin()
        is_whole = self.receive(connection)
        if is_whole is None:
            return
        self.keepalived_conns.remove(connection)
        self.poller.unregister(client)
        if is_whole:
            self.enqueue_req(connection)
        elif not connection.received:
            self.forget(connection)
        else:
            self.wait_for_rest(connection)

    def receive_more(self, connection, client):
        if client.fileno() >= 0 and self.receive(connection):
            self.pending_conns.remove(connection)
            self.poller.unregister(client)
            self.enqueue_req(connection)

    def receive(self, connection):
        """Whether a thread should take it now (it is whole, too large, or broken off); None where nothing came."""
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
        conn.queued = time.monotonic()
        super().enqueue_req(conn)

    def handle_request(self, req, conn):
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            self.log.info("An answer was not read within %d seconds.", self.request_timeout)
            return False

    def _keepalive_after(self, conn, keepalive):
        try:
            return super()._keepalive_after(conn, keepalive)
        except RequestTimeout:
            return False

    def handle_error(self, req, client, addr, exc):
        if isinstance(exc, (RequestTimeout, TimeoutError)):
            send_refusal(client)
        else:
            super().handle_error(req, client, addr, exc)

    def finish_request(self, conn, fs):
        """The thread is done: the connection waits for the next request, or closes."""
        try:
            if not fs.cancelled() and fs.result():
                self.wait_for_next(conn)
            else:
                self.linger(conn)
        except Exception:
            self.forget(conn)

    def wait_for_next(self, connection):
        if not connection.left_over():
            self.wait_idle(connection)
            return
        connection.begin()
        if self.cfg.is_ssl or connection.is_ready():
            self.enqueue_req(connection)
        else:
            self.wait_for_rest(connection)

    def linger(self, connection):
        """Close it for writing, and read on until the client has closed too (RFC 9112, 9.6)."""
        connection.sock.shutdown(socket.SHUT_WR)
        connection.sock.setblocking(False)
        connection.timeout = time.monotonic() + LINGER_SECONDS
        self.lingering.append(connection)
        self.watch(connection, self.read_on)

    def read_on(self, connection, client):
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
        """Refuse the requests that are overdue, close what has lingered; one more, where others could not come in.

        The main loop comes by here after each round, a second later at most: so what was answered is settled here too.
        """
        now = time.monotonic()
        if now - self.settled_at > SETTLED_EVERY:
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
        self.poller.unregister(connection.sock)
        self.forget(connection)

    def forget(self, connection):
        self.nr_conns -= 1
        connection.close()


def send_refusal(client):
    """408, where it can be sent without waiting."""
    with suppress(OSError):
        util.write_error(client, 408, "Request Timeout", "The request did not arrive within the time that it may take.")
