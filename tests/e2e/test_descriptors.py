"""No descriptor is left: what exists goes on, nothing spins, and after relief newcomers are served within a second."""
import os
import socket
import ssl
import time

import pytest

from harness import CONNECT, SocksUdp, open_files, socks_request, wait_for

MOST = 120


def cpu_seconds(program):
    fields = open(f'/proc/{program.process.pid}/stat', encoding='ascii').read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def handshake(port):
    """Seconds until TLS stands."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    start = time.monotonic()
    with socket.create_connection(('127.0.0.1', port), 10) as sock, context.wrap_socket(sock):
        return time.monotonic() - start


@pytest.mark.no_sanitize
@pytest.mark.parametrize('workers', [1, 2])
def test_without_descriptors(lab, echo, tcp_echo, workers):
    folder, port, invite = lab.init()
    lab.edit_config(folder, f'workers: {workers}\nlimits:\n  unauthenticated: 4096\n  unauthenticated_per_address: 4096\n'
                            '  handshake_seconds: 120')
    server = lab.start('server', 'server', '-c', folder / 'server.yaml', prefix=['prlimit', f'--nofile={MOST}:{MOST}'])
    server.ready()
    client = lab.client(invite)
    app = lab.open(SocksUdp(client.socks))
    relay, code, _ = socks_request(client.socks, CONNECT, *tcp_echo.address)
    lab.open(relay)
    assert code == 0 and app.ask(b'before', echo.address)[0] == b'before'

    idle = [socket.create_connection(('127.0.0.1', port), 10) for _ in range(MOST + 50)]
    wait_for(lambda: 'cannot accept connections for the moment: Too many open files\n' in server.err, 10, 'the end')
    wait_for(lambda: open_files(server) >= MOST - 1, 10, 'all in use')
    control = socket.socket(socket.AF_UNIX)  # somebody asks for the status, too
    control.connect(str(server.control))
    time.sleep(0.2)
    start, used = time.monotonic(), cpu_seconds(server)
    for number in range(20):
        assert app.ask(b'%d' % number, echo.address)[0] == b'%d' % number
        relay.sendall(b'%d' % number)
        assert relay.recv(100) == b'%d' % number
        time.sleep(0.1)
    used = (cpu_seconds(server) - used) / (time.monotonic() - start)
    assert used < 0.05, f'{used:.0%} of a CPU'

    second = lab.open(SocksUdp(client.socks, timeout=0.5))  # needs a socket: dropped and counted, no more
    with pytest.raises(TimeoutError):
        second.ask(b'x', echo.address)
    for sock in idle:
        sock.close()
    start = time.monotonic()
    handshake(port)
    assert time.monotonic() - start < 1
    control.sendall(b'status\n')
    assert control.recv(10).startswith(b'{')
    control.close()
    third = lab.open(SocksUdp(client.socks))
    assert third.ask(b'again', echo.address)[0] == b'again'
    assert server.status()['up']['drops']['no_socket'] >= 1
