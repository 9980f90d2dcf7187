"""Client and server in front of others: several clients and servers, and a client whose server lies behind another."""
import socket

from harness import CONNECT, MARKER, SocksUdp, UdpEcho, run, socks_request, sum_ledger


def udp_socket():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    return sock


def ask_from(sock, address, data):
    sock.sendto(data, address)
    return sock.recv(65536)


def ask_udp(address, data):
    with udp_socket() as sock:
        return ask_from(sock, address, data)


def forward_to(target):
    return ['--forward', f'udp:127.0.0.1:0=127.0.0.1:{target.address[1]}']


def test_two_clients_on_two_servers(lab):
    """Each datagram leaves by the server of its client, and comes back to its own application."""
    echoes = [lab.open(UdpEcho()) for _ in range(2)]
    invites = [lab.init()[::2] for _ in range(2)]
    servers = [lab.server(folder) for folder, _ in invites]
    clients = [lab.client(invite, *forward_to(echo)) for (_, invite), echo in zip(invites, echoes)]
    apps = [lab.open(SocksUdp(client.socks)) for client in clients]
    for turn in range(20):
        for number, app in enumerate(apps):
            app.send(b'%d from %d' % (turn, number), echoes[number].address)
        for number, app in enumerate(apps):
            assert app.receive() == (b'%d from %d' % (turn, number), echoes[number].address)
            # left open, so that the next turn's source is another
            assert ask_from(lab.open(udp_socket()), clients[number].forwards[0], MARKER) == MARKER
    for server in servers:
        status = server.status()
        assert (status['sessions'], status['associations']) == (1, 21) and status['up']['forwarded'] == 40


def test_two_clients_of_two_users_on_one_server(lab, echo):
    folder, _, alice = lab.init()
    bob = lab.invite(folder, 'bob')
    server = lab.server(folder)
    for invite in alice, bob:
        client = lab.client(invite, *forward_to(echo))
        assert ask_udp(client.forwards[0], MARKER) == MARKER
    assert server.status()['sessions'] == 2 and len(echo.sources) == 2


def test_a_client_behind_a_client(lab, echo, tcp_echo):
    """Records inside records: the second server is reached through forwards of the first client, TCP and UDP alike."""
    outer_folder, _, outer_invite = lab.init()
    inner_folder, inner_port, inner_invite = lab.init()
    outer, inner = lab.server(outer_folder), lab.server(inner_folder)
    for port in range(23000, 23100):  # one port number for both forwards, as the server has
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(('127.0.0.1', port))
                udp.bind(('127.0.0.1', port))
                break
            except OSError:
                continue
    first = lab.client(outer_invite, '--forward', f'udp:127.0.0.1:{port}=127.0.0.1:{inner_port}',
                       '--forward', f'tcp:127.0.0.1:{port}=127.0.0.1:{inner_port}')
    second = lab.client(inner_invite.replace(f':{inner_port}/', f':{port}/'), *forward_to(echo))
    assert (first.words['path'], second.words['path']) == ('udp', 'udp')
    for size in 0, 1, 512, 1000, 1400, 9000:
        data = MARKER * (size // 16) + b'x' * (size % 16)
        assert ask_udp(second.forwards[0], data) == data
    app, code, _ = socks_request(second.socks, CONNECT, *tcp_echo.address)
    with app:
        assert code == 0
        app.sendall(MARKER)
        assert app.recv(64) == MARKER
    assert inner.status()['up']['forwarded'] == 6 and outer.status()['up']['forwarded'] >= 4
    for program in (outer, inner, first, second):
        status = program.status()
        for ledger in status['up'], status['down']:
            assert sum_ledger(ledger) == ledger['received']
            assert not any(count for reason, count in ledger['drops'].items() if reason != 'refused'), ledger


def test_the_next_invite_serves_when_the_first_server_is_gone(lab, echo):
    gone, _, first = lab.init()
    folder, _, second = lab.init()
    lab.server(folder)
    client = lab.client(first + '\n' + second, *forward_to(echo))
    assert ask_udp(client.forwards[0], MARKER) == MARKER
    assert run('users', gone).returncode == 0
