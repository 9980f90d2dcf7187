"""Machines that vanish: every TCP connection of a relay is asked after, so that the kernel tells of one that is gone."""
import re
import socket
import subprocess
import threading

import pytest

from harness import CONNECT, TcpServer, receive, run, socks_request, wait_for


def timers(program, port):
    """The keepalive timers, in seconds, of all connections with this local port; None where there is none."""
    lines = subprocess.run([program('ss'), '-tnoH', f'sport = :{port}'], capture_output=True, text=True, check=True).stdout
    found = []
    for line in lines.splitlines():
        timer = re.search(r'timer:\(keepalive,(?:(\d+)min)?(?:(\d+)sec)?', line)
        found.append(int(timer.group(1) or 0) * 60 + int(timer.group(2) or 0) if timer else None)
    return found


@pytest.mark.parametrize('ended', [False, True])
def test_every_connection_of_a_relay_is_asked_after(lab, program, ended):
    """Also those in CLOSE-WAIT, whose peer has ended and of whom nothing more is expected."""
    peers, checked = [], threading.Event()
    target = lab.open(TcpServer(lambda connection: (peers.append(connection.getpeername()[1]), checked.wait(30))))
    folder, port, invite = lab.init()
    lab.server(folder)
    client = lab.client(invite)
    app, code, _ = socks_request(client.socks, CONNECT, *target.address)
    lab.open(app)
    assert code == 0
    app.sendall(b'x')
    if ended:
        app.shutdown(socket.SHUT_WR)
    wait_for(lambda: peers, what='the connection of the target')
    ours = re.findall(rf'127\.0\.0\.1:(\d+) +127\.0\.0\.1:{port}\b', subprocess.run(
        [program('ss'), '-tnH'], capture_output=True, text=True, check=True).stdout)
    assert len(ours) == 2  # the session's and the relay's
    for local in (client.socks[1], port, *ours, peers[0]):
        wait_for(lambda local=local: (found := timers(program, local)) and
                 all(seconds is not None and seconds <= 75 for seconds in found), what=f'keepalive of port {local}')
    checked.set()


def test_the_limit_of_a_quiet_relay_is_told_and_checked(lab):
    assert '14400' in run('client', '--help').stdout
    done = run('client', '--relay-idle', '59', 'sealgram://x', folder=lab.folder)
    assert done.returncode != 0 and '--relay-idle 59: not a number of seconds from 60 to 604800' in done.stderr
    folder, _, _ = lab.init()
    lab.edit_config(folder, 'timeouts:\n  relay_idle_seconds: 59')
    done = run('server', '-c', folder / 'server.yaml', '--check')
    assert done.returncode != 0 and 'relay_idle_seconds: must be from 60 to 604800' in done.stderr


def test_a_quiet_relay_goes_on(lab, tcp_echo):
    """Both limits given: the relay carries as ever."""
    folder, _, invite = lab.init()
    lab.edit_config(folder, 'timeouts:\n  relay_idle_seconds: 60')
    lab.server(folder)
    client = lab.client(invite, '--relay-idle', '60')
    app, code, _ = socks_request(client.socks, CONNECT, *tcp_echo.address)
    lab.open(app)
    assert code == 0
    app.sendall(b'still')
    assert receive(app, 5) == b'still'
