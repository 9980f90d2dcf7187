"""A server that goes away under traffic and comes back: applications keep their sockets, and nothing leaves in clear."""
import signal
import socket
import time

import pytest

from harness import ASSOCIATE, BIND, CONNECT, MARKER, SocksUdp, run, socks_request, wait_for

AGAIN_SECONDS = 5
EVERY_SECONDS = 0.1


class Apps:
    """Three applications of one client: two that asked for UDP ASSOCIATE once, and one behind a forward."""

    def __init__(self, client, echo):
        self.echo = echo
        self.associated = [SocksUdp(client.socks) for _ in range(2)]
        self.forwarded = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.forwarded.connect(client.forwards[0])
        self.turn = 0

    def send(self):
        """One datagram of each, all different from those before."""
        self.turn += 1
        data = b'%s %d' % (MARKER, self.turn)
        for app in self.associated:
            app.send(data, self.echo.address)
        self.forwarded.send(data)

    def answers(self, seconds):
        """Whether each application gets an answer to one of the datagrams that it keeps sending."""
        end, got = time.monotonic() + seconds, set()
        sockets = [app.udp for app in self.associated] + [self.forwarded]
        while len(got) < len(sockets) and time.monotonic() < end:
            first = self.turn + 1
            self.send()
            time.sleep(EVERY_SECONDS)
            for number, sock in enumerate(sockets):
                sock.setblocking(False)
                try:
                    while True:
                        turn = int(sock.recv(2048).rpartition(b' ')[2])
                        if turn >= first:
                            got.add(number)
                except BlockingIOError:
                    pass
        return len(got) == len(sockets)

    def close(self):
        for app in self.associated:
            app.close()
        self.forwarded.close()


def crash(server, _folder):
    server.kill()


def end(server, _folder):
    server.stop(signal.SIGTERM)


def end_and_renew(server, folder):
    server.stop(signal.SIGTERM)
    assert run('renew-cert', folder).returncode == 0


@pytest.mark.parametrize('go', [crash, end, end_and_renew])
def test_the_same_sockets_get_answers_again(lab, echo, go):
    folder, port, invite = lab.init()
    with (folder / 'server.yaml').open('a') as file:
        file.write('timeouts:\n  grace_seconds: 1\n')
    server = lab.server(folder)
    client = lab.client(invite, '--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    apps = lab.open(Apps(client, echo))
    assert apps.answers(5)
    go(server, folder)
    wait_for(lambda: client.status()['suite'] is None, 4, 'the end of the session')

    # away: exact errors at once; datagrams are dropped and counted, and none of them reaches the wire
    for command in CONNECT, BIND, ASSOCIATE:
        start = time.monotonic()
        app, code, _ = socks_request(client.socks, command, *echo.address)
        app.close()
        assert (code, time.monotonic() - start < 1) == (1, True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(('127.0.0.1', port))
        before, count = client.status()['up']['drops'].get('no_session', 0), echo.count
        for _ in range(10):
            apps.send()
        wait_for(lambda: client.status()['up']['drops'].get('no_session', 0) == before + 30, 5, 'the drops')
        wire.settimeout(0.2)
        with pytest.raises(TimeoutError):
            wire.recv(2048)
        assert echo.count == count

    again = lab.server(folder)
    assert apps.answers(AGAIN_SECONDS), client.err
    status = again.status()
    assert (status['sessions'], status['associations'], status['sessions_on_udp']) == (1, 3, 1)
    app, code, _ = socks_request(client.socks, ASSOCIATE, '0.0.0.0', 0)
    app.close()
    assert code == 0
