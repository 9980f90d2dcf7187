"""The path of a session over a bad network: UDP that is blocked, falls silent and comes back; paths of other sizes."""
import concurrent.futures
import random
import socket
import statistics
import time

import pytest

from emulated import Emulated
from harness import SocksUdp, UdpEcho, sum_ledger, wait_for
from network import CLIENT, SERVER, ip

pytestmark = pytest.mark.netns
RTT_MS = 20
RUNS = 5


class Setting:
    """Server, client, an application and an echo server, on both sides of the emulated network."""

    def __init__(self, lab, *commands, mtu=1500):
        self.network = Emulated(lab, *commands, mtu=mtu)
        _, invite, self.server = self.network.server()
        self.client = self.network.client(invite)
        self.echo = lab.open(self.network.call(SERVER, UdpEcho))
        self.app = lab.open(self.network.call(CLIENT, SocksUdp, self.client.socks))

    def path(self):
        return self.client.status()['path']

    def ask(self, size=100, seconds=1.0):
        """Whether a datagram of its own kind comes back within the time."""
        data = random.randbytes(size)
        self.app.udp.settimeout(seconds)
        end = time.monotonic() + seconds
        self.app.send(data, self.echo.address)
        while time.monotonic() < end:
            try:
                if self.app.receive()[0] == data:
                    return True
            except TimeoutError:
                return False
        return False

    def talk(self, seconds, until=lambda: False):
        """Fifty datagrams a second; when the last one without an answer was sent before answers came again."""
        end, number, gap_since = time.monotonic() + seconds, 0, None
        while time.monotonic() < end and not until():
            number += 1
            sent = time.monotonic()
            if self.ask(seconds=0.02 + RTT_MS / 1000):
                gap_since = None
            elif gap_since is None:
                gap_since = sent
        return gap_since

    def seconds_until_answers(self, limit):
        start = time.monotonic()
        while not self.ask(seconds=0.05):
            assert time.monotonic() - start < limit, self.client.err
        return time.monotonic() - start


