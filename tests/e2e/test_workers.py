"""Several workers: sessions stay where they began, datagrams find them there, and what belongs to all is counted once."""
import pathlib
import signal
import socket
import time

import pytest

from attacker import Channel, Refused, plaintext
from direct import PlainUdp, ask, dial, dial_tls, log_in
from harness import CONNECT, MARKER, SocksUdp, run, socks_request, sum_ledger, wait_for

# A connection that may ask for a plain association goes to worker 0; from loopback they all may, unless this is said.
SPREAD = 'plain_udp:\n  from: []\n'


class Server:
    def __init__(self, lab, workers=3, config=SPREAD):
        self.lab = lab
        self.folder, self.port, self.invite = lab.init()
        lab.edit_config(self.folder, f'workers: {workers}\n{config}')
        self.program = lab.server(self.folder)

    def channel(self, invite=None):
        return self.lab.open(Channel(self.port, invite or self.invite))

    def status(self):
        return self.program.status()

    def sessions(self):
        return [worker['sessions'] for worker in self.status()['workers']]


@pytest.fixture
def server(lab):
    return Server(lab)


def test_sessions_spread_and_each_one_gets_its_own_datagrams(server, echo):
    channels = [server.channel() for _ in range(40)]
    assert sum(server.sessions()) == 40 and min(server.sessions()) > 0, 'every worker has some'
    for channel in channels:
        channel.validate()
    for turn in range(5):
        for number, channel in enumerate(channels):
            channel.send_udp(plaintext(1, echo.address, b'%d of %d' % (turn, number)))
        for number, channel in enumerate(channels):
            assert channel.hear_datagram() == plaintext(1, echo.address, b'%d of %d' % (turn, number))
    status = server.status()
    assert min(worker['datagrams_received'] for worker in status['workers']) > 0
    assert sum(worker['datagrams_received'] for worker in status['workers']) == status['up']['received']
    assert (status['sessions'], status['associations'], status['tls_handshakes']) == (40, 40, 40)
    for direction in 'up', 'down':
        assert sum_ledger(status[direction]) == status[direction]['received']
        assert not any(status[direction]['drops'].values()), status[direction]


def test_records_of_no_worker_are_junk_of_somebody(server):
    """The byte of the channel id that names the worker is anything."""
    sock = server.lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    for worker in range(256):
        sock.sendto(b'\x08' + bytes([worker]) + bytes(60), ('127.0.0.1', server.port))
    sock.sendto(b'', ('127.0.0.1', server.port))
    sock.sendto(b'\x08', ('127.0.0.1', server.port))
    drops = wait_for(lambda: server.status()['up']['received'] == 258 and server.status()['up']['drops'], 5, 'all counted')
    assert (drops['unknown_channel'], drops['junk'], drops['length']) == (256, 1, 1)


def test_a_limit_is_one_for_all_workers(lab):
    server = Server(lab, config=SPREAD + 'limits:\n  sessions: 6\n  associations: 10\ntimeouts:\n  grace_seconds: 0\n')
    channels = [server.channel() for _ in range(6)]
    for _ in range(6):
        with pytest.raises(Refused) as refused:
            server.channel()
        assert refused.value.args == (1, 'limit')
    channels[0].close()
    wait_for(lambda: sum(server.sessions()) == 5, 5, 'the end of a session')
    server.channel()


def test_the_unauthenticated_are_counted_together(lab):
    server = Server(lab, config=SPREAD + 'limits:\n  unauthenticated_per_address: 5\n  handshake_seconds: 2\n')
    socks = [lab.open(dial(server.port)) for _ in range(12)]
    wait_for(lambda: server.status()['tcp']['refused_caps'] == 7, 5, 'caps')
    assert server.status()['tcp']['before_request'] == 5
    wait_for(lambda: server.status()['tcp']['before_request'] == 0, 5, 'deadlines')
    assert len(socks) == 12 and server.status()['tcp']['refused_deadline'] == 5


def test_revoking_ends_sessions_on_every_worker(server, lab):
    bob = lab.invite(server.folder, 'bob')
    wait_for(lambda: 'user file read again' in server.program.err, 5, 'reload')
    stay, gone = [server.channel() for _ in range(12)], [server.channel(bob) for _ in range(12)]
    assert run('revoke', server.folder, 'bob').returncode == 0
    start = time.monotonic()
    wait_for(lambda: sum(server.sessions()) == 12, 2, 'the end of all of them')
    assert time.monotonic() - start < 1.5
    for channel in gone:
        with pytest.raises((ConnectionError, EOFError, OSError, AssertionError)):
            channel.sync()
    for channel in stay:
        channel.sync()
    with pytest.raises((ConnectionError, EOFError, AssertionError)):
        server.channel(bob)


def test_what_begins_in_the_clear_is_served_by_worker_0(lab, tcp_echo):
    server = Server(lab, config=SPREAD + 'plain_socks:\n  from: ["127.0.0.0/8"]\n')
    for _ in range(12):
        sock = lab.open(dial(server.port))
        log_in(sock, server.invite)
        assert ask(sock, CONNECT, *tcp_echo.address)[0] == 0
        sock.sendall(MARKER)
        assert sock.recv(64) == MARKER
    assert server.status()['tcp']['relays'] == 12


