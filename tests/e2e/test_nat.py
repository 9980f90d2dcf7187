"""The server as a NAT (RFC 4787): mapping, filtering, ports, hairpin, source addresses, errors; sealed and plain."""
import contextlib
import os
import socket
import time

import pytest

from direct import PlainUdp, dial_tls, log_in
from harness import SocksUdp, Thread, UdpEcho, free_port, sum_ledger, wait_for
from network import CLIENT, HOSTS, PORT, SERVER, ip

KINDS = ['sealed', 'plain']


class Server:
    """A server, and associations at it: sealed ones through a client, plain ones at its own port."""

    def __init__(self, lab, config='', **options):
        self.lab = lab
        options.setdefault('port', free_port())
        if isinstance(options.get('listen'), str):
            options['listen'] = [f'{options["listen"]}:{options["port"]}']
        self.folder, self.port, self.invite = lab.init(**options)
        lab.edit_config(self.folder, config)
        self.program = lab.server(self.folder)
        self.client = None

    def associate(self, kind):
        if kind == 'plain':
            tls = dial_tls(self.folder, self.port)
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
def test_an_ipv4_mapped_target_is_the_ipv4_host(lab, kind, echo):
    server = Server(lab)
    app, target = server.associate(kind), peer(lab)
    mapping = mapped(app, target)
    for data in (b'first', b'next'):
        assert app.ask(data, (f'::ffff:{echo.address[0]}', echo.address[1])) == (data, echo.address)
    assert [source[:2] for source in echo.sources] == [mapping]
    assert not any(server.program.status()['up']['drops'].values())
    server.adds_up()


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


@pytest.mark.parametrize('host, lives', [('127.0.53.1', True), ('127.0.0.5', False)], ids=['answers', 'strangers'])
def test_answers_keep_an_association_that_asks_dns_and_strangers_do_not(lab, host, lives):
    port = free_range(1)[0]
    server = Server(lab, f'udp_ports: {port}-{port}\ntimeouts:\n  dns_seconds: 1')
    app, sender = server.associate('sealed'), peer(lab, host)
    app.send(b'question', ('127.0.53.1', 53))  # where nobody need be: any port of that address may answer
    wait_for(lambda: server.program.status()['associations'] == 1, what='the association')
    for _ in range(50):
        sender.sendto(b'answer', ('127.0.0.1', port))
        time.sleep(0.05)
    assert server.program.status()['associations'] == lives
    assert (server.drops('filtered') == 0) == lives
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


# --- hairpin ---

def through_the_hairpin(program, first, first_mapping, second, second_mapping):
    """Each sends to the other's outbound address; what arrives has the sender's outbound address as its source."""
    before = program.status()['up']['forwarded']
    first.send(b'to the second', second_mapping)  # may be filtered: the second has not sent there yet
    wait_for(lambda: program.status()['up']['forwarded'] == before + 1, what='the first datagram')
    second.send(b'to the first', first_mapping)
    assert first.receive() == (b'to the first', second_mapping)
    first.send(b'and back', second_mapping)
    got = second.receive()
    if got[0] == b'to the second':
        assert got[1] == first_mapping
        got = second.receive()
    assert got == (b'and back', first_mapping)


@pytest.mark.parametrize('kinds', [('sealed', 'sealed'), ('sealed', 'plain'), ('plain', 'plain')], ids='-'.join)
@pytest.mark.parametrize('filtering', ['address-dependent', 'address-and-port-dependent', 'endpoint-independent'])
@pytest.mark.parametrize('hosts', [('127.0.0.1', '127.0.0.9'), ('::1', '::1')], ids=['IPv4', 'IPv6'])
def test_associations_of_one_server_reach_each_other(lab, kinds, filtering, hosts):
    server = Server(lab, f'filtering: {filtering}\nworkers: 2')
    apps = [server.associate(kind) for kind in kinds]
    mappings = [(hosts[0], mapped(app, peer(lab, hosts[1]))[1]) for app in apps]
    through_the_hairpin(server.program, apps[0], mappings[0], apps[1], mappings[1])
    server.adds_up()


