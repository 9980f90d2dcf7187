"""UDP ASSOCIATE at the client: third-party programs, names, fragments, strange senders, policy on targets, the end."""
import socket
import struct

import pytest

from harness import ASSOCIATE, CONNECT, SocksUdp, UdpEcho, socks_address, socks_request, sum_ledger, wait_for
from test_udp_forward import start_dns

# What a server without --allow refuses: (target, why it is special).
SPECIAL = [('127.0.0.1', 'loopback'), ('127.255.0.9', 'loopback'), ('::1', 'loopback'), ('10.1.2.3', 'private'),
           ('172.16.0.1', 'private'), ('192.168.1.1', 'private'), ('fd00::1', 'private'), ('100.64.0.1', 'carrier NAT'),
           ('169.254.169.254', 'metadata'), ('fd00:ec2::254', 'metadata'), ('fe80::1', 'link-local'),
           ('224.0.0.251', 'multicast'), ('ff02::fb', 'multicast'), ('255.255.255.255', 'broadcast'), ('0.0.0.0', 'any'),
           ('::', 'any'), ('240.0.0.1', 'reserved'), ('::ffff:127.0.0.1', 'mapped loopback'),
           ('64:ff9b::7f00:1', 'translated loopback'), ('2002:7f00:1::', '6to4 loopback')]


def drops(program, reason, way='up'):
    return program.status()[way]['drops'].get(reason, 0)


def ledgers_add_up(*programs):
    for program in programs:
        status = program.status()
        for way in ('up', 'down'):
            assert status[way]['received'] == sum_ledger(status[way]), (program.name, way, status[way])


@pytest.fixture
def strict(lab):
    """A server that was told of no special network, and its client."""
    folder, _, invite = lab.init(allow=())
    return lab.server(folder), lab.client(invite)


def test_dns_through_a_third_party_socks_udp_client(lab, program):
    socks = pytest.importorskip('socks')
    message = pytest.importorskip('dns.message')
    dns = start_dns(lab, program, '/sealed.test/192.0.2.78')
    server, client = lab.pair()
    with socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.set_proxy(socks.SOCKS5, *client.socks)
        sock.settimeout(5)
        for name, expected in (('sealed.test.', '192.0.2.78'), ('www.sealed.test.', '192.0.2.78')):
            query = message.make_query(name, 'A')
            sock.sendto(query.to_wire(), ('127.0.0.1', dns))
            data, source = sock.recvfrom(4096)
            answer = message.from_wire(data)
            assert answer.id == query.id
            assert [str(item) for item in answer.answer[0]] == [expected]
            assert source == ('127.0.0.1', dns)
    assert server.status()['up']['forwarded'] == 2
    ledgers_add_up(server, client)


def test_ipv4_ipv6_and_a_name_from_one_association(lab, echo, echo6, named_echo):
    server, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    assert app.ask(b'four', echo.address) == (b'four', echo.address)
    assert app.ask(b'six', echo6.address) == (b'six', echo6.address)
    data, (address, port) = app.ask(b'name', ('localhost', named_echo.address[1]))
    assert data == b'name' and address in ('127.0.0.1', '::1') and port == named_echo.address[1]
    assert server.status()['associations'] == 1
    assert len(echo.sources) == len(echo6.sources) == len(named_echo.sources) == 1
    ledgers_add_up(server, client)


def test_an_application_on_ipv6(lab, echo):
    folder, _, invite = lab.init()
    lab.server(folder)
    client = lab.client(invite, '--socks', '[::1]:0')
    listen = client.words['line'].split('socks=[::1]:')[1].split()[0]
    app = lab.open(SocksUdp(('::1', int(listen))))
    assert app.relay[0] == '::1'
    assert app.ask(b'from six', echo.address) == (b'from six', echo.address)


def test_a_name_that_does_not_resolve_is_counted(lab):
    server, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    app.send(b'lost', ('no-such-name.invalid', 53))
    wait_for(lambda: drops(server, 'resolve_failed'), what='drop resolve_failed')
    assert server.status()['up']['forwarded'] == 0
    ledgers_add_up(server, client)


@pytest.mark.parametrize('frag', [1, 0x7f, 0x81, 0xff])
def test_fragments_are_dropped_and_counted(lab, echo, frag):
    server, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    app.send(b'fragment', echo.address, frag=frag)
    assert app.ask(b'whole', echo.address) == (b'whole', echo.address)
    assert echo.count == 1
    assert drops(client, 'fragment') == 1
    ledgers_add_up(server, client)


