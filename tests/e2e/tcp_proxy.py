"""What stands between a client and its server for TCP alone: connections through it can be cut, and new ones refused."""
import contextlib
import socket
import struct
import threading

from harness import TcpServer


def reset(sock):
    """What is sent on it is RST."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        sock.shutdown(socket.SHUT_RDWR)


class TcpProxy(TcpServer):
    def __init__(self, target, port=0):
        self.target, self.legs, self.lock, self.total = target, [], threading.Lock(), 0
        self.source = None  # the address that the server sees
        super().__init__(self.relay, port=port)

    def relay(self, near, source=None):
        source = source or self.source
        with socket.create_connection(self.target, 5, source_address=(source, 0) if source else None) as far:
            with self.lock:
                self.legs.append((near, far))
                self.total += 1
            back = threading.Thread(target=self.pump, args=(far, near), daemon=True)
            back.start()
            self.pump(near, far)
            back.join()

    @staticmethod
    def pump(source, sink):
        source.settimeout(None)
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def cut(self):
        """All connections end now: RST to both sides."""
        with self.lock:
            legs, self.legs = self.legs, []
        for sock in [sock for pair in legs for sock in pair]:
            reset(sock)
        return len(legs)