OUTSIDE, OWN = '11.22.33.44', '11.22.33.55'  # ordinary addresses, which policy does not refuse
OUTSIDE_6, OWN_6 = '2a00:77::1', '2a00:77::2'


class PublicServer:
    """A server with public addresses on a host of its own, its client on another, which also has the targets."""

    def __init__(self, lab, network, config=''):
        for side, addresses in ((CLIENT, (OUTSIDE, OUTSIDE_6)), (SERVER, (OWN, OWN_6))):
            for bits, address in zip((24, 64), addresses, strict=True):
                ip('-n', network.names[side], 'addr', 'add', f'{address}/{bits}', 'dev', 'wire',
                   *(['nodad'] if bits == 64 else []))
        self.lab, self.network = lab, network
        self.folder, self.invite, self.program = network.server(config)
        self.client = network.client(self.invite)

    def associate(self):
        """An association that has sent over both families: (it, its IPv4 mapping, its IPv6 mapping)."""
        app = self.lab.open(self.network.call(CLIENT, SocksUdp, self.client.socks))
        return app, *(mapped(app, self.network.call(CLIENT, peer, self.lab, host)) for host in (OUTSIDE, OUTSIDE_6))

    def refused(self):
        return self.program.status()['up']['drops'].get('policy', 0)


@pytest.mark.netns
def test_hairpin_at_the_server_s_own_public_addresses_needs_no_permission(lab, network):
    server = PublicServer(lab, network)
    first, second = server.associate(), server.associate()
    for family, host in ((1, OWN), (2, OWN_6)):
        assert first[family][0] == second[family][0] == host
        through_the_hairpin(server.program, first[0], first[family], second[0], second[family])
    assert server.refused() == 0


@pytest.mark.netns
def test_at_an_own_address_nothing_but_associations_is_reached(lab, network):
    server = PublicServer(lab, network)
    app, mapping, mapping_6 = server.associate()
    services = [lab.open(network.call(SERVER, UdpEcho, host)) for host in (OWN, OWN_6)]
    targets = [(OWN, PORT), (OWN_6, PORT), (OWN, 9), *(service.address for service in services),
               (HOSTS[SERVER], mapping[1]),  # a private address, which policy did not open
               ('2002:b16:2137::1', mapping_6[1])]  # an IPv6 address that carries the own one
    for target in targets:
        app.send(b'refused', target)
    assert mapped(app, network.call(CLIENT, peer, lab, OUTSIDE)) == mapping
    assert server.refused() == len(targets)
    assert all(service.count == 0 for service in services)


@pytest.mark.netns
def test_the_port_of_an_association_that_ended_is_refused_again(lab, network):
    server = PublicServer(lab, network)
    app, other = server.associate(), server.associate()
    app[0].send(b'filtered', other[1])
    wait_for(lambda: server.program.status()['down']['drops'].get('filtered') == 1, what='drop filtered')
    other[0].close()
    wait_for(lambda: server.program.status()['associations'] == 1, what='end of the association')
    service = lab.open(network.call(SERVER, UdpEcho, OWN, other[1][1]))
    app[0].send(b'refused', other[1])
    wait_for(lambda: server.refused() == 1, what='drop policy')
    assert service.count == 0


@pytest.mark.netns
def test_no_hairpin_at_an_advertised_address_of_another_machine(lab, network):
    server = PublicServer(lab, network, 'advertise: "11.22.33.99:1443"')
    app, other = server.associate(), server.associate()
    app[0].send(b'refused', ('11.22.33.99', other[1][1]))
    wait_for(lambda: server.refused() == 1, what='drop policy')


@pytest.mark.netns
def test_hairpin_at_the_advertised_address_where_it_is_the_server_s_own(lab, network):
    server = PublicServer(lab, network, f'advertise: "{OWN}:{PORT}"')
    first, second = server.associate(), server.associate()
    through_the_hairpin(server.program, first[0], first[1], second[0], second[1])


