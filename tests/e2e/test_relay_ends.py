"""How relays end: what a side received before the other's end is delivered, then the end as it was, whatever the order."""
import concurrent.futures
import contextlib
import fcntl
import itertools
import os
import select
import signal
import socket
import struct
import termios
import threading
import time

import pytest
from OpenSSL import SSL

from attacker import Records, Target, credentials, login, request, update_keys
from harness import CONNECT, TcpServer, receive, socks_request, wait_for

PIECE = 5_000


def await_acknowledgement(sock):
    """Waits until the other side's kernel has all bytes of a socket's."""
    end = time.monotonic() + 20
    while fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)) != bytes(4):
        assert time.monotonic() < end, 'no acknowledgement'
        time.sleep(0.001)


class Plain:
    """One end of a relay, over TCP: acts by name, and tells what it heard."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(20)

    def act(self, name):
        getattr(self, name)()

    def data(self):
        self.sock.sendall(os.urandom(PIECE))
        await_acknowledgement(self.sock)

    def fin(self):
        self.sock.shutdown(socket.SHUT_WR)

    def rst(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.sock.close()

    def recv(self, count):
        return self.sock.recv(count)

    def hear(self, count):
        """(bytes, end) with end 'eof', 'reset' or, once count bytes are there, None."""
        heard = 0
        while count is None or heard < count:
            try:
                piece = self.recv(65536)
            except ConnectionError:
                return heard, 'reset'
            if not piece:
                return heard, 'eof'
            heard += len(piece)
        return heard, None

    def close(self):
        self.sock.close()


class Secret(Plain):
    """The same over TLS: `fin` ends it without a close_notify before it, unless `notify` came first."""

    def __init__(self, tls):
        super().__init__(tls.sock)
        self.tls = tls
        tls.sock.settimeout(None)
        tls.patience(20)

    def data(self):
        self.tls.sendall(os.urandom(PIECE))
        await_acknowledgement(self.sock)

    def keys(self):
        """New keys from the next bytes on; the peer is asked for the same."""
        update_keys(self.tls)

    def notify(self):
        self.tls.ssl.shutdown()

    def recv(self, count):
        try:
            return self.tls.ssl.recv(count)
        except SSL.ZeroReturnError:
            return b''
        except SSL.WantReadError as late:
            raise TimeoutError from late
        except SSL.Error as error:
            raise ConnectionError from error


PLAIN = [('data',), ('data', 'fin'), ('data', 'rst'), ('data', 'fin', 'rst'), ('fin',), ('rst',)]
SECRET = [('data',), ('data', 'notify'), ('data', 'fin'), ('data', 'rst'), ('data', 'notify', 'rst'), ('notify',), ('fin',)]
KEYS = ('keys', 'data', 'keys', 'data', 'rst')


def merges(first, second):
    """Every order of the acts of two sides, each side's own order kept: lists of (side, act)."""
    for places in itertools.combinations(range(len(first) + len(second)), len(first)):
        left, right = iter(first), iter(second)
        yield [(0, next(left)) if at in places else (1, next(right)) for at in range(len(first) + len(second))]


def is_clean(acts, is_secret):
    return ('notify' if is_secret else 'fin') in acts


def expected(mine, other, i_am_secret, other_is_secret):
    """What a side must hear: (bytes, the ends that are right), None if it has hung up itself. Ends: None is no end."""
    if 'rst' in mine:
        return None
    is_truncated = i_am_secret and 'fin' in mine and 'notify' not in mine
    if is_truncated:
        ends = (None, 'eof', 'reset')
    elif is_clean(other, other_is_secret):
        ends = ('eof',)
    elif 'rst' in other or (other_is_secret and 'fin' in other):
        ends = ('reset',)
    else:
        ends = (None,)
    return PIECE * other.count('data'), ends


def play(cases, stopped, secret):
    """Each case's acts while a program stands still; returns what was heard otherwise than it had to be."""
    stopped.process.send_signal(signal.SIGSTOP)
    for sides, _, _, order in cases:
        for side, act in order:
            sides[side].act(act)
    time.sleep(0.1)  # for the program between one side and the stopped one; if it needs more, one more order is tried
    stopped.process.send_signal(signal.SIGCONT)

    def check(case):
        sides, near, far, order = case
        wrong = []
        for side, must in ((0, expected(near, far, secret, False)), (1, expected(far, near, False, secret))):
            if must:
                count, ends = must
                heard = sides[side].hear(count if None in ends else None)
                if heard[0] != count or heard[1] not in ends:
                    wrong.append(f'{order}: side {side} heard {heard}, not {must}')
        return wrong
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        return [text for texts in pool.map(check, cases) for text in texts]


