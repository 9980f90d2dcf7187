"""`server --check` finds what the start would find, and leaves alone what runs."""
import os
import shutil
import stat
import subprocess

import pytest

from harness import SEALGRAM, SocksUdp, run

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason='only root can become another user')

# what to add to server.yaml, and what start and check then say
FAULTS = {
    'user': ('user: nobody.of.that.name', 'there is no user nobody.of.that.name'),
    'udp_ports': ('udp_ports: 100-200', 'udp_ports: ports below '),
    'metrics': ('metrics: {listen: "192.0.2.1:9090", allow_remote: true}', '192.0.2.1:9090 (metrics): Cannot assign'),
    'socket': ('status_socket: none/control.sock', 'control.sock (status_socket): No such file or directory'),
    'socket-name': ('status_socket: ' + 'x' * 120, '(status_socket): File name too long'),
    'socket-file': ('status_socket: cert.pem', 'cert.pem (status_socket): Address already in use'),
}


def both(folder, code, text, prefix=()):
    """Start and check end alike, with the same words."""
    for words in (), ('--check',):
        done = subprocess.run([*map(str, prefix), SEALGRAM, 'server', *words, '-c', str(folder / 'server.yaml')],
                              capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == code and not done.stdout, (words, done)
        assert text in done.stderr, words


@pytest.mark.parametrize('name', FAULTS)
def test_what_a_start_refuses(lab, name):
    folder, _, _ = lab.init()
    added, text = FAULTS[name]
    lab.edit_config(folder, added)
    both(folder, 3 if name == 'udp_ports' else 1, text)


def test_an_address_that_is_not_here(lab):
    folder, _, _ = lab.init()
    config = folder / 'server.yaml'
    config.write_text(config.read_text().replace('127.0.0.1:', '192.0.2.1:'))
    both(folder, 1, '(listen): Cannot assign requested address')


def test_memory_that_cannot_be_locked(lab):
    folder, _, _ = lab.init()
    lab.edit_config(folder, 'require_locked_memory: true')
    root = ['setpriv', '--bounding-set', '-ipc_lock', '--inh-caps', '-ipc_lock'] if os.geteuid() == 0 else []
    both(folder, 1, 'keys cannot be locked in memory', [*root, 'prlimit', '--memlock=0:0'])


@pytest.fixture
def of_nobody(lab):
    """A server's folder that belongs to nobody."""
    folder, port, invite = lab.init()
    lab.folder.chmod(0o755)
    for path in folder, *folder.iterdir():
        os.chown(path, NOBODY, NOBODY)
    return folder, port, invite


@as_root
@pytest.mark.parametrize('name', ['key.pem', 'users', 'cert.pem', 'server.yaml', 'ca.pem', 'ca.crl'])
def test_a_file_that_the_user_cannot_read(lab, of_nobody, name):
    folder, _, _ = of_nobody
    lab.edit_config(folder, 'user: nobody')
    if name.startswith('ca'):
        shutil.copy(folder / 'cert.pem', folder / 'ca.pem')
        lab.edit_config(folder, 'client_ca: ca.pem')
        os.chown(folder / 'ca.pem', NOBODY, NOBODY)
    if name == 'ca.crl':
        for words in (['req', '-new', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj',
                       '/CN=CA', '-keyout', 'ca.key', '-out', 'ca.pem'],
                      ['ca', '-gencrl', '-config', 'ca.conf', '-keyfile', 'ca.key', '-cert', 'ca.pem', '-out', name]):
            (folder / 'ca.conf').write_text('[ca]\ndefault_ca=d\n[d]\ndatabase=index\ndefault_md=sha256\n'
                                            'default_crl_days=9\n')
            (folder / 'index').write_text('')
            subprocess.run(['openssl', *words], cwd=folder, check=True, capture_output=True)
        os.chown(folder / 'ca.pem', NOBODY, NOBODY)
        lab.edit_config(folder, 'client_crl: ca.crl')
    os.chown(folder / name, 0, 0)
    (folder / name).chmod(0o600)
    both(folder, 1, f'{folder}/{name}: nobody (user) cannot read it: Permission denied')


@as_root
def test_a_port_that_needs_root(lab, of_nobody):
    folder, port, _ = of_nobody
    config = folder / 'server.yaml'
    config.write_text(config.read_text().replace(f'127.0.0.1:{port}', '127.0.0.1:997'))
    as_nobody = [shutil.which('setpriv'), '--reuid', NOBODY, '--regid', NOBODY, '--clear-groups']
    if subprocess.run([*map(str, as_nobody), SEALGRAM, '--version'], capture_output=True, check=False).returncode != 0:
        pytest.skip('the program lies where only root can reach it')
    both(folder, 1, '127.0.0.1:997 (listen): Permission denied', as_nobody)
    managed = subprocess.run([*map(str, as_nobody), SEALGRAM, 'server', '--check', '-c', str(config)], text=True,
                             capture_output=True, timeout=30, env={**os.environ, 'INVOCATION_ID': 'x'}, check=False)
    assert managed.returncode == 0 and 'that is no fault if a socket unit passes it' in managed.stderr
    assert run('server', '--check', '-c', config).returncode == 0, 'as root'


@pytest.mark.parametrize('user', [None, pytest.param('nobody', marks=as_root)])
def test_what_runs_is_left_alone(lab, echo, user, request):
    folder, port, invite = request.getfixturevalue('of_nobody') if user else lab.init()
    if user:
        lab.edit_config(folder, f'user: {user}')
    first = run('server', '--check', '-c', folder / 'server.yaml', folder=lab.folder)
    assert (first.returncode, first.stderr) == (0, '') and first.stdout.startswith('configuration ok: ')
    assert not (lab.folder / 'sealgram').exists(), 'nothing is left behind'
    server, client = lab.server(folder), lab.client(invite)
    app = lab.open(SocksUdp(client.socks))
    for number in range(20):
        done = run('server', '--check', '-c', folder / 'server.yaml', folder=lab.folder)
        assert done.returncode == 0 and f'127.0.0.1:{port} (listen): Address already in use' in done.stderr
        assert app.ask(b'%d' % number, echo.address)[0] == b'%d' % number
    assert server.status()['sessions_opened'] == 1
    assert stat.S_ISREG((folder / 'users').stat().st_mode)