@pytest.mark.slow
def test_udp_that_is_blocked_from_the_start(lab):
    """The first answer comes one round trip after the handshake: TCP, TLS, and the request each take one. Median of 5."""
    rtt = 0.1
    network = Emulated(lab, f'delay {1000 * rtt / 2}', 'blackhole on udp')
    _, invite, server = network.server()
    echo = lab.open(network.call(SERVER, UdpEcho))
    waits = []
    for number in range(RUNS):
        port = 20000 + number
        app = lab.open(network.call(CLIENT, socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
        app.settimeout(0.005)
        app.connect(('127.0.0.1', port))
        start = time.monotonic()
        client = network.client(invite, '--forward', f'udp:127.0.0.1:{port}=127.0.0.1:{echo.address[1]}', ready=False)
        while True:
            assert time.monotonic() - start < 5, client.err
            try:
                app.send(b'first')
                app.recv(100)
                break
            except ConnectionRefusedError:  # the client does not listen yet
                start = time.monotonic()
            except TimeoutError:
                pass
        waits.append(time.monotonic() - start)
        assert client.status()['path'] == 'stream'
        client.stop()
    assert statistics.median(waits) < 4 * rtt + 0.1, waits
    assert server.status()['sessions_on_udp'] == 0


def go_through_a_block(setting):
    """UDP is blocked for 5 s under traffic: seconds until answers come again, and until UDP is in use again after it."""
    assert setting.talk(0.5) is None
    setting.network.command('blackhole on udp')
    blocked = time.monotonic()
    silent = setting.seconds_until_answers(3)
    assert setting.path() == 'stream'
    setting.talk(blocked + 5 - time.monotonic())
    setting.network.command('blackhole off udp')
    start = time.monotonic()
    setting.talk(10, until=lambda: setting.path() == 'udp')
    return silent, time.monotonic() - start


@pytest.mark.slow
def test_udp_that_falls_silent_and_comes_back(lab):
    """Answers again within 1.5 s; on UDP within 5 s, a probe interval and three round trips. Medians of five at a time."""
    settings = [Setting(lab, f'delay {RTT_MS / 2}') for _ in range(RUNS)]
    for setting in settings:
        wait_for(lambda setting=setting: setting.path() == 'udp', 5, 'UDP')
    with concurrent.futures.ThreadPoolExecutor(RUNS) as pool:
        rounds = list(pool.map(go_through_a_block, settings))
    assert statistics.median(silent for silent, _ in rounds) < 1.5, rounds
    assert statistics.median(back for _, back in rounds) < 4 + 3 * RTT_MS / 1000 + 0.3, rounds  # the interval is 4 s by then
    for setting in settings:  # said once for each change
        assert setting.client.err.count('path: stream') == 1 and setting.client.err.count('path: udp') == 2
        for ledger in (setting.server.status()['up'], setting.client.status()['down']):
            assert ledger['received'] == sum_ledger(ledger)


def test_idle_clients_do_not_probe(lab):
    setting = Setting(lab, f'delay {RTT_MS / 2}')
    wait_for(lambda: setting.path() == 'udp', 5, 'UDP')
    wait_for(lambda: setting.client.status()['record_max'] == 1472, 3, 'the size')
    time.sleep(1)
    before = setting.network.ledger()['up']['udp']['received']
    time.sleep(2)
    assert setting.network.ledger()['up']['udp']['received'] == before


@pytest.mark.slow
@pytest.mark.parametrize('mtu', [1280, 1400, 1500])
def test_the_longest_record_is_found(lab, mtu):
    """The devices say 1500 and nobody says otherwise: found within 3 s both ways, and every size comes back unchanged."""
    setting = Setting(lab, f'delay {RTT_MS / 2}', f'mtu {mtu} icmp off')
    record_max = mtu - 28
    wait_for(lambda: setting.client.status()['record_max'] == record_max, 3, 'the size')
    longest = record_max - 52  # what a record of that size holds
    for size in (0, 1, longest - 1, longest, longest + 1, 4000, 20000, 65497):
        assert setting.ask(size, seconds=3), size
    up, down = setting.server.status()['up'], setting.client.status()['down']
    for ledger in up, down:
        assert (ledger['received'], ledger['streamed']) == (sum_ledger(ledger), 4)
    assert setting.path() == 'udp'


@pytest.mark.slow
def test_a_rebinding_loses_one_round_trip_of_what_comes_back(lab):
    """Until the server hears of it and what it sent before has arrived; during the challenge the stream carries."""
    rtt, every = 0.1, 0.005
    setting = Setting(lab, f'delay {1000 * rtt / 2}', 'nat both udp')
    wait_for(lambda: setting.path() == 'udp', 5, 'UDP')
    setting.app.udp.settimeout(0)
    lost = []
    for _ in range(5):
        sent, got = 0, set()

        def gather():
            try:
                while True:
                    got.add(setting.app.receive()[0])
            except BlockingIOError:
                pass
        start = time.monotonic()
        while time.monotonic() - start < 1.0 or sent < 200:
            if sent == 50:
                setting.network.command('rebind udp')
            setting.app.send(b'%d' % sent, setting.echo.address)
            sent += 1
            time.sleep(every)
            gather()
        time.sleep(2 * rtt)
        gather()
        lost.append(sent - len(got))
    assert 0 < statistics.median(lost) <= rtt / every + 1, lost
    assert setting.path() == 'udp' and 'path: stream' not in setting.client.err


@pytest.mark.slow
def test_every_size_on_a_path_of_1500(lab):
    """Each of the short ones, and the long ones in steps, out and back unchanged; the longest through a forward."""
    network = Emulated(lab, 'mtu 1500')
    _, invite, server = network.server()
    echo = lab.open(network.call(SERVER, UdpEcho))
    client = network.client(invite, '--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    app = lab.open(network.call(CLIENT, SocksUdp, client.socks))
    forward = lab.open(network.call(CLIENT, socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
    forward.connect(client.forwards[0])
    forward.settimeout(5)
    wait_for(lambda: client.status()['record_max'] == 1472, 5, 'the size')
    noise = random.randbytes(65507)
    left = [*range(1600), *range(1600, 65497, 17), 65497]
    while left:
        waiting, some = set(), 0
        while left and some + left[0] < 100_000 and len(waiting) < 50:  # what the stream may hold
            size = left.pop(0)
            some += size
            waiting.add(size)
            app.send(noise[:size], echo.address)
        while waiting:
            data, source = app.receive()
            assert source == echo.address and data == noise[:len(data)]
            waiting.remove(len(data))
    forward.send(noise)
    assert forward.recv(65536) == noise
    for ledger in server.status()['up'], client.status()['down']:
        assert ledger['received'] == sum_ledger(ledger) and not any(ledger['drops'].values())


@pytest.mark.slow
@pytest.mark.parametrize('mtu, icmp, found', [(1300, 'off', 1264), (576, 'on', 548)])
def test_a_path_that_becomes_narrower(lab, mtu, icmp, found):
    """Long datagrams fall into a black hole: seen within 3 s, while short ones go on by UDP."""
    setting = Setting(lab, f'delay {RTT_MS / 2}')
    wait_for(lambda: setting.client.status()['record_max'] == 1472, 3, 'the size')
    assert setting.ask(1400)
    setting.network.command(f'mtu {mtu} icmp {icmp}')
    start = time.monotonic()
    while not setting.ask(1400, seconds=0.1):
        assert time.monotonic() - start < 3, 'a black hole'
        assert setting.ask(100)
    assert setting.path() == 'udp'
    wait_for(lambda: setting.client.status()['record_max'] == found, 3, 'the narrower size')


@pytest.mark.parametrize('change', ['another network', 'a further network', 'another way'])
def test_a_machine_that_changes_its_addresses(lab, network, change):
    """The application's socket gets answers again at once, not when the stream is found dead after a minute."""
    _, invite, server = network.server('log: {addresses: full}')
    client = network.client(invite)
    echo = lab.open(network.call(SERVER, UdpEcho))
    app = lab.open(network.call(CLIENT, SocksUdp, client.socks))
    wait_for(lambda: client.status()['path'] == 'udp', 5, 'UDP')
    assert app.ask(b'before', echo.address, tries=3)[0] == b'before'
    side, received = network.names[CLIENT], server.status()['up']['received']
    if change == 'another network':
        ip('-n', side, 'addr', 'del', '10.77.0.1/24', 'dev', 'wire')
    ip('-n', side, 'addr', 'add', '10.77.0.9/24', 'dev', 'wire')
    if change == 'another way':  # the stream goes on from where it was
        ip('-n', side, 'route', 'add', '10.77.0.2/32', 'dev', 'wire', 'src', '10.77.0.9')
        ip('-n', side, 'addr', 'add', '10.77.0.8/24', 'dev', 'wire')
    app.udp.settimeout(0.2)
    start = time.monotonic()
    while True:
        try:
            app.send(b'after', echo.address)
            if app.receive()[0] == b'after':
                break
        except TimeoutError:
            assert time.monotonic() - start < 3, client.err
    wait_for(lambda: client.status()['path'] == 'udp', 5, 'UDP')
    wait_for(lambda: client.status()['stream'] == 'up', 5, 'a stream')
    status = client.status()
    assert (status['sessions_opened'], status['sessions_resumed']) == (1, change == 'another network')
    assert ('this machine has left the network' in client.err) == (change == 'another network')
    if change == 'another way':
        wait_for(lambda: 'path udp 10.77.0.9:' in server.err, 3, 'the new address')
        assert app.ask(b'there', echo.address, tries=3)[0] == b'there'
    assert server.status()['up']['received'] > received