def test_plain_datagrams_arrive_where_their_connection_is(lab, echo):
    server = Server(lab, config='plain_udp:\n  from: ["127.0.0.0/8"]\n')
    for number in range(12):
        tls = dial_tls(server.folder, server.port)
        log_in(tls, server.invite)
        plain = lab.open(PlainUdp(tls))
        assert plain.code == 0 and plain.relay[1] == server.port
        assert plain.ask(b'%d' % number, echo.address) == (b'%d' % number, echo.address)


def test_clients_do_not_notice(lab, server, echo, tcp_echo):
    clients = [lab.client(server.invite, '--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}') for _ in range(4)]
    for client in clients:
        assert client.words['path'] == 'udp'
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendto(MARKER, client.forwards[0])
            assert sock.recv(64) == MARKER
        for _ in range(4):
            app, code, _ = socks_request(client.socks, CONNECT, *tcp_echo.address)
            with app:
                assert code == 0
                app.sendall(MARKER)
                assert app.recv(64) == MARKER


def test_the_end_of_the_server_ends_all(server):
    channels = [server.channel().validate() for _ in range(12)]
    server.program.stop(signal.SIGTERM)
    for channel in channels:
        with pytest.raises((ConnectionError, EOFError, OSError, AssertionError)):
            channel.sync()


def test_a_second_server_finds_the_port_taken(lab, server):
    second = lab.start('server', 'server', '-c', server.folder / 'server.yaml')
    second.process.wait(10)
    assert f'sealgram: error: cannot listen on TCP 127.0.0.1:{server.port} (listen): Address already in use: ' in second.err
    second.stop(expected=1)
    lab.programs.remove(second)


@pytest.mark.no_sanitize  # a sanitizer may have threads of its own
def test_as_many_threads_as_workers(lab):
    server = Server(lab, workers=5, config='limits:\n  password_threads: 1\n')
    assert len(server.status()['workers']) == 5
    assert len(list(pathlib.Path(f'/proc/{server.program.process.pid}/task').iterdir())) == 5 + 3, 'passwords; files; names'


# --- the client ---

def test_a_client_with_several_sessions(lab, server, echo, tcp_echo):
    """Sources are spread over the sessions; each gets its own answers, and the status is the sum."""
    client = lab.client(server.invite, '--workers', 3, '--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}',
                        '--forward', f'tcp:127.0.0.1:0=127.0.0.1:{tcp_echo.address[1]}')
    assert client.words['path'] == 'udp' and len(client.forwards) == 2
    assert (server.status()['sessions'], client.status()['workers'], client.status()['sessions_opened']) == (3, 3, 3)
    socks = [lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(60)]
    for number, sock in enumerate(socks):
        sock.settimeout(5)
        sock.sendto(b'%d' % number, client.forwards[0])
    for number, sock in enumerate(socks):
        assert sock.recv(64) == b'%d' % number
    for _ in range(12):
        with socket.create_connection(client.forwards[1], 5) as app:
            app.settimeout(5)
            app.sendall(MARKER)
            assert app.recv(64) == MARKER
        association = lab.open(SocksUdp(client.socks))
        assert association.ask(MARKER, echo.address) == (MARKER, echo.address)
    status = client.status()
    assert status['associations'] == 72 and status['up']['forwarded'] == 72 == status['down']['forwarded']
    assert server.status()['associations'] == 72
    assert len(list(pathlib.Path(f'/proc/{client.process.pid}/task').iterdir())) >= 3


def test_a_client_with_several_sessions_ends_and_fails_as_one(lab, server):
    client = lab.client(server.invite, '--workers', 4)
    assert client.out.count('ready') == 1
    client.stop(signal.SIGINT)
    wait_for(lambda: sum(server.sessions()) == 0, 5, 'CLOSE of all')
    refused = lab.client(server.invite.replace('alice', 'nobody'), '--workers', 4, ready=False)
    refused.process.wait(10)
    assert refused.process.returncode == 1 and 'the invite was refused' in refused.err and refused.out == ''
    lab.programs.remove(refused)
    taken = lab.start('client', 'client', '--workers', 2, '--socks', f'127.0.0.1:{server.port}', server.invite)
    taken.process.wait(10)
    assert f'cannot listen on TCP 127.0.0.1:{server.port} (--socks): Address already in use' in taken.err
    lab.programs.remove(taken)
    for text in '0', '65', '-1', 'two', '1x':
        assert run('client', '--workers', text, '@none').returncode == 2


def test_a_client_with_several_sessions_comes_back(lab, server, echo):
    client = lab.client(server.invite, '--workers', 2, '--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    socks = [lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(8)]
    server.program.kill()
    server.program = lab.server(server.folder)
    wait_for(lambda: sum(server.sessions()) == 2, 5, 'both sessions')
    for sock in socks:
        sock.settimeout(5)
        sock.sendto(MARKER, client.forwards[0])
        assert sock.recv(64) == MARKER