def test_what_is_no_request_is_dropped_and_counted(lab, echo):
    server, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    good = socks_address(*echo.address) + b'data'
    bad = [b'', b'\0', b'\0\0\0', b'\0\0\0\1\x7f', b'\0\1\0' + good, b'\1\0\0' + good, b'\0\0\0\2' + good[1:],
           b'\0\0\0\3\0\0\0', b'\0\0\0\3\xff' + b'x' * 40, b'\0\0\0' + good[:6]]
    for packet in bad:
        app.udp.send(packet)
    assert app.ask(b'good', echo.address) == (b'good', echo.address)
    assert echo.count == 1
    assert drops(client, 'malformed') == len(bad)
    ledgers_add_up(server, client)


def test_only_the_application_itself_uses_its_association(lab, echo):
    server, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    assert app.ask(b'mine', echo.address) == (b'mine', echo.address)
    packet = b'\0\0\0' + socks_address(*echo.address) + b'theirs'
    for host in ('127.0.0.1', '127.0.0.2'):  # another port of the same host, another host
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((host, 0))
            other.sendto(packet, app.relay)
            before = host == '127.0.0.2'
            wait_for(lambda before=before: drops(client, 'plain_source') == 1 + before, what='drop plain_source')
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.recv(100)
    assert app.ask(b'still mine', echo.address) == (b'still mine', echo.address)
    assert echo.count == 2
    ledgers_add_up(server, client)


def test_a_host_other_than_the_connection_s_may_not_send_first(lab, echo):
    _, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(('127.0.0.2', 0))
        other.sendto(b'\0\0\0' + socks_address(*echo.address) + b'theirs', app.relay)
        wait_for(lambda: drops(client, 'plain_source') == 1, what='drop plain_source')
    assert app.ask(b'mine', echo.address) == (b'mine', echo.address)
    assert echo.count == 1


def ask_from(bound, proxy, target, request):
    """A datagram of a program whose request is that; what came back."""
    with bound as own:
        own.settimeout(5)
        tcp, code, relay = socks_request(proxy, ASSOCIATE, None, None, raw_address=request)
        with tcp:
            assert code == 0
            packet = b'\0\0\0' + socks_address(*target) + b'mine'
            own.sendto(packet, relay)
            return own.recv(100) == packet


def bound_udp(host):
    sock = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


# DST of a request that does not name the application: v2ray and others send their target, or nothing at all.
NO_PROMISE = [socks_address('8.8.8.8', 53), socks_address('2001:db8::1', 53), socks_address('127.0.0.2', 53),
              socks_address('10.0.0.7', 40000), socks_address('::ffff:198.51.100.1', 9), socks_address('::ffff:0.0.0.0', 0),
              socks_address('example.org', 443), socks_address('localhost', 53), socks_address('127.0.0.1', 0),
              b'\3\0\0\0', b'\3\0\0\x35']


@pytest.mark.parametrize('host', ['127.0.0.1', '::1'])
def test_the_port_of_a_request_that_names_another_host_says_nothing(lab, echo, host):
    """A program that names its target in the request is served as one that names nobody."""
    folder, _, invite = lab.init()
    lab.server(folder)
    client = lab.client(invite, '--socks', '127.0.0.1:0' if host == '127.0.0.1' else '[::1]:0')
    port = int(client.words['line'].split(f'socks={"[::1]" if ":" in host else host}:')[1].split()[0])
    others = NO_PROMISE + [socks_address('::1' if host == '127.0.0.1' else '127.0.0.1', 53)]
    for request in others:
        assert ask_from(bound_udp(host), (host, port), echo.address, request), request
    assert drops(client, 'plain_source') == 0


def test_without_a_promised_port_whoever_sends_first_has_the_association(lab, echo):
    """What docs/security.md says is left to another program on the application's host, no more and no less."""
    _, client = lab.pair()
    app = lab.open(SocksUdp(client.socks, timeout=0.3))
    with bound_udp('127.0.0.1') as other:
        other.settimeout(5)
        packet = b'\0\0\0' + socks_address(*echo.address) + b'theirs'
        other.sendto(packet, app.relay)
        assert other.recv(100) == packet
        app.send(b'mine', echo.address)
        with pytest.raises(TimeoutError):
            app.receive()
    assert drops(client, 'plain_source') == 1


