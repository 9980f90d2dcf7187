"""The server as a NAT (RFC 4787): mapping, filtering, ports, hairpin, source addresses, errors; sealed and plain."""
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