# --- a server with several addresses, and one behind a port forward ---

@pytest.mark.parametrize('host', ['127.0.0.1', '127.0.0.2', '127.9.9.9'])
def test_what_goes_to_a_sealed_client_comes_from_the_address_that_it_sends_to(lab, host):
    """The client's socket is connected: it would not see what comes from another address."""
    server = Server(lab, listen='0.0.0.0', host=host)
    target = peer(lab)
    app = server.associate('sealed')
    for number in range(50):
        mapping = mapped(app, target)
        target.sendto(b'%d' % number, mapping)
        assert app.receive() == (b'%d' % number, target.getsockname())
    wait_for(lambda: server.client.status()['path'] == 'udp', what='the path by UDP')
    streamed = server.program.status()['down']['streamed']
    target.sendto(b'by UDP', mapping)
    assert app.receive() == (b'by UDP', target.getsockname())
    assert server.program.status()['down']['streamed'] == streamed
    server.adds_up()


@pytest.mark.parametrize('named', [True, False], ids=['shared port', 'port of its own'])
@pytest.mark.parametrize('host', ['127.0.0.1', '127.0.0.2', '127.9.9.9'])
def test_what_goes_to_a_plain_client_comes_from_the_address_that_it_sends_to(lab, host, named):
    server = Server(lab, listen='0.0.0.0')
    target = peer(lab)
    for _ in range(2):  # the second that names no port gets one of its own
        tls = dial_tls(server.folder, server.port, host)
        log_in(tls, server.invite)
        app = lab.open(PlainUdp(tls, named=named))
    assert app.relay[0] == host and (app.relay[1] == server.port) == named
    target.sendto(b'answer', mapped(app, target))
    assert app.receive() == (b'answer', target.getsockname())  # which looks at the source
    server.adds_up()


@pytest.mark.netns
@pytest.mark.parametrize('host', [OWN, OWN_6])
def test_a_second_address_of_a_device_answers_for_itself(lab, network, host):
    """Left to itself the kernel would answer from the first."""
    second = {OWN: '11.22.33.66', OWN_6: '2a00:77::3'}[host]
    ip('-n', network.names[SERVER], 'addr', 'add', f'{second}/{24 if host == OWN else 64}', 'dev', 'wire',
       *(['nodad'] if host == OWN_6 else []))
    server = PublicServer(lab, network, 'plain_udp:\n  from: ["11.22.33.0/24", "2a00:77::/64"]')
    target = network.call(CLIENT, peer, lab, {OWN: OUTSIDE, OWN_6: OUTSIDE_6}[host])
    for address in (host, second):
        tls = network.call(CLIENT, dial_tls, server.folder, PORT, address, name=HOSTS[SERVER])
        log_in(tls, server.invite)
        app = lab.open(network.call(CLIENT, PlainUdp, tls))
        assert app.code == 0 and app.relay[0] == address
        target.sendto(b'answer', mapped(app, target))
        assert app.receive() == (b'answer', target.getsockname()[:2])
        url = address if host == OWN else f'[{address}]'
        client = network.client(server.invite.replace(HOSTS[SERVER], url))
        app = lab.open(network.call(CLIENT, SocksUdp, client.socks))
        mapped(app, target)
        wait_for(lambda client=client: client.status()['path'] == 'udp', what='the path by UDP')


class Forward(Thread):
    """A UDP port forward to (host, port), of one client."""

    def __init__(self, address, to):
        self.to, self.client, self.count = to, None, 0
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(address)
        super().__init__(sock)

    def step(self):
        data, source = self.sock.recvfrom(65536)
        self.count += 1
        if source != self.to:
            self.client = source
        self.sock.sendto(data, self.client if source == self.to else self.to)


