"""Datagrams inside TCP over a path that is too slow for them: what arrives is not old."""
import socket
import struct
import threading
import time

import pytest

from harness import SocksUdp, TcpServer, free_port

RATE = 150_000  # bytes a second that the path carries
OFFERED = 3  # times as much
SECONDS = 5


class SlowPath:
    """Carries TCP both ways, so many bytes a second, and holds little itself."""

    def __init__(self, lab, port):
        self.port = port
        self.server = TcpServer(self.carry)
        self.server.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        lab.open(self.server)

    @staticmethod
    def copy(source, sink):
        try:
            while data := source.recv(4096):
                sink.sendall(data)
                time.sleep(len(data) / RATE)
        except OSError:
            pass

    def carry(self, connection):
        onward = socket.socket()
        with onward:
            onward.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            onward.connect(('127.0.0.1', self.port))
            for sock in (connection, onward):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
                sock.settimeout(None)
            other = threading.Thread(target=self.copy, args=(onward, connection), daemon=True)
            other.start()
            self.copy(connection, onward)


def offer(send):
    """Sends the time, again and again, in datagrams of 1000 bytes."""
    begin = time.monotonic()
    count = 0
    while (now := time.monotonic()) < begin + SECONDS:
        if count * 1000 < (now - begin) * RATE * OFFERED:
            send(struct.pack('d', now) + bytes(992))
            count += 1
        else:
            time.sleep(0.001)


def ages(receive_one):
    """How old each datagram was as it arrived, until none comes any more."""
    found = []
    try:
        while True:
            data = receive_one()
            found.append(time.monotonic() - struct.unpack('d', data[:8])[0])
    except TimeoutError:
        return found


@pytest.mark.no_sanitize
@pytest.mark.parametrize('way', ['up', 'down'])
def test_what_travels_inside_tcp_is_not_old(lab, way):
    """Half a second is what it may wait in a queue of ours; the rest are buffers of the path, here of some 100 kB."""
    folder, port, invite = lab.init()
    lab.edit_config(folder, f'advertise: "127.0.0.1:{free_port()}"')
    lab.server(folder)
    path = SlowPath(lab, port)
    client = lab.client(invite.replace(f':{port}/', f':{path.server.address[1]}/'))
    target = lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    target.bind(('127.0.0.1', 0))
    target.settimeout(3)
    app = lab.open(SocksUdp(client.socks, timeout=3))
    app.send(struct.pack('d', time.monotonic()), target.getsockname())
    _, source = target.recvfrom(2000)
    if way == 'up':
        sender = threading.Thread(target=offer, args=(lambda data: app.send(data, target.getsockname()),))
        sender.start()
        found = ages(lambda: target.recv(2000))
    else:
        sender = threading.Thread(target=offer, args=(lambda data: target.sendto(data, source),))
        sender.start()
        found = ages(lambda: app.receive()[0])
    sender.join()
    assert len(found) > 100
    print(f'{way}: {len(found)} datagrams, the oldest {max(found):.2f} s')
    assert max(found) < 2, f'{way}: {len(found)} datagrams, the oldest {max(found):.2f} s'