def every_order(nears):
    return [(near, far, order) for near in nears for far in PLAIN[:2 if near == KEYS else None] for order in merges(near, far)]


@pytest.fixture
def held(lab):
    """A target that keeps its connections: (address, a function that gives the next as an end)."""
    listener = lab.open(socket.create_server(('127.0.0.1', 0), backlog=500))
    listener.settimeout(10)
    return listener.getsockname(), lambda: lab.open(Plain(listener.accept()[0]))


@pytest.fixture
def by_application(lab, held):
    """(server, client, a function that makes a relay: its two ends) for an application at our client."""
    server, client = lab.pair()

    def make():
        sock, code, _ = socks_request(client.socks, CONNECT, *held[0])
        assert code == 0
        return lab.open(Plain(sock)), held[1]()
    return server, client, make


@pytest.fixture
def by_third_party(lab, held):
    """The same for a client of TLS that is not ours; the client is None."""
    target = Target(lab).start()

    def make():
        tls = target.tls().greet(target.invite)
        tls.sendall(request(CONNECT, *held[0]))
        assert tls.reply()[0] == 0
        return lab.open(Secret(tls)), held[1]()
    return target.server, None, make


def run_orders(made, nears, stopped):
    """All orders, a hundred relays at a time."""
    server, client, make = made
    orders, wrong = every_order(nears), []
    for at in range(0, len(orders), 100):
        cases = [(make(), *order) for order in orders[at:at + 100]]
        wrong += play(cases, stopped, secret=client is None)
        for sides, *_ in cases:
            for side in sides:
                side.close()
        wait_for(lambda: not server.status()['tcp']['relays'] and not (client and client.status()['tunnels']),
                 what='the end of all relays')
    assert not wrong, f'{len(wrong)} of {len(orders)}:\n' + '\n'.join(wrong[:20])


@pytest.mark.parametrize('stopped', ['server', 'client'])
def test_every_order_of_an_applications_and_its_targets_acts(by_application, stopped):
    server, client, _ = by_application
    run_orders(by_application, PLAIN, server if stopped == 'server' else client)


def test_every_order_of_a_third_partys_and_its_targets_acts(by_third_party):
    run_orders(by_third_party, [*SECRET, KEYS], by_third_party[0])


# --- a target that answers early ---

ANSWER = b'HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge'


def refuse(connection):
    """Answers before it has read what comes, and closes: its kernel sends a reset behind the answer."""
    connection.recv(100)
    time.sleep(0.02)
    connection.sendall(ANSWER)
    connection.close()


def upload(end, size, reads_meanwhile):
    """Sends so much, as far as it can; what it heard, until the end."""
    heard, left = b'', size
    with contextlib.suppress(OSError, SSL.Error):
        while left > 0 and not (reads_meanwhile and select.select([end.sock], [], [], 0)[0]):
            piece = bytes(min(left, 65536))
            left -= (end.sock if type(end) is Plain else end.tls.ssl).send(piece)  # pylint: disable=unidiomatic-typecheck
    with contextlib.suppress(ConnectionError):
        while piece := end.recv(65536):
            heard += piece
    return heard


@pytest.mark.parametrize('reads_meanwhile', [True, False])
@pytest.mark.parametrize('role', ['application', 'third party'])
def test_an_answer_before_the_end_of_the_upload_arrives(lab, role, reads_meanwhile):
    target = lab.open(TcpServer(refuse))
    if role == 'application':
        _, client = lab.pair()
    else:
        server = Target(lab).start()
    for size in [200_000, 4_000_000] * 10:
        if role == 'application':
            end = Plain(socks_request(client.socks, CONNECT, *target.address)[0])
        else:
            tls = server.tls().greet(server.invite)
            tls.sendall(request(CONNECT, *target.address))
            assert tls.reply()[0] == 0
            end = Secret(tls)
        with contextlib.closing(end):
            assert upload(end, size, reads_meanwhile) == ANSWER