@pytest.mark.parametrize('named', ['0.0.0.0', '::', '127.0.0.1', '::ffff:127.0.0.1'])
def test_the_port_that_the_request_names_is_the_only_one(lab, echo, named):
    _, client = lab.pair()
    with bound_udp('127.0.0.1') as own, bound_udp('127.0.0.1') as other:
        own.settimeout(5)
        tcp, code, relay = socks_request(client.socks, ASSOCIATE, named, own.getsockname()[1])
        lab.open(tcp)
        assert code == 0
        packet = b'\0\0\0' + socks_address(*echo.address)
        other.sendto(packet + b'theirs', relay)
        wait_for(lambda: drops(client, 'plain_source') == 1, what='drop plain_source')
        own.sendto(packet + b'mine', relay)
        assert own.recv(100) == packet + b'mine'
    assert echo.count == 1


def test_special_targets_are_refused_by_default(lab, strict, echo, echo6):
    server, client = strict
    app = lab.open(SocksUdp(client.socks, timeout=0.3))
    targets = [(host, 53) for host, _ in SPECIAL] + [echo.address, echo6.address, ('localhost', echo.address[1])]
    for target in targets:
        app.send(b'refused', target)
    wait_for(lambda: drops(server, 'policy') == len(targets),
             what=f'{len(targets)} policy drops, not {server.status()["up"]}')
    status = server.status()
    assert status['up']['forwarded'] == 0 and status['up']['forwarded_bytes'] == 0
    assert status['associations'] == 0  # what policy refuses creates nothing
    assert echo.count == 0 and echo6.count == 0
    with pytest.raises(TimeoutError):
        app.receive()
    ledgers_add_up(server, client)


def test_special_targets_are_refused_to_tcp_by_default(lab, strict, tcp_echo):
    _, client = strict
    for host, port in [(host, 80) for host, _ in SPECIAL] + [tcp_echo.address, ('localhost', tcp_echo.address[1])]:
        sock, code, _ = socks_request(client.socks, CONNECT, host, port)
        lab.open(sock)
        assert code == 2, f'{host}: {code}'


def test_allow_opens_the_named_network_and_no_other(lab, echo):
    folder, _, invite = lab.init(allow=('127.0.0.1/32',))
    server, client = lab.server(folder), lab.client(invite)
    other = lab.open(UdpEcho('127.0.0.2'))
    app = lab.open(SocksUdp(client.socks))
    app.send(b'no', other.address)
    assert app.ask(b'yes', echo.address) == (b'yes', echo.address)
    assert drops(server, 'policy') == 1
    assert other.count == 0


def test_port_zero_is_no_target_even_where_the_network_is_allowed(lab):
    server, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    app.send(b'nobody', ('127.0.0.1', 0))
    wait_for(lambda: drops(server, 'policy') == 1, what='drop policy')
    ledgers_add_up(server, client)


def test_closing_the_connection_closes_the_association_at_once(lab, echo):
    server, client = lab.pair()
    apps = [SocksUdp(client.socks) for _ in range(3)]
    for app in apps:
        assert app.ask(b'here', echo.address) == (b'here', echo.address)
    assert server.status()['associations'] == 3
    apps[0].tcp.close()
    wait_for(lambda: server.status()['associations'] == 2, 2, 'association closed')
    # a reset, as of a program that was killed, counts as an end too
    apps[1].tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    apps[1].tcp.close()
    wait_for(lambda: server.status()['associations'] == 1, 2, 'association closed')
    wait_for(lambda: client.status()['local_connections'] == 1, 2, 'connections')
    assert apps[2].ask(b'still', echo.address) == (b'still', echo.address)
    with pytest.raises(ConnectionRefusedError):  # the relay's port is closed
        apps[0].send(b'after', echo.address)
        apps[0].receive()
    for app in apps:
        app.close()


def test_many_associations_each_with_a_source_of_its_own(lab, echo):
    server, client = lab.pair()
    apps = [lab.open(SocksUdp(client.socks)) for _ in range(200)]
    for number, app in enumerate(apps):
        app.send(b'%d' % number, echo.address)
    for number, app in enumerate(apps):
        assert app.receive() == (b'%d' % number, echo.address)
    assert len(set(echo.sources)) == len(apps)
    status = server.status()
    assert status['associations'] == len(apps) and status['sessions'] == 1
    for app in apps:
        app.close()
    wait_for(lambda: server.status()['associations'] == 0, 5, 'associations closed')
    ledgers_add_up(server, client)
