"""A session outlives its TLS connections: cut, renewed, resumed on whatever worker, or lost; datagrams go on by UDP."""
import os
import signal
import socket
import time

import pytest

from harness import MARKER, Lab, SocksUdp, UdpEcho, run, sum_ledger, wait_for
from tcp_proxy import TcpProxy

SEALGRAM_LIMITS = os.environ.get('SEALGRAM_LIMITS')


class Pair:
    """A server, and a client whose TCP goes through a proxy; UDP goes straight, or to a closed port."""

    def __init__(self, lab, config='', udp=True, workers=1):
        self.lab = lab
        self.folder, self.port, invite = lab.init()
        self.closed = lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))  # nobody reads there
        self.closed.bind(('127.0.0.1', 0))
        at = self.port if udp else self.closed.getsockname()[1]
        with (self.folder / 'server.yaml').open('a') as file:
            file.write(f'advertise: 127.0.0.1:{at}\nworkers: {workers}\n{config}')
        self.server = lab.server(self.folder)
        self.proxy = lab.open(TcpProxy(('127.0.0.1', self.port)))
        self.client = lab.client(invite.replace(f':{self.port}/', f':{self.proxy.address[1]}/'), '-v')

    def cut(self):
        """The connections to the server are reset; returns when the client has another."""
        before = self.client.status()['sessions_resumed']
        assert self.proxy.cut() >= 1
        wait_for(lambda: self.client.status()['sessions_resumed'] == before + 1, 5, 'the session to be resumed')


def exchange(app, echo, seconds, pace=0.002, act=lambda turn: None):
    """Sends numbered datagrams for a while, acting now and then; returns how many were sent, and the answers."""
    answers, sent, turn = [], 0, 0
    app.udp.setblocking(False)
    start = time.monotonic()

    def take():
        try:
            while True:
                answers.append(int(app.receive()[0]))
        except BlockingIOError:
            return
    while (now := time.monotonic() - start) < seconds:
        app.send(b'%d' % sent, echo.address)
        sent += 1
        take()
        if now > turn + 1:
            turn += 1
            act(turn)
        time.sleep(pace)
    end = time.monotonic() + 3
    while len(answers) < sent and time.monotonic() < end:
        take()
        time.sleep(0.01)
    return sent, answers


def is_whole(sent, answers):
    assert len(answers) == sent, f'{sent - len(answers)} of {sent} are missing'
    assert sorted(answers) == list(range(sent)), 'one came twice'


def ledgers_add_up(*programs):
    for program in programs:
        status = program.status()
        for way in 'up', 'down':
            assert status[way]['received'] == sum_ledger(status[way]), (program.name, way)


@pytest.mark.slow
def test_a_control_connection_that_is_killed_under_load_loses_nothing(lab, echo):
    pair = Pair(lab)
    app = lab.open(SocksUdp(pair.client.socks))
    is_whole(*exchange(app, echo, 7, act=lambda turn: turn % 2 and pair.proxy.cut()))
    status, server = pair.client.status(), pair.server.status()
    assert status['sessions_opened'] == server['sessions_opened'] == 1
    assert status['sessions_resumed'] == server['sessions_resumed'] >= 3
    assert (server['sessions'], server['associations'], len(echo.sources)) == (1, 1, 1)
    assert 'sealgram: warning: connection to the server lost: ' in pair.client.err
    assert 'session resumed: ' in pair.client.err
    assert pair.server.err.count('session of alice has lost its connection: kept for 60 s') == status['sessions_resumed']
    ledgers_add_up(pair.client, pair.server)


@pytest.mark.slow
def test_renewal_under_load_loses_nothing(lab, echo):
    pair = Pair(lab, 'timeouts:\n  renew_seconds: 2\n')
    app = lab.open(SocksUdp(pair.client.socks))
    is_whole(*exchange(app, echo, 7))
    status, server = pair.client.status(), pair.server.status()
    assert status['channels_renewed'] == server['sessions_resumed'] >= 3
    assert (status['sessions_opened'], status['sessions_resumed'], len(echo.sources)) == (1, 0, 1)
    assert status['stream'] == 'up' and status['path'] == 'udp'
    ledgers_add_up(pair.client, pair.server)


def test_on_the_stream_an_association_is_kept_too(lab, echo):
    """UDP is blocked: what is sent once the connection is back is answered from the same port as before."""
    pair = Pair(lab, udp=False)
    app = lab.open(SocksUdp(pair.client.socks))
    for turn in range(3):
        assert app.ask(b'%d' % turn, echo.address) == (b'%d' % turn, echo.address)
        pair.cut()
        time.sleep(1)  # one RESUME a second is what a server takes
    assert app.ask(MARKER, echo.address) == (MARKER, echo.address)
    assert len(echo.sources) == 1 and pair.server.status()['sessions_opened'] == 1


