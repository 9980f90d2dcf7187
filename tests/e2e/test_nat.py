"""The server as a NAT (RFC 4787): mapping, filtering, ports, hairpin, source addresses, errors; sealed and plain."""
import contextlib
import os
import socket

import pytest

from direct import PlainUdp, dial_tls, log_in
from harness import SocksUdp, sum_ledger, wait_for

KINDS = ['sealed', 'plain']


class Server:
    """A server, and associations at it: sealed ones through a client, plain ones at its own port."""

    def __init__(self, lab, config='', **options):
        self.lab = lab
        self.folder, self.port, self.invite = lab.init(**options)
        lab.edit_config(self.folder, config)
        self.program = lab.server(self.folder)
        self.client = None

    def associate(self, kind, host='127.0.0.1'):
        if kind == 'plain':
            tls = dial_tls(self.folder, self.port, host)
            log_in(tls, self.invite)
            app = self.lab.open(PlainUdp(tls))
            assert app.code == 0
            return app
        self.client = self.client or self.lab.client(self.invite)
        return self.lab.open(SocksUdp(self.client.socks))

    def drops(self, reason, way='down'):
        return self.program.status()[way]['drops'].get(reason, 0)

    def adds_up(self):
        for way in ('up', 'down'):
            ledger = self.program.status()[way]
            assert ledger['received'] == sum_ledger(ledger), (way, ledger)


def peer(lab, host='127.0.0.1'):
    """A UDP socket of a target."""
    sock = lab.open(socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind((host, 0))
    sock.settimeout(5)
    return sock


def mapped(app, sock):
    """The outbound address of an association, as a target sees it."""
    app.send(b'where am I', sock.getsockname()[:2])
    data, source = sock.recvfrom(100)
    assert data == b'where am I'
    return source[:2]


# --- mapping and filtering ---

@pytest.mark.parametrize('kind', KINDS)
def test_one_port_for_all_targets_of_a_family(lab, kind):
    app = Server(lab).associate(kind)
    assert len({mapped(app, peer(lab, f'127.0.0.{last}')) for last in range(1, 9)}) == 1
    assert len({mapped(app, peer(lab, '::1')) for _ in range(5)}) == 1


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('filtering, passed', [
    (None, ['target', 'other port']),
    ('address-dependent', ['target', 'other port']),
    ('address-and-port-dependent', ['target']),
    ('endpoint-independent', ['target', 'other port', 'other host']),
])
def test_who_may_answer_is_as_configured(lab, kind, filtering, passed):
    server = Server(lab, f'filtering: {filtering}' if filtering else '')
    app = server.associate(kind)
    senders = {'target': peer(lab), 'other port': peer(lab), 'other host': peer(lab, '127.0.0.5')}
    mapping = mapped(app, senders['target'])
    for _ in range(3):
        for name in ('other host', 'other port', 'target'):
            senders[name].sendto(name.encode(), mapping)
    got = [app.receive() for _ in range(3 * len(passed))]
    assert sorted(got) == sorted(3 * [(name.encode(), senders[name].getsockname()) for name in passed])
    wait_for(lambda: server.drops('filtered') == 9 - len(got), what='drops filtered')
    assert server.program.status()['down']['received'] == 9
    server.adds_up()


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('filtering', ['address-dependent', 'address-and-port-dependent'])
def test_who_was_filtered_may_answer_once_it_was_sent_to(lab, kind, filtering):
    server = Server(lab, f'filtering: {filtering}')
    app = server.associate(kind)
    target, other = peer(lab), peer(lab, '127.0.0.5')
    mapping = mapped(app, target)
    other.sendto(b'too early', mapping)
    wait_for(lambda: server.drops('filtered') == 1, what='drop filtered')
    assert mapped(app, other) == mapping
    other.sendto(b'in time', mapping)
    assert app.receive() == (b'in time', other.getsockname())
    server.adds_up()


@pytest.mark.parametrize('filtering', ['address-and-port-dependent', 'endpoint-independent'])
def test_filtering_of_ipv6_is_the_same(lab, filtering):
    server = Server(lab, f'filtering: {filtering}')
    app = server.associate('sealed')
    target, other = peer(lab, '::1'), peer(lab, '::1')
    mapping = mapped(app, target)
    other.sendto(b'other', mapping)
    if filtering == 'endpoint-independent':
        assert app.receive() == (b'other', other.getsockname()[:2])
    else:
        wait_for(lambda: server.drops('filtered') == 1, what='drop filtered')
    target.sendto(b'target', mapping)
    assert app.receive() == (b'target', target.getsockname()[:2])
    server.adds_up()


# --- ports ---

def free_range(count):
    """So many ports in a row that nobody has, below those that the kernel gives out, and of this test process alone."""
    lowest = 21_000 + 1000 * int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
    for first in range(lowest, lowest + 1000 - count, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                for family, host in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::1')):
                    stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)).bind((host, port))
            return range(first, first + count)
    raise RuntimeError('no range is free')


@pytest.mark.parametrize('kind', KINDS)
def test_associations_send_from_the_range_of_ports(lab, kind):
    ports = free_range(40)
    server = Server(lab, f'udp_ports: {ports[0]}-{ports[-1]}')
    target, target6 = peer(lab), peer(lab, '::1')
    apps = [server.associate(kind) for _ in range(20)]
    for sock in (target, target6):
        seen = {mapped(app, sock)[1] for app in apps}
        assert len(seen) == len(apps) and seen <= set(ports)
    server.adds_up()


def test_where_the_range_is_used_up_the_association_is_refused(lab):
    ports = free_range(4)
    taken = lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    taken.bind(('0.0.0.0', ports[1]))
    server = Server(lab, f'udp_ports: {ports[0]}-{ports[-1]}')
    target = peer(lab)
    sealed = [server.associate('sealed') for _ in range(2)]
    plain = [server.associate('plain') for _ in range(2)]
    seen = [mapped(app, target)[1] for app in (*sealed, plain[0])]
    assert sorted([*seen, ports[1]]) == list(ports)
    for count, app in enumerate((plain[1], server.associate('sealed')), 1):
        app.send(b'no port is left', target.getsockname())
        wait_for(lambda count=count: server.drops('no_socket', 'up') == count, what='drop no_socket')
    assert [mapped(app, target)[1] for app in (*sealed, plain[0])] == seen
    sealed[0].close()  # and one is free again
    wait_for(lambda: server.program.status()['associations'] == 3, what='end of the association')
    assert mapped(plain[1], target)[1] == seen[0]
    server.adds_up()


def test_relay_ports_of_plain_associations_are_of_the_range(lab):
    ports = free_range(10)
    server = Server(lab, f'udp_ports: {ports[0]}-{ports[-1]}')
    for _ in range(2):
        tls = dial_tls(server.folder, server.port)
        log_in(tls, server.invite)
        app = lab.open(PlainUdp(tls, named=False))
    assert app.relay[1] in ports
    assert mapped(app, peer(lab))[1] in set(ports) - {app.relay[1]}
