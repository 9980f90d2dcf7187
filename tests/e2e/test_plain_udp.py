"""Plain RFC 1928 UDP at the server's own UDP port: only by policy, only for the address that asked over TCP."""
import contextlib
import random
import socket

import pytest

from direct import PlainUdp, dial_tls, log_in
from emulated import Emulated
from harness import SocksUdp, UdpEcho, free_port, run, socks_address, sum_ledger, wait_for
from name_server import Dns, asking_dns, in_network_of_its_own
from network import CLIENT, HOSTS, HOSTS_6, PORT, SERVER

NOBODY = 'plain_udp:\n  from: []'


class Server:
    """A server on both families of loopback."""

    def __init__(self, lab, config='', prefix=(), **options):
        port = free_port()
        listen = [f'127.0.0.1:{port}', f'[::1]:{port}']
        self.folder, self.port, self.invite = lab.init(port=port, listen=listen, **options)
        lab.edit_config(self.folder, config)
        self.lab = lab
        self.program = lab.start('server', 'server', '-c', self.folder / 'server.yaml', '-v', prefix=prefix)
        self.program.ready()

    def associate(self, host='127.0.0.1', source=None, **options):
        """Asks for a plain association over TLS."""
        tls = dial_tls(self.folder, self.port, host, source)
        log_in(tls, self.invite)
        return self.lab.open(PlainUdp(tls, **options))

    def drops(self, reason):
        return self.program.status()['up']['drops'].get(reason, 0)

    def wait_for_drops(self, count, reason):
        wait_for(lambda: self.drops(reason) == count, what=f'{count} drops {reason}')

    def adds_up(self):
        for way in ('up', 'down'):
            ledger = self.program.status()[way]
            assert ledger['received'] == sum_ledger(ledger), (way, ledger)


@pytest.fixture
def server(lab):
    return Server(lab)


def send_from(address, packet, to):
    """One datagram of a stranger; nothing may come back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(0.2)
        sock.sendto(packet, to)
        with pytest.raises(TimeoutError):
            sock.recv(100)


def test_refused_where_policy_names_nobody(lab, echo):
    server = Server(lab, NOBODY)
    app = server.associate()
    assert app.code == 2 and app.relay == ('0.0.0.0', 0)
    assert app.tcp.recv(1) == b''
    packet = b'\0\0\0' + socks_address(*echo.address) + b'in the clear'
    send_from(('127.0.0.1', 0), packet, ('127.0.0.1', server.port))
    assert server.drops('plain_refused') == 1 and echo.count == 0
    server.adds_up()


def test_policy_is_by_the_address_of_the_connection(lab, echo):
    server = Server(lab, 'plain_udp:\n  from: ["127.0.0.2/32"]')
    assert server.associate().code == 2
    app = server.associate(source='127.0.0.2')
    assert app.code == 0
    assert app.ask(b'allowed', echo.address) == (b'allowed', echo.address)
    server.adds_up()


@pytest.mark.netns
@pytest.mark.parametrize('config, code', [('', 2), ('plain_udp:\n  from: ["10.77.0.1/32"]', 0)],
                         ids=['default', 'allowed'])
def test_from_another_host_only_by_policy(lab, network, config, code):
    folder, invite, server = network.server(config)
    target = lab.open(network.call(SERVER, UdpEcho))
    tls = network.call(CLIENT, dial_tls, folder, PORT, HOSTS[SERVER], name=HOSTS[SERVER])
    log_in(tls, invite)
    app = lab.open(network.call(CLIENT, PlainUdp, tls))
    assert app.code == code
    if code == 0:
        assert app.ask(b'in the clear', target.address) == (b'in the clear', target.address)
    else:
        packet = b'\0\0\0' + socks_address(*target.address) + b'in the clear'
        app.udp.sendto(packet, (HOSTS[SERVER], PORT))
        wait_for(lambda: server.status()['up']['drops'].get('plain_refused') == 1, what='drop plain_refused')
        assert target.count == 0


FROM_THE_WIRE = 'plain_udp:\n  from: ["10.77.0.0/24", "fd77::/64"]'


def associate_over(lab, network, folder, invite, host):
    """A plain association of the client's host, at that address of the server."""
    tls = network.call(CLIENT, dial_tls, folder, PORT, host, name=HOSTS[SERVER])
    log_in(tls, invite)
    app = lab.open(network.call(CLIENT, PlainUdp, tls))
    assert app.code == 0 and app.relay == (host, PORT)
    return app