def test_a_sealed_client_uses_the_advertised_endpoint(lab, echo):
    port = free_port()
    server = Server(lab, f'advertise: "127.0.0.3:{port}"', port=port, listen=[f'127.0.0.1:{port}'])
    forward = lab.open(Forward(('127.0.0.3', port), ('127.0.0.1', port)))
    app = server.associate('sealed')
    wait_for(lambda: server.client.status()['path'] == 'udp', what='the path by UDP')
    before = forward.count
    assert app.ask(b'by the forward', echo.address) == (b'by the forward', echo.address)
    assert forward.count >= before + 2


@pytest.mark.parametrize('advertise, port', [('127.0.0.3', None), ('127.0.0.3:4321', 4321)])
def test_a_plain_client_is_told_the_advertised_endpoint(lab, advertise, port, echo):
    server = Server(lab, f'advertise: "{advertise}"', listen='0.0.0.0')
    app = server.associate('plain')
    assert app.relay == ('127.0.0.3', port or server.port)
    if port is None:
        assert app.ask(b'hello', echo.address) == (b'hello', echo.address)  # and it answers from there


def test_a_relay_port_of_its_own_keeps_its_number_at_the_advertised_address(lab):
    server = Server(lab, 'advertise: "127.0.0.3:4321"', listen='0.0.0.0')
    apps = []
    for _ in range(2):
        tls = dial_tls(server.folder, server.port)
        log_in(tls, server.invite)
        apps.append(lab.open(PlainUdp(tls, named=False)))
    assert apps[0].relay == ('127.0.0.3', 4321)
    assert apps[1].relay[0] == '127.0.0.3' and apps[1].relay[1] not in (4321, server.port)


@pytest.mark.parametrize('advertise', ['11.22.33.44:4321', '0.0.0.0:4321', '[2a00::1]:4321', '[::1]:4321'])
def test_a_plain_client_on_loopback_or_of_another_family_is_told_where_it_connected_to(lab, advertise, echo):
    server = Server(lab, f'advertise: "{advertise}"', listen='0.0.0.0')
    app = server.associate('plain')
    assert app.relay == ('127.0.0.1', server.port)
    assert app.ask(b'hello', echo.address) == (b'hello', echo.address)


@pytest.mark.netns
@pytest.mark.parametrize('advertise, told', [('203.0.113.7:4321', ('203.0.113.7', 4321)), ('203.0.113.7', ('203.0.113.7', PORT)),
                                             ('0.0.0.0:4321', (HOSTS[SERVER], 4321)),
                                             ('[2001:db8::7]:4321', (HOSTS[SERVER], PORT))])
def test_a_plain_client_on_another_host_is_told_the_advertised_endpoint(lab, network, advertise, told):
    folder, invite, _ = network.server(f'advertise: "{advertise}"\nplain_udp:\n  from: ["10.77.0.1/32"]')
    tls = network.call(CLIENT, dial_tls, folder, PORT, HOSTS[SERVER], name=HOSTS[SERVER])
    log_in(tls, invite)
    app = lab.open(network.call(CLIENT, PlainUdp, tls))
    assert app.code == 0 and app.relay == told


@pytest.mark.parametrize('advertise, port', [('203.0.113.7:4321', 4321), ('203.0.113.7', None)])
def test_invites_carry_the_advertised_port_if_there_is_one(lab, advertise, port):
    folder, listens, _ = lab.init()
    lab.edit_config(folder, f'advertise: "{advertise}"')
    assert f':{port or listens}/' in lab.invite(folder, 'bob')


# --- ICMP errors ---

def closed_port(host='127.0.0.1'):
    with socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        return sock.getsockname()[:2]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('host', ['127.0.0.1', '::1'])
