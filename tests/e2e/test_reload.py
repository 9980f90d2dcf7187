"""A running server reads its files again: what changes at once, what takes a restart, and what a fault changes: nothing."""
import os
import signal
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request

import pytest

from harness import CONNECT, SEALGRAM, SocksUdp, free_port, open_files, run, socks_request, sum_ledger, wait_for


def reload(lab, server):
    return run('reload', '--socket', server.control, folder=lab.folder)


def expect_reloaded(lab, server):
    done = reload(lab, server)
    assert (done.returncode, done.stdout, done.stderr) == (0, 'reloaded\n', '')


def served_certificate(port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(('127.0.0.1', port), 5) as sock, context.wrap_socket(sock) as tls:
        return tls.getpeercert(True)


def test_targets_filtering_and_lists_change_at_once(lab, echo):
    folder, _, invite = lab.init(allow=())
    server, client = lab.server(folder), lab.client(invite)
    app = lab.open(SocksUdp(client.socks, timeout=0.3))
    with pytest.raises(TimeoutError):
        app.ask(b'x', echo.address)
    assert socks_request(client.socks, CONNECT, *echo.address)[1] == 2, 'refused by policy'
    lab.edit_config(folder, 'allow: ["127.0.0.0/8"]')
    expect_reloaded(lab, server)
    app.udp.settimeout(5)
    assert app.ask(b'again', echo.address)[0] == b'again', 'the same association, the same session'
    assert server.status()['sessions_opened'] == 1 and server.status()['sessions'] == 1
    assert 'sealgram: info: configuration read again: 1 users\n' in server.err


def test_sighup_is_a_reload(lab):
    folder, _, invite = lab.init()
    server, client = lab.server(folder), lab.client(invite)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: 'configuration read again: 1 users\n' in server.err, 5, 'the reload')
    assert server.status()['sessions'] == 1 and client.process.poll() is None


def test_limits_change_at_once(lab, echo):
    folder, _, invite = lab.init()
    lab.edit_config(folder, 'limits:\n  associations_per_user: 1')
    server, client = lab.server(folder), lab.client(invite)
    first, second = (lab.open(SocksUdp(client.socks, timeout=0.5)) for _ in range(2))
    assert first.ask(b'1', echo.address)[0] == b'1'
    with pytest.raises(TimeoutError):
        second.ask(b'2', echo.address)
    config = folder / 'server.yaml'
    config.write_text(config.read_text().replace('associations_per_user: 1', 'associations_per_user: 2'))
    expect_reloaded(lab, server)
    third = lab.open(SocksUdp(client.socks))
    assert third.ask(b'3', echo.address)[0] == b'3' and first.ask(b'1', echo.address)[0] == b'1'


def test_a_new_certificate_is_served_and_sessions_stay(lab, echo):
    folder, port, invite = lab.init()
    server, client = lab.server(folder), lab.client(invite)
    before = served_certificate(port)
    done = run('renew-cert', folder)
    assert done.stderr.endswith('cert.pem is new; `sealgram reload` makes a running server use it\n')
    assert served_certificate(port) == before, 'read when it is asked for'
    expect_reloaded(lab, server)
    assert served_certificate(port) == ssl.PEM_cert_to_DER_cert((folder / 'cert.pem').read_text()) != before
    assert lab.open(SocksUdp(client.socks)).ask(b'x', echo.address)[0] == b'x'
    assert server.status()['sessions_opened'] == 1
    assert lab.open(SocksUdp(lab.client(invite).socks)).ask(b'y', echo.address)[0] == b'y'


def test_another_user_file_takes_its_place(lab):
    folder, _, invite = lab.init()
    server = lab.server(folder)
    lab.client(invite)
    (folder / 'others').write_text('')
    (folder / 'others').chmod(0o600)
    config = folder / 'server.yaml'
    config.write_text(config.read_text().replace('users: users', 'users: others'))
    done = reload(lab, server)
    assert (done.returncode, done.stdout) == (0, 'reloaded; these are as they were until a restart: devices\n')
    wait_for(lambda: server.status()['sessions'] == 0, 5, 'the end of a session whose user is gone')
    assert server.status()['users'] == 0
    run('invite', folder, 'bob')
    wait_for(lambda: server.status()['users'] == 1, 5, 'the new file is watched')


def test_without_anyone_allowed_anonymous_sessions_end(lab):
    folder, port, _ = lab.init()
    lab.edit_config(folder, 'allow_anyone_without_authentication: true\nplain_socks:\n  from: ["127.0.0.0/8"]')
    server = lab.server(folder)
    app = lab.open(SocksUdp(('127.0.0.1', port)))
    assert server.status()['plain_associations'] == 1
    config = folder / 'server.yaml'
    config.write_text(config.read_text().replace('authentication: true', 'authentication: false'))
    expect_reloaded(lab, server)
    assert app.tcp.recv(1) == b''
    assert server.status()['plain_associations'] == 0


