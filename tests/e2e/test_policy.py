"""Rules of server.yaml: who may send where, by every condition, both directions, codes, the log; `sealgram policy test`."""
import contextlib
import json
import socket

import pytest

from direct import PlainUdp, ask, dial_tls, log_in
from harness import (BIND, CONNECT, SocksUdp, TcpServer, UdpEcho, echo_stream, free_port, read_reply, receive, run, socks_request, sum_ledger, wait_for)
from tcp_proxy import TcpProxy


def drops(server, way='up'):
    return server.status()[way]['drops'].get('policy', 0)


def adds_up(server):
    status = server.status()
    for way in ('up', 'down'):
        assert status[way]['received'] == sum_ledger(status[way]), (way, status[way])


def rules_of(*rules):
    """A list of rules, each one line: named by its number unless it names itself."""
    lines = [f'  - {{{rule}}}' if 'name:' in rule else f'  - {{name: r{i}, {rule}}}' for i, rule in enumerate(rules)]
    return '\n'.join(['rules:', *lines] if rules else ['rules: []'])


class Site:
    """A server with rules, for several users."""

    def __init__(self, lab, *rules, config='', **options):
        self.lab = lab
        self.folder, self.port, invite = lab.init(**options)
        self.invites = {'alice': invite}
        lab.edit_config(self.folder, config + '\n' + rules_of(*rules))
        self.server = lab.server(self.folder)

    def client(self, user='alice'):
        if user not in self.invites:
            self.invites[user] = self.lab.invite(self.folder, user)
            wait_for(lambda: self.server.status()['users'] == len(self.invites), what=f'user {user}')
        return self.lab.client(self.invites[user])

    def connect(self, host, port, command=CONNECT, user='alice'):
        """The code of one request."""
        sock, code, _ = socks_request(self.client(user).socks, command, host, port)
        sock.close()
        return code

    def direct(self, source=None):
        """A TLS connection without our client, logged in as alice."""
        tls = self.lab.open(dial_tls(self.folder, self.port, source=source))
        log_in(tls, self.invites['alice'])
        return tls


def permitted(app, target, data=b'question'):
    assert app.ask(data, target) == (data, target)


def refused(server, app, target, way='up'):
    """Sends one datagram, and waits until the server has counted it as refused."""
    before = drops(server, way)
    app.send(b'refused', target)
    wait_for(lambda: drops(server, way) == before + 1, what='a drop by policy')


# --- conditions, of datagrams ---

def test_users_and_groups(lab, echo):
    port = echo.address[1]
    site = Site(lab, 'user: alice, action: allow', f'group: staff, port: {port}, action: allow',
                config='groups:\n  staff: [carol, bob]')
    for user in ('alice', 'bob'):
        permitted(lab.open(SocksUdp(site.client(user).socks)), echo.address)
    count = echo.count
    refused(site.server, lab.open(SocksUdp(site.client('dave').socks)), echo.address)
    assert echo.count == count
    adds_up(site.server)


def test_without_rules_all_is_allowed_and_with_an_empty_list_nothing(lab, echo):
    site = Site(lab)
    refused(site.server, lab.open(SocksUdp(site.client().socks)), echo.address)
    assert echo.count == 0
    server, client = lab.pair(config='groups: {staff: [alice]}')
    permitted(lab.open(SocksUdp(client.socks)), echo.address)
    assert drops(server) == 0


def test_networks_of_both_families(lab, echo, echo6):
    site = Site(lab, 'to: "127.0.0.2/31", action: deny', 'to: "127.0.0.0/8", action: allow', 'to: "::1", action: deny',
                'action: allow')
    app = lab.open(SocksUdp(site.client().socks))
    permitted(app, echo.address)
    for host in ('127.0.0.2', '::ffff:127.0.0.3', '::1'):
        refused(site.server, app, (host, echo6.address[1]))
    permitted(app, echo.address)
    assert echo6.count == 0
    adds_up(site.server)


def test_ports_and_protocols(lab, echo):
    port = echo.address[1]
    other = lab.open(UdpEcho())
    site = Site(lab, f'protocol: tcp, port: {other.address[1]}, action: allow',
                f'command: udp, port: [1, {port}-{port}], action: allow')
    app = lab.open(SocksUdp(site.client().socks))
    permitted(app, echo.address)
    refused(site.server, app, other.address)
    permitted(app, echo.address)
    assert other.count == 0


