"""Addresses that are the server's own by a route, or lead to it through a translator: refused, and noticed when they come."""
import socket
import subprocess

import pytest

from attacker import DATAGRAM, Target, plaintext, request
from harness import BIND, CONNECT, TcpServer, UdpEcho, echo_stream, wait_for
from name_server import Dns, asking_dns, in_network_of_its_own

pytestmark = pytest.mark.netns


@pytest.fixture
def target(lab, program, own_network):
    program('ip')
    return Target(lab)


def ip(*words):
    subprocess.run(['ip', *' '.join(words).split()], check=True, capture_output=True, timeout=20)


def refused_datagrams(target, *targets):
    """How many datagrams to these policy refuses; none of them is on its way any more."""
    before = target.status()['up']['drops']['policy']
    channel = target.channel()
    for number, host_and_port in enumerate(targets, 1):
        channel.say(DATAGRAM, plaintext(number, host_and_port, b'who is there?'))
    channel.sync()
    channel.close()
    return target.status()['up']['drops']['policy'] - before


def code_of(target, command, host, port):
    """The reply to a request."""
    tls = target.tls().greet(target.invite)
    tls.sendall(request(command, host, port))
    code = tls.reply()[0]
    tls.close()
    return code


class Reached:
    """What listens on every address of the machine, for TCP and UDP."""

    def __init__(self, lab):
        self.tcp = {4: lab.open(TcpServer(echo_stream, '0.0.0.0')), 6: lab.open(TcpServer(echo_stream, '::'))}
        self.udp = {4: lab.open(UdpEcho('0.0.0.0')), 6: lab.open(UdpEcho('::'))}

    def ports(self, host):
        family = 6 if ':' in host else 4
        return self.tcp[family].address[1], self.udp[family].address[1]


def refuses(target, reached, *hosts):
    """CONNECT and datagrams to each host are refused by policy, and nothing was reached."""
    for host in hosts:
        tcp, udp = reached.ports(host)
        assert code_of(target, CONNECT, host, tcp) == 2, f'CONNECT to {host}'
        assert refused_datagrams(target, (host, udp)) == 1, f'a datagram to {host}'
    assert reached.udp[4].count == reached.udp[6].count == 0


ROUTES = ['-4 route add local 44.0.0.0/24 dev lo', '-4 route add local 44.0.9.9 dev lo proto 66',
          '-6 route add local 2a09:44::/64 dev lo', '-6 route add anycast 2a09:45::7 dev lo',
          '-4 route add broadcast 44.0.8.255 dev lo', '-4 route add local 44.0.7.0/24 dev lo table main',
          '-4 route add local 44.0.6.0/24 dev lo table 77', '-4 rule add to 44.0.6.0/24 lookup 77']
HOSTS = ['44.0.0.7', '44.0.0.255', '44.0.9.9', '2a09:44::1234', '2a09:45::7', '44.0.8.255', '44.0.7.1', '44.0.6.1']


def test_what_a_route_makes_local_is_refused(lab, target):
    """AnyIP, the addresses of load balancers, anycast, broadcast, in every table; without a route they are ordinary."""
    def body():
        for words in ROUTES:
            ip(words)
        reached = Reached(lab)
        target.start(allow=())
        refuses(target, reached, *HOSTS)
        for host in HOSTS[:3]:
            assert code_of(target, CONNECT, host.replace('44.0.', '44.1.'), 9) == 3
    in_network_of_its_own(body)


def test_routes_that_come_later_are_noticed_and_what_runs_there_ends(lab, target):
    def body():
        reached = Reached(lab)
        target.start(allow=())
        for words in ROUTES:
            ip(words)

        def refused():
            return all(code_of(target, CONNECT, host, reached.ports(host)[0]) == 2 for host in HOSTS)
        wait_for(refused, 20, 'the routes to be noticed')

        targets = [(host, reached.ports(host)[1]) for host in HOSTS]
        wait_for(lambda: refused_datagrams(target, *targets) == len(HOSTS), 20, 'the routes to be noticed')
        ip('-4 route del local 44.0.0.0/24 dev lo')
        wait_for(lambda: code_of(target, CONNECT, '44.0.0.7', 9) == 3, 20, 'the route to be forgotten')
    in_network_of_its_own(body)


def test_more_of_them_than_the_guard_has_ranges(lab, target):
    """None is left out: neighbours are one range, and what lies between the nearest of the others is refused, too."""
    def body():
        count = 1100
        routes = [f'route add local 45.{i // 128}.{i % 128 * 2}.0/24 dev lo' for i in range(count)]
        routes += [f'route add local 46.0.{i // 256}.{i % 256} dev lo' for i in range(count)]
        subprocess.run(['ip', '-batch', '-'], input='\n'.join(routes), text=True, check=True, timeout=60)
        reached = Reached(lab)
        target.start(allow=())
        refuses(target, reached, '45.0.0.7', '45.3.100.7', '45.8.150.7', '46.0.0.0', '46.0.2.0', '46.0.4.75')
        for host in '44.0.0.1', '45.9.0.1', '46.0.4.76', '46.1.0.1', '9.9.9.9':
            assert code_of(target, CONNECT, host, 9) == 3, host
        assert 'what lies between the nearest of them is refused too' in target.server.err
    in_network_of_its_own(body)