def test_another_ca_ends_what_the_old_one_let_in(lab):
    folder, port, invite = lab.init()

    def make_ca(name):
        path = lab.folder / name
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout',
                        f'{path}.key', '-out', f'{path}.pem', '-days', '2', '-subj', f'/CN={name}'], check=True, capture_output=True)
        return path
    ca, other, path = make_ca('ca'), make_ca('other'), lab.folder / 'bob'
    subprocess.run(['openssl', 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', f'{path}.key',
                    '-out', f'{path}.csr', '-subj', '/CN=bob'], check=True, capture_output=True)
    subprocess.run(['openssl', 'x509', '-req', '-in', f'{path}.csr', '-CA', f'{ca}.pem', '-CAkey', f'{ca}.key', '-CAcreateserial',
                    '-days', '1', '-out', f'{path}.pem'], check=True, capture_output=True)
    (lab.folder / 'bob.key').chmod(0o600)
    (folder / 'client_ca.pem').write_text((lab.folder / 'ca.pem').read_text())
    lab.edit_config(folder, 'client_ca: client_ca.pem')
    bob = lab.invite(folder, 'bob', '--certificate')
    server = lab.server(folder)
    lab.client(bob, '--cert', f'{path}.pem', '--key', f'{path}.key')
    lab.client(invite)
    assert server.status()['sessions'] == 2 and port
    expect_reloaded(lab, server)
    assert server.status()['sessions'] == 2, 'nothing has changed'
    (folder / 'client_ca.pem').write_text((lab.folder / f'{other.name}.pem').read_text())
    expect_reloaded(lab, server)
    wait_for(lambda: server.status()['sessions'] == 1, 5, 'the end of the session by certificate')
    assert 'session of bob ended: user unknown, removed, or credential changed; ' in server.err