def test_a_port_that_was_closed_is_reached_once_it_is_open(lab, kind, host):
    server = Server(lab)
    app, closed = server.associate(kind), closed_port(host)
    mapping = mapped(app, peer(lab, host))
    for count in range(1, 6):
        app.send(b'in vain', closed)
        wait_for(lambda count=count: server.program.status()['up']['forwarded'] == count + 1, what='the datagram')
    echo = lab.open(UdpEcho(*closed))
    for number in range(20):
        assert app.ask(b'%d' % number, closed) == (b'%d' % number, closed)
    assert [source[:2] for source in echo.sources] == [mapping]
    echo.close()
    app.send(b'in vain', closed)
    assert mapped(app, peer(lab, host)) == mapping
    assert not any(server.program.status()['up']['drops'].values())
    server.adds_up()


def with_errors_between(app, echo, dead, rounds):
    """Datagrams to an echo and to dead targets in turn: every one to the echo comes back."""
    for number in range(rounds):
        batch = [b'%d %d' % (number, index) for index in range(16)]
        for index, data in enumerate(batch):
            app.send(b'in vain', dead[index % len(dead)])
            app.send(data, echo)
        assert [app.receive() for _ in batch] == [(data, echo) for data in batch]


@pytest.mark.parametrize('kind', KINDS)
def test_while_errors_arrive_nothing_else_is_lost(lab, kind, echo):
    server = Server(lab)
    app = server.associate(kind)
    with_errors_between(app, echo.address, [closed_port() for _ in range(3)], 100)
    wait_for(lambda: server.program.status()['up']['forwarded'] == 3200, what='all datagrams')
    assert echo.count == 1600 and len(echo.sources) == 1
    for way in ('up', 'down'):
        assert not any(server.program.status()[way]['drops'].values())
    server.adds_up()


@pytest.mark.netns
@pytest.mark.parametrize('family', [0, 1], ids=['IPv4', 'IPv6'])
def test_hosts_that_are_not_there_take_nothing_with_them(lab, network, family):
    """A closed port of another host, and hosts that no neighbour answers for: port and host unreachable."""
    server = PublicServer(lab, network)
    here = (OUTSIDE, OUTSIDE_6)[family]
    echo = lab.open(network.call(CLIENT, UdpEcho, here))
    dead = [network.call(CLIENT, closed_port, here), *(('11.22.33.200', 9), ('2a00:77::200', 9))[family:family + 1]]
    app = server.associate()[0]
    end = time.monotonic() + 5  # a neighbour is given up after three seconds
    rounds = 0
    while time.monotonic() < end:
        with_errors_between(app, echo.address, dead, 1)
        rounds += 1
        time.sleep(0.02)
    assert echo.count == 16 * rounds and len(echo.sources) == 1
    status = server.program.status()
    assert status['associations'] == 1
    assert {reason for reason, count in status['up']['drops'].items() if count} <= {'send_failed'}
    assert sum(status['up']['drops'].values()) <= 8 * rounds  # of those to hosts that are not there
    assert not any(status['down']['drops'].values())


@pytest.mark.netns
def test_datagrams_too_large_for_a_target_s_path_take_no_others_with_them(lab, emulated):
    for host, side in ((OUTSIDE, CLIENT), (OWN, SERVER)):
        ip('-n', emulated.names[side], 'addr', 'add', f'{host}/24', 'dev', 'wire')
    _, invite, program = emulated.server()
    client = lab.client(invite, prefix=emulated.prefix(SERVER))
    app = lab.open(emulated.call(SERVER, SocksUdp, client.socks))
    echo = lab.open(emulated.call(CLIENT, UdpEcho, OUTSIDE))
    assert app.ask(b'here', echo.address) == (b'here', echo.address)
    emulated.command('down mtu 1000 icmp on')
    for number in range(40):
        batch = [b'%d %d' % (number, index) for index in range(16)]
        ip('-n', emulated.names[SERVER], 'route', 'flush', 'cache')
        for data in batch:
            app.send(bytes(1200), echo.address)
            app.send(data, echo.address)
        got = set()
        while len(got & set(batch)) < len(batch):
            got.add(app.receive()[0])
    assert emulated.ledger()['down']['udp']['icmp_sent'] > 40
    assert not any(program.status()['up']['drops'].values())