@pytest.mark.parametrize('way', ['down', 'up'])
def test_a_reset_waits_for_who_reads_late(by_application, way):
    """More than one program's buffers hold; all of it was acknowledged before the reset."""
    app, target = by_application[2]()
    sender, reader = (target, app) if way == 'down' else (app, target)
    size = 1_500_000
    sender.sock.sendall(bytes(size))
    await_acknowledgement(sender.sock)
    sender.rst()
    time.sleep(0.5)  # so that the reset has every chance to come too early
    assert reader.hear(None) == (size, 'reset')


# --- what follows an end ---

def test_keys_change_while_an_upload_goes_on_after_the_target_has_ended(lab, held):
    """The server has said its end, and must still answer for the keys: nothing of the upload may be lost by that."""
    server = Target(lab).start()
    tls = server.tls()
    records = Records(tls)
    records.sendall(b'\5\1\2' + login(*credentials(server.invite)))
    assert tls.receive(4) == b'\5\2\1\0'
    records.sendall(request(CONNECT, *held[0]))
    assert tls.reply()[0] == 0
    far = held[1]()
    far.fin()
    assert Secret(tls).hear(None) == (0, 'eof')
    for wants_answer in (False, True, True, False):
        tls.sock.sendall(records.make_key_update(wants_answer))
        records.sendall(bytes(1000))
        assert far.hear(1000) == (1000, None)
    records.sendall(b'\1\0', Records.ALERT)
    assert far.hear(None) == (0, 'eof')


def test_keys_change_while_the_other_way_is_full(by_third_party):
    """The server may not answer in the middle of a record that waits for room; both ways go on."""
    near, far = by_third_party[2]()
    size = 30_000_000
    writer = threading.Thread(target=lambda: (far.sock.sendall(bytes(size)), far.fin()))
    writer.start()
    time.sleep(0.5)  # until every buffer is full; if it takes longer, less is tried
    for _ in range(4):
        near.keys()
        near.data()
        assert far.hear(PIECE) == (PIECE, None)
    assert near.hear(None) == (size, 'eof')
    writer.join()
    near.notify()
    assert far.hear(None) == (0, 'eof')


def test_what_follows_a_close_notify_does_not_cost_the_answer(lab, held):
    """Bytes that nobody reads would turn the server's last close into a reset, which overtakes what is on its way."""
    server = Target(lab).start()
    tls = server.tls()
    records = Records(tls)
    records.sendall(b'\5\1\2' + login(*credentials(server.invite)))
    assert tls.receive(4) == b'\5\2\1\0'
    records.sendall(request(CONNECT, *held[0]))
    assert tls.reply()[0] == 0
    far = held[1]()
    records.sendall(b'\1\0', Records.ALERT)
    assert far.hear(None) == (0, 'eof')
    tls.sock.sendall(records.make_key_update())
    size = 1_000_000
    far.sock.sendall(bytes(size))
    far.close()
    wait_for(lambda: not server.status()['tcp']['relays'], what='the end of the relay')
    assert Secret(tls).hear(None) == (size, 'eof')


@pytest.mark.parametrize('made, acts', [('by_application', ('fin',)), ('by_third_party', ('notify',)),
                                        ('by_third_party', ('notify', 'fin'))])
def test_a_reset_after_the_end_is_heard_by_a_silent_target(request, made, acts):
    """The end of one side leaves the relay waiting for the other; a reset says that nobody waits any more."""
    near, target = request.getfixturevalue(made)[2]()
    for act in acts:
        near.act(act)
    assert target.hear(None) == (0, 'eof')
    near.rst()
    poll = select.poll()
    poll.register(target.sock, 0)
    assert any(what & select.POLLERR for _, what in poll.poll(10_000)), 'the target heard of no reset'


@pytest.mark.parametrize('made', ['by_application', 'by_third_party'])
def test_a_reset_of_the_target_after_its_end_is_heard(request, made):
    near, target = request.getfixturevalue(made)[2]()
    target.fin()
    assert near.hear(None) == (0, 'eof')
    target.rst()
    poll = select.poll()
    poll.register(near.sock, 0)
    assert any(what & select.POLLERR for _, what in poll.poll(10_000)), 'the application heard of no reset'


def test_an_upload_into_a_target_that_has_gone_ends(by_application):
    """Who sends and never reads is not kept by what it has not read."""
    server, client, make = by_application
    app, target = make()
    target.data()
    target.close()
    thread = threading.Thread(target=lambda: upload(app, 1 << 30, False))
    thread.start()
    wait_for(lambda: not server.status()['tcp']['relays'] and not client.status()['tunnels'], 15, 'the end of the relay')
    thread.join()