FAULTS = {
    'key': ('unknown_thing: 1', '{config}:{line}: unknown_thing: unknown key'),
    'value': ('limits:\n  sessions: none', '{config}:{after}: sessions: must be a whole number'),
    'file': ('client_ca: missing.pem', '{config}:{line}: client_ca: {folder}/missing.pem: No such file or directory'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_changes_nothing_and_is_told_with_its_line(lab, echo, fault):
    folder, _, invite = lab.init()
    server, client = lab.server(folder), lab.client(invite)
    config = folder / 'server.yaml'
    good = config.read_text()
    bad, says = FAULTS[fault]
    config.write_text(good.replace('allow:\n  - "127.0.0.0/8"\n  - "::1/128"', 'allow: []') + bad + '\n')
    line = config.read_text().splitlines().index(bad.partition('\n')[0]) + 1
    text = says.format(config=config, folder=folder, line=line, after=line + 1)
    done = reload(lab, server)
    assert (done.returncode, done.stdout, done.stderr) == (1, '', f'sealgram: {text}\n')
    assert f'sealgram: error: {text}: the configuration stays as it was\n' in server.err
    assert lab.open(SocksUdp(client.socks)).ask(b'x', echo.address)[0] == b'x', 'allow is what it was'
    config.write_text(good)
    expect_reloaded(lab, server)


def test_a_key_that_does_not_fit_changes_nothing(lab):
    folder, port, _ = lab.init()
    server = lab.server(folder)
    before = served_certificate(port)
    other, _, _ = lab.init()
    (folder / 'key.pem').write_text((other / 'key.pem').read_text())
    done = reload(lab, server)
    assert (done.returncode, done.stderr) == (1, f'sealgram: {folder}/cert.pem: does not belong to the key: sealgram renew-cert '
                                              'DIR makes one that does\n')
    assert served_certificate(port) == before
    (folder / 'cert.pem').write_text((other / 'cert.pem').read_text())
    expect_reloaded(lab, server)
    assert served_certificate(port) != before


def test_what_takes_a_restart_is_told_and_keeps_its_value(lab, echo):
    folder, _, invite = lab.init()
    lab.edit_config(folder, 'workers: 1\nlimits:\n  sessions: 2')
    server, client = lab.server(folder), lab.client(invite)
    config, listen = folder / 'server.yaml', free_port()
    text = config.read_text().replace('workers: 1', 'workers: 2\nudp_ports: 40000-40100\nstatus_socket: other.sock')
    text = text.replace('sessions: 2', 'sessions: 3\n  password_threads: 7').replace('listen:\n', f'listen:\n  - 127.0.0.1:{listen}\n')
    config.write_text(text)
    names = 'listen, workers, udp_ports, status_socket, limits: password_threads, limits: sessions'
    done = reload(lab, server)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout == f'reloaded; these are as they were until a restart: {names}\n'
    assert f'sealgram: warning: {config}: these are as they were until a restart: {names}\n' in server.err
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(('127.0.0.1', listen), 1)
    assert len(server.status()['workers']) == 1 and not (folder / 'other.sock').exists()
    assert lab.open(SocksUdp(client.socks)).ask(b'x', echo.address)[0] == b'x'
    lab.client(invite)
    third = lab.client(invite, ready=False)
    wait_for(lambda: 'a quota or table is full' in third.err, 10, 'two sessions are the most')


def test_how_the_log_is_written_changes_at_once(lab):
    folder, _, invite = lab.init()
    config = folder / 'server.yaml'
    text = config.read_text()
    server = lab.start('server', 'server', '-c', config)
    server.ready()
    lab.client(invite)
    assert 'debug: ' not in server.err and '127.0.0.0:' in server.err
    config.write_text(text + 'log: {level: debug, format: json, addresses: full}\n')
    expect_reloaded(lab, server)
    lab.client(invite)
    wait_for(lambda: '"level":"debug"' in server.err and '127.0.0.1:' in server.err, 5, 'another log')
    config.write_text(text + 'log: {level: error}\n')
    expect_reloaded(lab, server)
    before = server.err
    lab.client(invite).stop()
    assert server.err == before


def test_the_command_line_goes_before_the_log_of_the_file(lab):
    folder, _, invite = lab.init()
    server = lab.server(folder, '--log-format', 'json', '--log-addresses', 'full')  # and -v
    lab.edit_config(folder, 'log: {level: error, format: text, addresses: masked}')
    expect_reloaded(lab, server)
    lab.client(invite)
    assert all(line.startswith('{') for line in server.err.splitlines())
    wait_for(lambda: '"level":"debug"' in server.err and '127.0.0.1:' in server.err, 5, 'the log')


def scrape(port):
    with urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics', timeout=10) as answer:
        return answer.read().decode()


def test_metrics_come_move_and_go(lab, echo):
    folder, _, invite = lab.init()
    config, first, second = folder / 'server.yaml', free_port(), free_port()
    text = config.read_text()
    server, client = lab.server(folder), lab.client(invite)
    assert lab.open(SocksUdp(client.socks)).ask(b'x', echo.address)[0] == b'x'
    config.write_text(text + f'metrics: {{listen: "127.0.0.1:{first}"}}\n')
    expect_reloaded(lab, server)
    assert 'sealgram_sessions' in scrape(first) and 'alice' not in scrape(first)
    config.write_text(text + f'metrics: {{listen: "127.0.0.1:{first}", per_user: true}}\n')
    expect_reloaded(lab, server)
    wait_for(lambda: 'alice' in scrape(first), 5, 'each user')
    config.write_text(text + f'metrics: {{listen: "127.0.0.1:{second}"}}\n')
    expect_reloaded(lab, server)
    assert 'sealgram_sessions' in scrape(second)
    with pytest.raises(urllib.error.URLError):
        scrape(first)
    taken = lab.open(socket.create_server(('127.0.0.1', first)))
    config.write_text(text + f'metrics: {{listen: "127.0.0.1:{first}"}}\nlimits:\n  sessions_per_user: 1\n')
    done = reload(lab, server)
    assert done.returncode == 1 and done.stderr.startswith('sealgram: metrics: cannot listen'), taken
    assert f'127.0.0.1:{first} (metrics): Address already in use' in server.err
    assert 'sealgram_sessions' in scrape(second), 'as it was'
    config.write_text(text)
    expect_reloaded(lab, server)
    with pytest.raises(urllib.error.URLError):
        scrape(second)


def hang(path):
    """In place of the file something that does not answer, as on a file system of the network."""
    path.unlink()
    os.mkfifo(path, 0o600)


def test_a_configuration_that_does_not_come_holds_up_nothing(lab, echo):
    folder, _, invite = lab.init()
    server, client = lab.server(folder), lab.client(invite)
    app, config = lab.open(SocksUdp(client.socks)), folder / 'server.yaml'
    text, late = config.read_text(), f'{config}: was not read within 5 seconds'
    hang(config)
    order = subprocess.Popen([SEALGRAM, 'reload', '--socket', server.control], stderr=subprocess.PIPE, text=True)
    answers = 0
    while order.poll() is None:
        answers += app.ask(b'%d' % answers, echo.address)[0] == b'%d' % answers
    assert answers > 10 and order.returncode == 1 and order.communicate()[1].startswith(f'sealgram: {late}')
    assert f'error: {late}' in server.err
    done = reload(lab, server)
    assert done.returncode == 1 and 'has not come' in done.stderr, 'the next is not waited for'
    with open(config, 'w', encoding='ascii') as pipe:  # it answers after all; what comes so late is not taken
        config.unlink()
        config.write_text(text)
        pipe.write('never mind\n')
    wait_for(lambda: reload(lab, server).returncode == 0, 10, 'a reload')
    assert app.ask(b'x', echo.address)[0] == b'x' and server.status()['sessions_opened'] == 1
    hang(config)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: server.err.count(f'error: {late}') == 2, 20, 'the second time')
    server.stop()


def test_a_user_file_that_does_not_come_holds_up_nothing(lab, echo):
    folder, _, invite = lab.init()
    server, client = lab.server(folder), lab.client(invite)
    app = lab.open(SocksUdp(client.socks))
    hang(folder / 'users')
    late = f'error: {folder}/users: was not read within 5 seconds'
    wait_for(lambda: app.ask(b'x', echo.address)[0] == b'x' and late in server.err, 20, 'the log line')
    assert 'has not come' in reload(lab, server).stderr
    server.stop()


def test_a_reload_without_a_server(lab, nobody_else):
    done = run('reload', folder=lab.folder)
    assert (done.returncode, done.stderr) == (1, 'sealgram: no running server was found; --socket PATH names one\n')
    folder, _, invite = lab.init()
    server, client = lab.server(folder), lab.client(invite)
    assert run('reload', folder=lab.folder).stdout == 'reloaded\n', 'of the two programs, the server is meant'
    done = run('reload', '--socket', client.control)
    assert (done.returncode, done.stderr) == (1, 'sealgram: a client answers to status only\n')
    done = run('reload', 'now', folder=lab.folder)
    assert done.returncode == 2 and "'now': this command takes options only" in done.stderr and server


def footprint(program):
    """Open descriptors, and resident memory in KiB."""
    status = dict(line.split(':', 1) for line in open(f'/proc/{program.process.pid}/status', encoding='ascii'))
    return open_files(program), int(status['VmRSS'].split()[0])


class Load:
    """Asks and answers at a steady pace until it is stopped."""

    def __init__(self, app, target):
        self.app, self.target, self.sent, self.answered, self.running = app, target, 0, 0, True
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        self.app.udp.settimeout(20)  # a late answer is not a lost one
        while self.running:
            self.app.send(b'%d' % self.sent, self.target)
            self.sent += 1
            try:
                self.answered += self.app.receive()[0] == b'%d' % (self.sent - 1)
            except TimeoutError:
                continue

    def close(self):
        self.running = False
        self.thread.join(30)


@pytest.mark.slow
@pytest.mark.no_sanitize
def test_a_thousand_reloads_under_load_cost_nothing(lab, echo, tcp_echo):
    folder, _, invite = lab.init()
    lab.edit_config(folder, 'workers: 2')
    server = lab.server(folder)
    clients = [lab.client(invite) for _ in range(3)]
    relay, code, _ = socks_request(clients[0].socks, CONNECT, *tcp_echo.address)
    lab.open(relay)
    assert code == 0
    loads = [lab.open(Load(lab.open(SocksUdp(client.socks)), echo.address)) for client in clients]
    wait_for(lambda: all(load.answered > 50 for load in loads), 10, 'the load')
    path = str(server.control)

    def order():
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(path)
            sock.sendall(b'reload\n')
            assert sock.recv(100) == b'ok: reloaded\n'
            assert sock.recv(1) == b''
    for _ in range(400):  # what the first ones leave in the allocator is there to stay
        order()
    # a burst of the load may touch buffers for the first time, in one thousand; what a reload leaves, it leaves in each
    prints = [footprint(server)]
    for _ in range(2):
        for _ in range(1000):
            order()
        prints.append(footprint(server))
    grown = [after[1] - before[1] for before, after in zip(prints, prints[1:])]
    answered = [load.answered for load in loads]
    wait_for(lambda: all(load.answered > count + 50 for load, count in zip(loads, answered)), 10, 'the load goes on')
    for load in loads:
        load.close()
    assert prints[0][0] == prints[1][0] == prints[2][0], 'descriptors'
    assert min(grown) < 1024, f'memory: {grown} KiB'
    relay.sendall(b'still here')
    assert relay.recv(100) == b'still here'
    status = server.status()
    assert status['sessions'] == status['sessions_opened'] == 3 and status['sessions_resumed'] == 0
    for load in loads:
        assert load.answered == load.sent > 500
    for ledger in status['up'], status['down']:
        assert sum_ledger(ledger) == ledger['received']
        assert sum(ledger['drops'].values()) == 0