def test_whichever_worker_takes_the_connection(lab, echo):
    """The session's own worker gets it: 8 times among 4 workers."""
    pair = Pair(lab, 'plain_udp:\n  from: []\n', workers=4)  # whoever may have plain UDP is worker 0's
    app = lab.open(SocksUdp(pair.client.socks))
    assert app.ask(b'0', echo.address) == (b'0', echo.address)
    before = pair.server.status()
    for turn in range(8):
        pair.cut()
        assert app.ask(b'%d' % turn, echo.address) == (b'%d' % turn, echo.address)
        time.sleep(1.05)
    after = pair.server.status()
    assert [worker['sessions'] for worker in after['workers']] == [worker['sessions'] for worker in before['workers']]
    assert (after['sessions'], after['sessions_opened'], after['sessions_resumed']) == (1, 1, 8)
    assert len(echo.sources) == 1
    assert pair.server.err.count('session of alice has lost its connection') == 8, 'none broke but those that were cut'
    assert sum(worker['handshakes'] > 0 for worker in after['workers']) > 1


@pytest.mark.parametrize('config', ['', 'timeouts:\n  grace_seconds: 0\n'], ids=['kept', 'not kept'])
def test_a_server_that_crashed_and_came_back(lab, echo, config):
    """It knows nothing of the session: the next datagrams of the same sockets are answered all the same."""
    pair = Pair(lab, config)
    app = lab.open(SocksUdp(pair.client.socks))
    assert app.ask(MARKER, echo.address) == (MARKER, echo.address)
    pair.server.kill()
    pair.proxy.cut()
    pair.server = lab.server(pair.folder)
    app.udp.settimeout(0.5)
    assert app.ask(MARKER, echo.address, tries=10) == (MARKER, echo.address)
    status = pair.client.status()
    assert (status['sessions_opened'], status['sessions_resumed']) == (2, 0)
    assert pair.server.status()['sessions'] == 1
    why = "the server does not have it any more" if not config else None
    assert not why or f'sealgram: warning: session with the server ended: {why}\n' in pair.client.err


def test_grace_has_an_end(lab, echo):
    """No connection for longer than that: both sides end the session, and the client opens another when it can."""
    pair = Pair(lab, 'timeouts:\n  grace_seconds: 1\n')
    app = lab.open(SocksUdp(pair.client.socks))
    assert app.ask(MARKER, echo.address) == (MARKER, echo.address)
    target, pair.proxy.target = pair.proxy.target, pair.closed.getsockname()
    pair.proxy.cut()
    assert app.ask(b'by UDP', echo.address) == (b'by UDP', echo.address)
    wait_for(lambda: pair.server.status()['sessions'] == 0, 4, 'the end of the session')
    wait_for(lambda: pair.client.status()['suite'] is None, 4, 'the end at the client')
    assert 'session of alice ended: the peer gave no sign of life' in pair.server.err
    assert 'session with the server ended: it could not be resumed in time; connecting again' in pair.client.err
    pair.proxy.target = target
    wait_for(lambda: pair.client.status()['session'] == 'up', 10, 'a session')
    assert app.ask(MARKER, echo.address) == (MARKER, echo.address)
    assert pair.client.status()['sessions_opened'] == 2


def test_a_client_that_slept_longer_than_the_grace(lab, echo):
    pair = Pair(lab, 'timeouts:\n  grace_seconds: 1\n')
    app = lab.open(SocksUdp(pair.client.socks))
    assert app.ask(MARKER, echo.address) == (MARKER, echo.address)
    pair.client.process.send_signal(signal.SIGSTOP)
    pair.proxy.cut()
    wait_for(lambda: pair.server.status()['sessions'] == 0, 4, 'the end of the session')
    pair.client.process.send_signal(signal.SIGCONT)
    app.udp.settimeout(0.5)
    assert app.ask(MARKER, echo.address, tries=10) == (MARKER, echo.address)


def test_a_user_who_is_removed_meanwhile(lab, echo):
    pair = Pair(lab)
    app = lab.open(SocksUdp(pair.client.socks))
    assert app.ask(MARKER, echo.address) == (MARKER, echo.address)
    target, pair.proxy.target = pair.proxy.target, pair.closed.getsockname()
    pair.proxy.cut()
    wait_for(lambda: pair.server.status()['sessions_without_stream'] == 1, 5, 'the loss of the connection')
    assert run('revoke', pair.folder, 'alice').returncode == 0
    wait_for(lambda: pair.server.status()['sessions'] == 0, 5, 'the end of the session')
    pair.proxy.target = target
    wait_for(lambda: 'the invite was refused' in pair.client.err, 10, 'the refusal')


def test_a_key_is_renewed_before_it_is_used_up(monkeypatch):
    """With 60 records for each of 16 sender ids the client takes fresh keys in time: nothing goes over the stream."""
    if not SEALGRAM_LIMITS:
        pytest.skip('SEALGRAM_LIMITS names no test build')
    monkeypatch.setattr('harness.SEALGRAM', SEALGRAM_LIMITS)
    monkeypatch.setenv('SEALGRAM_TEST_LIMITS', '60 100000 50 16')
    lab = Lab()
    try:
        echo = lab.open(UdpEcho())
        pair = Pair(lab, 'limits:\n  sessions: 64\n')  # few enough for 16 sender ids each
        app = lab.open(SocksUdp(pair.client.socks))
        before = pair.client.status()
        is_whole(*exchange(app, echo, 6, pace=0.008))
        status = pair.client.status()
        assert status['channels_renewed'] >= 1 and status['sessions_opened'] == 1
        assert status['up']['streamed'] == before['up']['streamed'] and status['down']['streamed'] == 0
    finally:
        lab.close()