@pytest.mark.netns
@pytest.mark.parametrize('host', [HOSTS[SERVER], HOSTS_6[SERVER]], ids=['IPv4', 'IPv6'])
def test_answers_longer_than_the_wire_takes_come_in_fragments(lab, network, host):
    """At the port that sealed records leave by, whole, before and after."""
    folder, invite, server = network.server(FROM_THE_WIRE)
    target = lab.open(network.call(SERVER, UdpEcho))
    app = associate_over(lab, network, folder, invite, host)
    client = network.client(invite)
    sealed = lab.open(network.call(CLIENT, SocksUdp, client.socks))
    wait_for(lambda: client.status()['record_max'] == 1472, 5, 'the size')
    for size in (100, 1400, 2000, 4000, 30000):
        data = random.randbytes(size)
        app.send(data, target.address)
        sealed.send(data[:1400], target.address)
        assert app.receive() == (data, target.address)
        assert sealed.receive()[0] == data[:1400]
    app.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    burst = [random.randbytes(2000) for _ in range(20)]  # what may leave as one send
    for data in burst:
        app.send(data, target.address)
    assert [app.receive()[0] for _ in burst] == burst
    down = server.status()['down']
    assert down['received'] == sum_ledger(down) and not any(down['drops'].values())
    assert client.status()['path'] == 'udp' and client.status()['record_max'] == 1472


@pytest.mark.netns
@pytest.mark.parametrize('host', [HOSTS[SERVER], HOSTS_6[SERVER]], ids=['IPv4', 'IPv6'])
def test_answers_longer_than_a_narrower_path_takes_come_in_fragments(lab, own_network, program, host):
    """The path says so when the first does not fit, which is lost; those that follow are not."""
    network = Emulated(lab, 'mtu 1300 icmp on down')
    folder, invite, _ = network.server(FROM_THE_WIRE)
    target = lab.open(network.call(SERVER, UdpEcho))
    app = associate_over(lab, network, folder, invite, host)
    app.udp.settimeout(0.5)
    app.send(bytes(1400), target.address)
    with contextlib.suppress(TimeoutError):  # the TCP connection may have been told before
        app.receive()
    app.udp.settimeout(5)
    for size in (1400, 3000):
        data = random.randbytes(size)
        assert app.ask(data, target.address) == (data, target.address)


def test_a_datagram_without_an_association_is_refused(server, echo):
    packet = b'\0\0\0' + socks_address(*echo.address) + b'nobody asked'
    send_from(('127.0.0.1', 0), packet, ('127.0.0.1', server.port))
    assert server.drops('plain_refused') == 1 and echo.count == 0
    server.adds_up()


@pytest.mark.parametrize('named', [True, False], ids=['port named', 'first datagram'])
@pytest.mark.parametrize('host', ['127.0.0.1', '::1'])
def test_allowed_from_loopback_to_both_families_and_names(server, echo, echo6, named_echo, host, named):
    app = server.associate(host, named=named)
    assert app.code == 0 and app.relay == (host, server.port)
    assert app.ask(b'four', echo.address) == (b'four', echo.address)
    assert app.ask(b'six', echo6.address) == (b'six', echo6.address)
    data, (address, port) = app.ask(b'name', ('localhost', named_echo.address[1]))
    assert data == b'name' and address in ('127.0.0.1', '::1') and port == named_echo.address[1]
    assert len(echo.sources) == len(echo6.sources) == len(named_echo.sources) == 1
    status = server.program.status()
    assert status['plain_associations'] == 1 and status['sessions'] == 0
    server.adds_up()


