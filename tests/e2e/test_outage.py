"""What a server's network does to all sessions at once: they resume, none is lost, and no user can keep others from it."""
import itertools
import time

import pytest


from harness import SocksUdp, wait_for
from tcp_proxy import TcpProxy, reset

CLIENTS, USERS = 512, 8
GRACE, OUTAGE = 60, 10  # seconds


class Uplink(TcpProxy):
    """The network of a server: each connection comes from an address of its own; while it is down each one is reset."""

    def __init__(self, target):
        self.is_down, self.addresses = False, itertools.cycle([f'127.1.{i // 200}.{i % 200 + 1}' for i in range(CLIENTS)])
        super().__init__(target)

    def relay(self, near):
        if self.is_down:
            reset(near)
            return
        super().relay(near, source=next(self.addresses))

    def go_down(self):
        self.is_down = True
        return self.cut()


@pytest.mark.slow
@pytest.mark.no_sanitize
def test_all_sessions_resume_within_the_grace_after_an_outage(lab, echo):
    """512 clients, as many as a server has sessions by default, lose their connections at once, for ten seconds."""
    folder, port, _ = lab.init(user=None)
    invites = [lab.invite(folder, f'user{number}') for number in range(USERS)]
    server = lab.server(folder)
    uplink = lab.open(Uplink(('127.0.0.1', port)))
    door = f':{uplink.address[1]}/'
    clients = [lab.client(invites[number % USERS].replace(f':{port}/', door), ready=False) for number in range(CLIENTS)]
    for client in clients:
        client.ready(120)
    assert server.status()['sessions_opened'] == CLIENTS
    assert uplink.go_down() >= CLIENTS
    wait_for(lambda: server.status()['sessions_without_stream'] == CLIENTS, 20, 'the server to see it')
    time.sleep(OUTAGE)
    uplink.is_down = False
    start = time.monotonic()
    wait_for(lambda: server.status()['sessions_without_stream'] == 0, GRACE - OUTAGE, 'all to be back')
    took = time.monotonic() - start
    status = server.status()
    assert (status['sessions'], status['sessions_opened'], status['sessions_resumed']) == (CLIENTS, CLIENTS, CLIENTS), took
    words = clients[-1].ready()
    host, _, number = words['socks'].rpartition(':')
    assert lab.open(SocksUdp((host, int(number)))).ask(b'back', echo.address)[0] == b'back'