class Transparent(TcpServer):
    """A listener that takes what goes to other addresses, where a route brings it (Linux: IP_TRANSPARENT)."""

    def __init__(self):
        super().__init__(echo_stream, '0.0.0.0')
        self.sock.setsockopt(socket.SOL_IP, 19, 1)


def test_where_the_connection_ended_counts(lab, target):
    """
    A route to everything in another table is how transparent proxies work: it makes no address an own one, but what goes
    there ends at this machine.
    """
    def body():
        ip('-4 address add 44.9.9.9/32 dev lo')
        ip('-4 route add local 0.0.0.0/0 dev lo src 44.9.9.9 table 78')
        ip('-4 rule add to 44.2.0.0/16 lookup 78')
        proxy = lab.open(Transparent())
        target.start(allow=())
        assert code_of(target, CONNECT, '44.2.0.1', proxy.address[1]) == 2
        assert code_of(target, CONNECT, '44.3.0.1', 9) == 3
    in_network_of_its_own(body)


def test_what_the_operator_opens_is_open(lab, target):
    def body():
        ip('-4 route add local 44.0.0.0/24 dev lo')
        reached = Reached(lab)
        target.start(allow=('44.0.0.0/28',))
        tcp, udp = reached.ports('44.0.0.7')
        assert code_of(target, CONNECT, '44.0.0.7', tcp) == 0
        channel = target.channel()
        channel.say(DATAGRAM, plaintext(1, ('44.0.0.7', udp), b'open'))
        assert channel.hear_only(DATAGRAM)[-4:] == b'open'
        assert code_of(target, CONNECT, '44.0.0.77', tcp) == 2
    in_network_of_its_own(body)


# --- translators to IPv4 ---

def test_the_network_s_own_translator_is_undone(lab, target, program):
    """Its prefix is what its name server says of ipv4only.arpa; rules for IPv4 networks hold behind it too."""
    def body():
        ip('-6 address add fd00:99::1/128 dev lo nodad')
        ip('-6 route add unreachable 2a06:64::/64 dev lo')
        lab.open(Dns(aaaa={'ipv4only': ['2a06:64::192.0.0.170', '2a06:64::192.0.0.171']}))
        target.folder, target.port, target.invite = lab.init(allow=())
        lab.edit_config(target.folder, 'rules:\n  - {name: no, to: 9.9.0.0/16, action: deny, reply: 5}\n  - {name: rest, action: allow}')
        prefix = asking_dns(lab, program)
        target.server = lab.start('server', 'server', '-c', target.folder / 'server.yaml', '-v', prefix=prefix)
        target.server.ready()
        wait_for(lambda: code_of(target, CONNECT, '2a06:64::127.0.0.1', 9) == 2, 20, 'the prefix to be found')
        for host in ('10.1.2.3', '169.254.169.254', '192.168.1.1'):
            assert code_of(target, CONNECT, f'2a06:64::{host}', 9) == 2, host
        assert code_of(target, CONNECT, '2a06:64::9.9.9.9', 9) == 5
        assert code_of(target, CONNECT, '2a06:64::8.8.8.8', 9) in (3, 4)
        assert refused_datagrams(target, ('2a06:64::127.0.0.1', 9), ('2a06:64::9.9.9.9', 9)) == 2
    in_network_of_its_own(body)


def test_translators_and_tunnels_that_the_operator_names(target):
    def body():
        ip('-6 route add unreachable 2a00::/8 dev lo')
        target.start('nat64: ["2a05:64:7:8::/64", "2a06:64::/96"]', allow=())
        for host in ('2a05:64:7:8:7f:0:100:0', '2a06:64::127.0.0.1', '2a07::5efe:127.0.0.1', '2a07::200:5efe:10.0.0.1'):
            assert code_of(target, CONNECT, host, 9) == 2, host
        for host in ('2a05:64:7:9:7f:0:100:0', '2a06:64::8.8.8.8', '2a07::5efe:8.8.8.8', '2a07::100:5efe:127.0.0.1'):
            assert code_of(target, CONNECT, host, 9) in (3, 4), host
    in_network_of_its_own(body)


# --- who comes to a BIND ---

def test_the_peer_of_a_bind_is_judged(target):
    """What may not be sent to may not come either: named in the request, or when it connects."""
    def body():
        ip('-4 address add 44.9.0.1/32 dev lo')
        target.start(allow=('127.0.0.2/32', '44.9.0.0/24'))
        for host in ('127.0.0.3', '10.0.0.1', '169.254.169.254', '::1'):
            assert code_of(target, BIND, host, 0) == 2, host
        assert code_of(target, BIND, 'localhost', 0) == 2
        assert code_of(target, BIND, '44.9.0.1', 0) == 0
        tls = target.tls().greet(target.invite)
        tls.sendall(request(BIND, '0.0.0.0', 0))
        code, bound = tls.reply()
        assert code == 0
        with socket.create_connection(bound, 5, source_address=('127.0.0.3', 0)) as wrong:
            wrong.settimeout(5)
            try:
                assert wrong.recv(1) == b''
            except ConnectionResetError:
                pass
        with socket.create_connection(bound, 5, source_address=('127.0.0.2', 0)) as right:
            assert tls.reply() == (0, right.getsockname())
    in_network_of_its_own(body)