def test_a_name_is_kept_and_one_that_does_not_resolve_is_counted(server, named_echo):
    app = server.associate()
    for number in range(5):
        assert app.ask(b'%d' % number, ('localhost', named_echo.address[1]))[0] == b'%d' % number
    app.send(b'lost', ('no-such-name.invalid', 53))
    server.wait_for_drops(1, 'resolve_failed')
    server.adds_up()


@pytest.mark.netns
def test_datagrams_that_wait_for_a_name_go_to_one_address_in_order(lab, own_network, program):
    """Its address is another one each time: what is sent before the first answer, and right after it, shares that."""
    def body():
        turns = [f'127.0.0.{number}' for number in range(2, 8)]
        lab.open(Dns(seconds=0.2, turn=[[turn] for turn in turns]))
        server = Server(lab, prefix=asking_dns(lab, program))
        targets = [lab.open(UdpEcho(turns[0], keep=True))]
        targets += [lab.open(UdpEcho(turn, targets[0].address[1], keep=True)) for turn in turns[1:]]
        app, name = server.associate(), ('turn', targets[0].address[1])
        sent = [b'%d' % number for number in range(6)]
        for data in sent[:4]:
            app.send(data, name)
        got = [app.receive()]
        for data in sent[4:]:
            app.send(data, name)
        got += [app.receive() for _ in sent[1:]]
        assert got == [(data, targets[0].address) for data in sent]
        assert targets[0].received == sent and sum(target.count for target in targets) == len(sent)
        server.adds_up()
    in_network_of_its_own(body)


@pytest.mark.netns
def test_what_may_wait_for_names_is_bounded(lab, own_network, program):
    """16 look-ups with 16 datagrams each, and 256 KiB; what still waits is accounted for at the end."""
    def body():
        lab.open(Dns(silent=True))
        server = Server(lab, prefix=asking_dns(lab, program))
        for expected, sent in ((16, [(b'', 'one.test')] * 20),
                               (16, [(b'', f'n{number}.test') for number in range(20)]),
                               (4, [(bytes(60000), f'n{number % 3}.test') for number in range(20)])):
            before, app = server.program.status()['up']['drops'], server.associate()
            arrived = server.program.status()['up']['received']
            for number, (data, name) in enumerate(sent):
                app.send(data, (name, 9))
                if data:  # a receive buffer may hold but few of them
                    wait_for(lambda: server.program.status()['up']['received'] > arrived + number, what='its arrival')
            server.wait_for_drops(before['resolve_wait'] + 20 - expected, 'resolve_wait')
            assert server.program.status()['up']['queued'] == expected
            server.adds_up()
            app.close()
            server.wait_for_drops(before['assoc_closed'] + expected, 'assoc_closed')
            assert server.program.status()['up']['queued'] == 0
            server.adds_up()
    in_network_of_its_own(body)


def test_another_address_is_refused(server, echo):
    """Another port of the same host, and another host: before the association's first datagram and after it."""
    packet = b'\0\0\0' + socks_address(*echo.address) + b'theirs'
    relay = ('127.0.0.1', server.port)
    for named in (True, False):
        app = server.associate(named=named)
        before = server.drops('plain_source')
        send_from(('127.0.0.2', 0), packet, relay)
        assert server.drops('plain_source') == before + 1
        assert app.ask(b'mine', echo.address) == (b'mine', echo.address)
        for host in ('127.0.0.1', '127.0.0.2'):
            send_from((host, 0), packet, relay)
        assert server.drops('plain_source') == before + 3
        assert app.ask(b'still mine', echo.address) == (b'still mine', echo.address)
        app.close()
        wait_for(lambda: server.program.status()['plain_associations'] == 0, what='end of the association')
    assert echo.count == 4
    server.adds_up()


