"""Connection of a client: buffers a request until it is complete, with a deadline for each request."""

import re
import time

from gunicorn import http, sock
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn

from errors import RequestTimeout

# A request of up to this size, head and body, is buffered outside the threads; a thread reads larger ones.
LARGEST_BUFFERED = 128 * 1024
END_OF_HEAD = b"\r\n\r\n"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,6})[ \t]*\r\n", re.IGNORECASE)
BARE_LF = re.compile(rb"(?<!\r)\n")
EXPECTATION = re.compile(rb"\r\nexpect:", re.IGNORECASE)
BODILESS = (b"GET ", b"HEAD")


class DeadlineUnreader(SocketUnreader):
    """Source of bytes for gunicorn's parser, whose reads end at the request's deadline."""

    def __init__(self, connection):
        super().__init__(connection.sock)
        self.connection = connection

    def chunk(self, size_hint=None):
        """Return the next bytes of the socket. Raises: RequestTimeout at the deadline."""
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
    """Connection of a client; ``received`` holds bytes of a request that no thread has taken yet."""

    def __init__(self, cfg, client_socket, client, server, seconds):
        super().__init__(cfg, client_socket, client, server)
        self.seconds = seconds
        self.data_ready = True  # no thread waits for the first byte
        self.received = bytearray()
        self.searched = 0
        self.length = None  # of the request, once its head is complete
        self.deadline = self.queued = 0.0

    def start_request(self):
        """Set the deadline of a request whose first bytes arrive."""
        self.deadline = time.monotonic() + self.seconds

    def is_ready(self):
        """Return whether a thread can handle the request.

        It is complete, too large or malformed.
        """
        if self.length is not None:
            return len(self.received) >= self.length
        searched, self.searched = self.searched, len(self.received)
        end = self.received.find(END_OF_HEAD, max(searched - len(END_OF_HEAD), 0))
        if end < 0:
            return self.searched > LARGEST_BUFFERED or BARE_LF.search(self.received, searched) is not None
        if self.received.startswith(BODILESS) or EXPECTATION.search(self.received, 0, end):
            return True
        length = CONTENT_LENGTH.search(self.received, 0, end + 2)
        self.length = end + len(END_OF_HEAD) + int(length[1]) if length else 0
        return len(self.received) >= self.length or self.length > LARGEST_BUFFERED

    def init(self):
        """Prepare the connection for its thread.

        Waiting for the thread extends the deadline.
        """
        self.deadline += time.monotonic() - self.queued
        if self.parser is None:
            if self.cfg.is_ssl:
                self.sock.settimeout(max(self.deadline - time.monotonic(), 0.001))
                self.sock = sock.ssl_wrap_socket(self.sock, self.cfg)
                self.sock.do_handshake()
            self.parser = http.get_parser(self.cfg, self.sock, self.client)
            self.parser.unreader = DeadlineUnreader(self)
        self.sock.settimeout(self.seconds)
        self.initialized = True
        if self.received:
            self.parser.unreader.unread(bytes(self.received))
            self.received = bytearray()
            self.searched, self.length = 0, None

    def has_leftover(self):
        """Return whether bytes of a further request were read.

        Plain ones return to ``received``.
        """
        if self.cfg.is_ssl:
            return bool(self.parser.unreader.buf.getvalue()) or self.sock.pending() > 0
        self.received += self.parser.unreader.take_buffered()
        return bool(self.received)