def test_the_first_match_decides(lab, echo):
    port = echo.address[1]
    site = Site(lab, f'port: {port}, user: bob, action: deny', f'port: {port}, action: allow', 'action: deny',
                f'port: {port}, action: deny')
    permitted(lab.open(SocksUdp(site.client().socks)), echo.address)
    refused(site.server, lab.open(SocksUdp(site.client('bob').socks)), echo.address)


def test_many_targets_are_judged_each(lab, echo):
    """More than are remembered at a time, and all of them twice."""
    site = Site(lab, f'to: 127.0.0.1, port: {echo.address[1]}, action: allow', 'port: 1-600, action: deny')
    app = lab.open(SocksUdp(site.client().socks))
    for _ in range(2):
        before = drops(site.server)
        for port in range(1, 601):
            app.send(b'refused', ('127.0.0.1', port))
            if port % 50 == 0:
                permitted(app, echo.address)
        wait_for(lambda before=before: drops(site.server) == before + 600, what='drops by policy')
    assert echo.count == 24
    adds_up(site.server)


def test_the_built_in_list_comes_before_the_rules(lab, echo, tcp_echo):
    site = Site(lab, 'to: ["127.0.0.0/8", "0.0.0.0/0"], action: allow', 'action: allow', allow=())
    refused(site.server, lab.open(SocksUdp(site.client().socks)), echo.address)
    assert site.connect(*tcp_echo.address) == 2
    assert echo.count == 0


# --- names ---

HOSTS = '127.0.0.1 a.good.test good.test bad.good.test a.other.test\n::1 six.good.test\n'


@pytest.fixture
def named(lab, with_hosts):
    """Makes a site whose server knows the names above."""
    prefix = with_hosts(HOSTS)

    def start(*rules):
        folder, port, invite = lab.init()
        lab.edit_config(folder, rules_of(*rules))
        server = lab.start('server', 'server', '-c', folder / 'server.yaml', '-v', prefix=prefix)
        server.ready()
        return server, lab.client(invite), folder, port, invite
    return start


def test_names_of_datagrams(lab, named, echo):
    """Allowed by name alone: what comes back is, too, though its address by itself is not."""
    port = echo.address[1]
    server, client, *_ = named('host: bad.good.test, action: deny', f'host: ["*.good.test"], port: {port}, action: allow')
    app = lab.open(SocksUdp(client.socks))
    for name in ('a.good.test', 'A.Good.TEST'):
        for _ in range(2):
            app.send(name.encode(), (name, port))
            assert app.receive() == (name.encode(), echo.address)
    count = echo.count
    for name in ('bad.good.test', 'good.test', 'a.other.test', 'absent.other.test', '127.0.0.1'):
        for _ in range(2):
            refused(server, app, (name, port))
        refused(server, app, ('a.good.test', port - 1))
    assert echo.count == count and drops(server, 'down') == 0
    adds_up(server)


def test_a_rule_with_name_and_network_needs_both(lab, named, echo, echo6):
    server, client, *_ = named('host: "*.good.test", to: 127.0.0.0/8, action: allow')
    app = lab.open(SocksUdp(client.socks))
    app.send(b'four', ('a.good.test', echo.address[1]))
    assert app.receive() == (b'four', echo.address)
    refused(server, app, ('six.good.test', echo6.address[1]))
    refused(server, app, ('a.other.test', echo.address[1]))
    refused(server, app, echo.address)
    assert echo6.count == 0
    adds_up(server)


def test_names_of_connect(lab, named, tcp_echo):
    server, client, *_ = named('host: bad.good.test, action: deny, reply: 5', 'host: "*.good.test", to: "::1", action: deny, reply: 3',
                               'host: ["*.good.test", "absent.test"], command: connect, action: allow')
    codes = {'a.good.test': 0, 'bad.good.test': 5, 'six.good.test': 3, 'good.test': 2, '127.0.0.1': 2, 'absent.test': 4,
             'absent.other.test': 2}  # of these only the allowed one is looked up
    for name, expected in codes.items():
        sock, code, _ = socks_request(client.socks, CONNECT, name, tcp_echo.address[1])
        with sock:
            assert code == expected, name
            if code == 0:
                sock.sendall(b'joined')
                assert receive(sock, 6) == b'joined'
    assert server.status()['up']['received'] == server.status()['up']['session']