def test_a_port_counts_only_with_the_address_of_who_asks(server, echo):
    """DST may be the target, or what a NAT hides: then whoever sends first from that host has the association."""
    for claimed in ('198.51.100.9', '127.0.0.2', '::1', 'localhost', '192.168.1.9', '::ffff:127.0.0.2'):
        app = server.associate(claimed=claimed, port=53)
        assert app.code == 0
        send_from(('127.0.0.2', 0), b'\0\0\0' + socks_address(*echo.address) + b'theirs', app.relay)
        assert app.ask(b'mine', echo.address) == (b'mine', echo.address)
        app.close()
        wait_for(lambda: server.program.status()['plain_associations'] == 0, what='end of the association')
    assert server.drops('plain_source') == echo.count == 6
    server.adds_up()


def test_a_named_port_counts_with_the_own_address_in_every_form(server, echo):
    for claimed in ('127.0.0.1', '::ffff:127.0.0.1', '0.0.0.0', '::'):
        app = server.associate(claimed=claimed)
        before = server.drops('plain_source')
        send_from(('127.0.0.1', 0), b'\0\0\0' + socks_address(*echo.address) + b'theirs', app.relay)
        assert server.drops('plain_source') == before + 1
        assert app.ask(b'mine', echo.address) == (b'mine', echo.address)


def test_fragments_are_dropped_and_counted(server, echo):
    app = server.associate()
    for count, frag in enumerate((1, 0x7f, 0x80, 0xff), 1):
        app.send(b'fragment', echo.address, frag=frag)
        assert app.ask(b'whole', echo.address) == (b'whole', echo.address)
        assert echo.count == server.drops('fragment') == count
    server.adds_up()


def test_a_fragment_does_not_latch(server, echo):
    app = server.associate(named=False)
    packet = b'\0\0\1' + socks_address(*echo.address) + b'fragment'
    send_from(('127.0.0.1', 0), packet, app.relay)
    assert app.ask(b'mine', echo.address) == (b'mine', echo.address)
    assert server.drops('fragment') == 1 and server.drops('plain_source') == 0


def test_what_is_no_request_is_dropped_and_counted(server, echo):
    app = server.associate()
    good = socks_address(*echo.address) + b'data'
    malformed = [b'\0\0\0', b'\0\0\0\1\x7f', b'\0\0\0\2' + good[1:], b'\0\0\0\3\0\0\0', b'\0\0\0\3\xff' + b'x' * 40,
                 b'\0\0\0' + good[:6]]
    junk = [b'', b'\0', b'\0\1\0' + good, b'\1\0\0' + good]
    for packet in malformed + junk:
        app.udp.sendto(packet, app.relay)
    assert app.ask(b'good', echo.address) == (b'good', echo.address)
    assert echo.count == 1
    assert server.drops('malformed') == len(malformed) and server.drops('junk') == len(junk)
    server.adds_up()


def test_it_ends_with_its_connection(server, echo):
    app, stays = server.associate(), server.associate()
    assert app.ask(b'here', echo.address) == (b'here', echo.address)
    assert stays.ask(b'here', echo.address) == (b'here', echo.address)
    app.tcp.close()
    wait_for(lambda: server.program.status()['plain_associations'] == 1, 2, 'end of the association')
    app.send(b'after', echo.address)
    server.wait_for_drops(1, 'plain_source')
    assert stays.ask(b'still', echo.address) == (b'still', echo.address)
    stays.tcp.close()
    wait_for(lambda: server.program.status()['associations'] == 0, 2, 'end of the association')
    stays.send(b'after', echo.address)
    server.wait_for_drops(1, 'plain_refused')
    assert echo.count == 3
    server.adds_up()


def test_two_that_name_no_port_do_not_mix(server, echo):
    """The second gets a relay port of its own."""
    first, second = server.associate(named=False), server.associate(named=False)
    assert first.relay == ('127.0.0.1', server.port)
    assert second.relay[0] == '127.0.0.1' and second.relay[1] != server.port
    assert second.ask(b'second', echo.address) == (b'second', echo.address)
    assert first.ask(b'first', echo.address) == (b'first', echo.address)
    assert len(echo.sources) == 2
    packet = b'\0\0\0' + socks_address(*echo.address) + b'theirs'
    for host in ('127.0.0.1', '127.0.0.2'):
        send_from((host, 0), packet, second.relay)
    assert server.drops('plain_source') == 2 and echo.count == 2
    server.adds_up()


def test_special_targets_are_refused_by_default(lab, echo, echo6):
    server = Server(lab, allow=())
    app = server.associate()
    targets = [echo.address, echo6.address, ('localhost', echo.address[1]), ('169.254.169.254', 80),
               ('224.0.0.251', 5353), ('::ffff:127.0.0.1', echo.address[1])]
    for target in targets:
        app.send(b'refused', target)
    server.wait_for_drops(len(targets), 'policy')
    assert echo.count == echo6.count == 0
    server.adds_up()


def test_a_stranger_s_answer_is_filtered(lab, server, echo):
    """Only a host that the association has sent to may answer."""
    app = server.associate()
    assert app.ask(b'hello', echo.address) == (b'hello', echo.address)
    stranger = lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    stranger.bind(('127.0.0.5', 0))
    stranger.sendto(b'surprise', ('127.0.0.1', echo.sources[0][1]))
    wait_for(lambda: server.program.status()['down']['drops'].get('filtered') == 1, what='drop filtered')
    assert app.ask(b'again', echo.address) == (b'again', echo.address)
    server.adds_up()


def test_a_revoked_user_s_association_ends(lab, server, echo):
    app = server.associate()
    assert app.ask(b'here', echo.address) == (b'here', echo.address)
    assert run('revoke', server.folder, 'alice').returncode == 0
    app.tcp.settimeout(5)
    assert app.tcp.recv(1) == b''
    app.send(b'after', echo.address)
    server.wait_for_drops(1, 'plain_refused')
    assert echo.count == 1


def test_many_at_once_each_with_a_source_of_its_own(server, echo):
    apps = [server.associate(named=number % 2 == 0) for number in range(20)]
    for number, app in enumerate(apps):
        app.send(b'%d' % number, echo.address)
    for number, app in enumerate(apps):
        assert app.receive() == (b'%d' % number, echo.address)
    assert len(echo.sources) == len(apps)
    server.adds_up()


def test_sizes_from_nothing_to_the_largest(server, echo):
    app = server.associate()
    app.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    for size in (0, 1, 1200, 1500, 9000, 65000, 65497):
        data = (bytes(range(256)) * 256)[:size]
        assert app.ask(data, echo.address) == (data, echo.address)
    server.adds_up()


def test_an_answer_that_leaves_no_room_for_the_header_is_counted(lab, server):
    target = lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    target.bind(('127.0.0.1', 0))
    target.settimeout(5)
    app = server.associate()
    app.send(b'question', target.getsockname())
    data, source = target.recvfrom(100)
    target.sendto(bytes(65507), source)
    target.sendto(b'short', source)
    assert app.receive() == (b'short', target.getsockname())
    drops = server.program.status()['down']['drops']
    assert {reason: count for reason, count in drops.items() if count} == {'too_big': 1}
    server.adds_up()


@pytest.mark.parametrize('named', [True, False], ids=['port named', 'first datagram'])
def test_an_idle_association_ends_with_its_connection(lab, echo, named):
    server = Server(lab, 'timeouts:\n  association_seconds: 1')
    app = server.associate(named=named)
    app.tcp.settimeout(5)
    assert app.ask(b'here', echo.address) == (b'here', echo.address)
    assert app.tcp.recv(1) == b''
    assert server.program.status()['plain_associations'] == 0