def test_names_of_plain_associations(lab, named, echo):
    server, _, folder, port, invite = named('host: "*.good.test", action: allow')
    tls = lab.open(dial_tls(folder, port))
    log_in(tls, invite)
    app = lab.open(PlainUdp(tls))
    assert app.code == 0
    for _ in range(2):
        assert app.ask(b'named', ('a.good.test', echo.address[1])) == (b'named', echo.address)
        for target in (('a.other.test', echo.address[1]), echo.address, ('good.test', echo.address[1])):
            refused(server, app, target)
    assert echo.count == 2
    adds_up(server)


# --- the way back ---

@pytest.mark.parametrize('filtering', ['address-dependent', 'endpoint-independent'])
def test_what_a_denied_source_sends_is_dropped_inward(lab, echo, filtering):
    port = echo.address[1]
    strange, friend = (lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
    for sock in (strange, friend):
        sock.bind(('127.0.0.1', 0))
    site = Site(lab, f'port: [{port}, {friend.getsockname()[1]}], action: allow', config=f'filtering: {filtering}')
    app = lab.open(SocksUdp(site.client().socks))
    permitted(app, echo.address)
    for number in range(1, 4):
        strange.sendto(b'unasked', echo.sources[0])
        wait_for(lambda number=number: drops(site.server, 'down') == number, what='a drop inward')
    friend.sendto(b'welcome', echo.sources[0])
    assert app.receive() == (b'welcome', friend.getsockname())
    permitted(app, echo.address)
    counted = {reason: count for reason, count in site.server.status()['down']['drops'].items() if count > 0}
    assert counted == {'policy': 3}
    adds_up(site.server)


# --- the client's address, TCP, and codes ---

def test_the_address_of_the_client(lab, tcp_echo):
    site = Site(lab, 'from: 127.0.0.2, action: allow', 'from: "127.0.0.0/8", action: deny, reply: 3')
    for source, code in (('127.0.0.2', 0), ('127.0.0.1', 3), ('127.0.0.3', 3)):
        assert ask(site.direct(source), CONNECT, *tcp_echo.address)[0] == code


@pytest.mark.parametrize('reply', range(1, 9))
def test_the_chosen_code_is_answered(lab, tcp_echo, reply):
    site = Site(lab, f'action: deny, reply: {reply}')
    client = site.client()
    for command in (CONNECT, BIND):
        sock, code, bound = socks_request(client.socks, command, *tcp_echo.address)
        with sock:
            assert (code, bound) == (reply, ('0.0.0.0', 0))
            assert sock.recv(1) == b''
    plain = lab.open(PlainUdp(site.direct()))
    assert plain.code == reply and plain.tcp.recv(1) == b''


def test_the_address_of_a_client_that_moved(lab, echo):
    site = Site(lab, 'from: 127.0.0.2, action: deny', 'action: allow')
    proxy = lab.open(TcpProxy(('127.0.0.1', site.port)))
    client = lab.client(site.invites['alice'].replace(f':{site.port}/', f':{proxy.address[1]}/'))
    app = lab.open(SocksUdp(client.socks))
    permitted(app, echo.address)
    proxy.source = '127.0.0.2'
    proxy.cut()
    wait_for(lambda: client.status()['sessions_resumed'] == 1, what='the session to be resumed')
    refused(site.server, app, echo.address)
    adds_up(site.server)


def test_commands(lab, echo, tcp_echo):
    site = Site(lab, 'command: connect, action: allow', 'command: [bind, udp], action: deny, reply: 7')
    assert site.connect(*tcp_echo.address) == 0
    assert site.connect('127.0.0.1', 0, BIND) == 7
    assert lab.open(PlainUdp(site.direct())).code == 7
    refused(site.server, lab.open(SocksUdp(site.client().socks)), echo.address)


def test_a_bind_judges_the_peer_that_comes(lab):
    site = Site(lab, 'command: bind, to: 127.0.0.2, action: deny', 'command: bind, to: 127.0.0.9, action: deny, reply: 5',
                'command: bind, to: 127.0.0.0/8, action: allow', 'command: bind, to: "10.0.0.0/8", action: allow')
    client = site.client()
    app, code, bound = socks_request(client.socks, BIND, '0.0.0.0', 0)
    lab.open(app)
    assert code == 0
    with socket.create_connection(bound, 5, source_address=('127.0.0.2', 0)) as wrong, contextlib.suppress(ConnectionResetError):
        assert wrong.recv(1) == b''
    with socket.create_connection(bound, 5, source_address=('127.0.0.3', 0)) as right:
        assert read_reply(app) == (0, right.getsockname())
        right.sendall(b'hello')
        assert receive(app, 5) == b'hello'
    for host, code in (('127.0.0.2', 2), ('127.0.0.9', 5), ('10.0.0.1', 2), ('192.0.2.1', 2)):
        sock, got, _ = socks_request(client.socks, BIND, host, 0)
        sock.close()
        assert got == code, host


def test_plain_associations_are_judged_by_datagram_too(lab, echo, echo6):
    site = Site(lab, f'to: 127.0.0.0/8, port: {echo.address[1]}, action: allow')
    app = lab.open(PlainUdp(site.direct()))
    assert app.code == 0
    permitted(app, echo.address)
    refused(site.server, app, echo6.address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as strange:
        strange.bind(('127.0.0.1', 0))
        strange.sendto(b'unasked', echo.sources[0])
        wait_for(lambda: drops(site.server, 'down') == 1, what='a drop inward')
    permitted(app, echo.address)
    adds_up(site.server)


def test_of_several_addresses_the_permitted_are_dialled(lab, with_hosts):
    """localhost has ::1 and 127.0.0.1 in the file below; rules leave one."""
    prefix = with_hosts('::1 both.test\n127.0.0.1 both.test\n')
    port = free_port()
    seen = []

    def note(connection):
        seen.append(connection.getpeername()[0])
        echo_stream(connection)
    for host in ('127.0.0.1', '::1'):
        lab.open(TcpServer(note, host, port))
    folder, _, invite = lab.init()
    lab.edit_config(folder, rules_of('to: "::1", action: deny', 'action: allow'))
    lab.start('server', 'server', '-c', folder / 'server.yaml', prefix=prefix).ready()
    client = lab.client(invite)
    for _ in range(3):
        sock, code, _ = socks_request(client.socks, CONNECT, 'both.test', port)
        with sock:
            assert code == 0
            sock.sendall(b'x')
            assert receive(sock, 1) == b'x'
    assert seen == ['127.0.0.1'] * 3


# --- the log ---

@pytest.mark.parametrize('addresses', ['full', 'masked'])
def test_rules_that_log(lab, echo, tcp_echo, addresses):
    """Addresses and names as `log.addresses` says."""
    port = echo.address[1]
    ip, name = ('127.0.0.1', 'localhost') if addresses == 'full' else ('127.0.0.0', '*')
    site = Site(lab, f'name: yes-udp, command: udp, port: {port}, action: allow, log: true',
                'name: quiet, command: udp, port: 1, action: deny', 'name: no-udp, command: udp, action: deny, log: true',
                'name: no-name, host: localhost, action: deny, log: true',
                'name: no-tcp, command: connect, action: deny, log: true', config=f'log: {{addresses: {addresses}}}')
    app = lab.open(SocksUdp(site.client().socks))
    for _ in range(3):
        permitted(app, echo.address)
        for number in (1, 2):
            refused(site.server, app, ('127.0.0.1', number))
    for host in ('127.0.0.1', 'localhost'):
        assert site.connect(host, tcp_echo.address[1]) == 2
    lines = [line.removeprefix('sealgram: info: ') for line in site.server.err.splitlines() if 'info: rule ' in line]
    sources = [line.split(' from ')[1].split(': ')[0] for line in lines]
    assert lines == [f'rule yes-udp: allow alice from {sources[0]}: udp {ip}:{port}',
                     f'rule no-udp: deny alice from {sources[1]}: udp {ip}:2',
                     f'rule no-tcp: deny alice from {sources[2]}: connect {ip}:{tcp_echo.address[1]}',
                     f'rule no-name: deny alice from {sources[3]}: connect {name}:{tcp_echo.address[1]}']
    assert all(source.startswith(f'{ip}:') for source in sources) and sources[0] == sources[1]


# --- faults of the file ---

@pytest.mark.parametrize('text, line, fault', [
    ('rules:\n  - {name: a, action: allow, ports: 5}', 2, 'ports: unknown key (did you mean port?)'),
    ('rules:\n  - name: a\n    action: deny\n    to: 10.0.0.1/8', 4,
     "to: '10.0.0.1/8' is not a network: ADDRESS/BITS without host bits"),
    ('rules:\n  - name: a\n    port: 9-8', 3, "port: '9-8' is neither a port nor FIRST-LAST, from 1 to 65535"),
    ('rules:\n  - {name: a, action: deny}\n  - {name: a, action: allow}', 3, 'rules: a is also the name of the rule in line {2}'),
    ('rules:\n  - {name: a, group: staff, action: deny}\ngroups:\n  stuff: []', 2, "group: there is no 'staff' under groups"),
    ('rules:\n  - {name: a, user: "x y", action: deny}', 2,
     "user: 'x y' is no user name: 1 to 64 of letters, digits and . _ - @"),
    ('rules:\n  - name: a\n    host: *.example.org', 3, 'host: \'the entry\' is neither a name nor "*.NAME" (in quotes)'),
], ids=['key', 'network', 'port', 'name twice', 'group', 'user', 'alias'])
def test_faults_are_told_with_their_line(lab, text, line, fault):
    folder, _, _ = lab.init()
    path = folder / 'server.yaml'
    before = path.read_text().count('\n') + 1
    lab.edit_config(folder, text)
    fault = fault.replace('{2}', str(before + 2))
    for command in (('server', '-c', path, '--check'), ('policy', 'test', '-c', path, '--user', 'a', 'udp', '192.0.2.1:1')):
        done = run(*command)
        assert done.returncode == 3 and done.stdout == ''
        assert done.stderr.replace('error: ', '') == f'sealgram: {path}:{before + line}: {fault}\n'


# --- policy test ---

@pytest.fixture
def tested(lab):
    """A server.yaml with rules, and how to test it: the whole output."""
    folder, _, _ = lab.init(allow=['127.0.0.1/32'])
    lab.invite(folder, 'bob')
    path = folder / 'server.yaml'
    first = path.read_text().count('\n') + 3
    lab.edit_config(folder, rules_of('name: dns, user: alice, command: udp, port: 53, action: allow',
                                     'name: office, from: 192.0.2.0/24, protocol: tcp, to: 9.9.9.0/24, action: allow',
                                     'name: no-mail, port: 25, action: deny, reply: 5',
                                     'name: local, host: localhost, action: allow',
                                     'name: blocked, host: "*.blocked.example", action: deny, reply: 4',
                                     'name: peers, user: bob, command: bind, action: allow'))

    def test(*words, user='alice'):
        done = run('policy', 'test', '-c', path, '--user', user, *words)
        return done.returncode, done.stdout.replace(str(path), 'FILE') + done.stderr.replace(str(path), 'FILE')
    return test, first, path


def test_policy_test_tells_the_deciding_rule(tested):
    test, first, _ = tested
    cases = [
        (('udp', '9.9.9.9:53'), 0, f'allow: rule dns, FILE:{first}\n'),
        (('udp', '[2606:4700::1]:53'), 0, f'allow: rule dns, FILE:{first}\n'),
        (('udp', '9.9.9.9:54'), 1, 'deny, reply 02: no rule matches\n'),
        (('udp', '10.0.0.1:53'), 1, 'deny, reply 02: the built-in deny list: private\n'),
        (('udp', '127.0.0.2:53'), 1, 'deny, reply 02: the built-in deny list: loopback\n'),
        (('udp', '[::ffff:169.254.169.254]:53'), 1, 'deny, reply 02: the built-in deny list: metadata\n'),
        (('udp', '127.0.0.1:53'), 0, f'allow: rule dns, FILE:{first}\n'),
        (('--from', '192.0.2.1', 'connect', '9.9.9.9:443'), 0, f'allow: rule office, FILE:{first + 1}\n'),
        (('--from', '::ffff:192.0.2.1', 'connect', '9.9.9.9:443'), 0, f'allow: rule office, FILE:{first + 1}\n'),
        (('--from', '192.0.3.1', 'connect', '9.9.9.9:443'), 1, 'deny, reply 02: no rule matches\n'),
        (('connect', '9.9.9.9:443'), 2, f"sealgram: rule office, FILE:{first + 1}, looks at the client's address: --from ADDR\n"),
        (('connect', '9.9.8.9:443'), 1, 'deny, reply 02: no rule matches\n'),
        (('connect', '9.9.8.9:25'), 1, f'deny, reply 05: rule no-mail, FILE:{first + 2}\n'),
        (('--from', '192.0.3.1', 'connect', 'x.blocked.example:80'), 1, f'deny, reply 04: rule blocked, FILE:{first + 4}\n'),
        (('--from', '192.0.3.1', 'connect', 'absent.example:80'), 1, 'deny, reply 02: no rule matches\n'),
        (('--from', '192.0.3.1', 'bind', '9.9.9.1:5'), 1, 'deny, reply 02: no rule matches\n'),
        (('--from', '192.0.3.1', 'bind', '10.0.0.1:5'), 1, 'deny, reply 02: the built-in deny list: private\n'),
    ]
    for words, code, text in cases:
        assert test(*words) == (code, text), words
    assert test('--from', '192.0.3.1', 'bind', '9.9.9.1:5', user='bob') == (0, f'allow: rule peers, FILE:{first + 5}\n')


def test_policy_test_looks_a_name_up(tested):
    test, first, _ = tested
    code, text = test('--from', '192.0.3.1', 'connect', 'localhost:80')
    assert code == 0 and f'127.0.0.1: allow: rule local, FILE:{first + 3}\n' in text
    rest = set(text.splitlines()) - {f'127.0.0.1: allow: rule local, FILE:{first + 3}'}
    assert rest <= {'::1: deny, reply 02: the built-in deny list: loopback'}
    code, text = test('udp', 'no-such-name.invalid:53')
    assert code == 1 and text.startswith('sealgram: no-such-name.invalid does not resolve: ')


def test_policy_test_in_json(tested):
    test, first, path = tested

    def document(*words):
        code, text = test('--json', '--from', '192.0.3.1', *words)
        return code, json.loads(text)
    assert document('udp', '9.9.9.9:53') == (0, {'decision': 'allow', 'by': 'rule', 'rule': 'dns', 'file': 'FILE', 'line': first})
    assert document('udp', '9.9.9.9:25') == (
        1, {'decision': 'deny', 'reply': 5, 'by': 'rule', 'rule': 'no-mail', 'file': 'FILE', 'line': first + 2})
    assert document('udp', '10.9.9.9:53') == (1, {'decision': 'deny', 'reply': 2, 'by': 'built-in', 'class': 'private'})
    assert document('udp', '9.9.9.9:54') == (1, {'decision': 'deny', 'reply': 2, 'by': 'default'})
    code, found = document('connect', 'localhost:80')
    assert (code, found['decision']) == (0, 'allow')
    assert {'address': '127.0.0.1', 'decision': 'allow', 'by': 'rule', 'rule': 'local', 'file': 'FILE',
            'line': first + 3} in found['addresses']


def test_policy_test_without_rules(lab):
    folder, _, _ = lab.init(allow=())
    done = run('policy', 'test', '-c', folder / 'server.yaml', '--user', 'alice', 'udp', '9.9.9.9:53')
    assert (done.returncode, done.stdout, done.stderr) == (0, 'allow: there are no rules\n', '')


def test_policy_test_of_a_user_that_is_not_there(lab):
    folder, _, _ = lab.init(allow=())
    config = folder / 'server.yaml'
    test = ('policy', 'test', '-c', config, '--user')
    done = run(*test, 'alcie', 'udp', '9.9.9.9:53')
    assert (done.returncode, done.stdout) == (0, 'allow: there are no rules\n')
    assert done.stderr == f'sealgram: there is no user alcie in {folder}/users, who could log in: this is what the rules would say\n'
    assert run(*test, 'alice', 'udp', '9.9.9.9:53').stderr == ''
    lab.edit_config(folder, 'authenticator: {command: [/bin/true]}')
    assert run(*test, 'alcie', 'udp', '9.9.9.9:53').stderr == '', 'who else there is, the authenticator knows'


@pytest.mark.parametrize('words, says', [
    ((), 'what to test is missing: test udp|connect|bind HOST:PORT'),
    (('test', 'udp'), 'what to test is missing: test udp|connect|bind HOST:PORT'),
    (('tset',), "'tset': there is only `policy test`"),
    (('test', 'tcp', '9.9.9.9:1'), "'tcp': must be udp, connect or bind"),
    (('test', 'udp', '9.9.9.9'), "'9.9.9.9' is not HOST:PORT"),
    (('test', 'udp', '9.9.9.9:0'), "'9.9.9.9:0' is not HOST:PORT"),
    (('test', 'udp', '9.9.9.9:1', 'x'), "'x': one target at a time"),
    (('test', 'udp', '9.9.9.9:1'), '-c FILE is missing: the server.yaml that `sealgram init` made'),
    (('test', '-c', 'x', 'udp', '9.9.9.9:1'), '--user NAME is missing'),
    (('test', '--user', 'a b'), "--user: 'a b' is no user name"),
    (('test', '--from', '10.0.0.0/8'), "--from: '10.0.0.0/8' is not an IP address"),
])
def test_policy_test_explains_what_it_needs(words, says):
    done = run('policy', *words)
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr.splitlines()[0] == f'sealgram policy: {says}'
