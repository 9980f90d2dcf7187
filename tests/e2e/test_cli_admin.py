"""init, invite, users, passwd, revoke, renew-cert and status as they are typed: output, files, exit codes, messages."""
import base64
import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import pwd
import pty
import re
import resource
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from harness import ROOT, SEALGRAM, run, wait_for

OK, FAILED, USAGE, CONFIG = 0, 1, 2, 3
FILES = ['cert.pem', 'key.pem', 'server.yaml', 'users']
COMMANDS = ['init', 'invite', 'users', 'passwd', 'revoke', 'renew-cert', 'server', 'client', 'status',
            'doctor', 'policy']
INVITE = re.compile(r'sealgram://([^:@]+)(?::(sgt1_[A-Za-z0-9_-]{43}))?@(\[[0-9a-f:]+\]|[^:/]+):(\d+)'
                    r'/\?pin=sha256:([A-Za-z0-9_-]{43})\n')


def expect(code, *argv, says=(), **options):
    done = run(*argv, **options)
    assert done.returncode == code, (argv, done.stdout, done.stderr)
    for text in [says] if isinstance(says, str) else says:
        assert text in done.stderr, (argv, text, done.stderr)
    return done


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def openssl(*argv, **options):
    return subprocess.run(['openssl', *map(str, argv)], check=True, capture_output=True, **options).stdout


def pin_of(cert):
    """As an administrator would check it: SHA-256 of the public key, by openssl alone."""
    public = openssl('pkey', '-pubin', '-outform', 'der', input=openssl('x509', '-in', cert, '-pubkey', '-noout'))
    return base64.urlsafe_b64encode(hashlib.sha256(public).digest()).decode().rstrip('=')


def names_of(folder):
    return sorted(line.split()[0] for line in expect(OK, 'users', folder).stdout.splitlines())


@pytest.fixture
def server_dir(tmp_path):
    folder = tmp_path / 'server'
    expect(OK, 'init', folder, '--host', 'vpn.example.org')
    return folder


# --- the program ---

def test_top_level(tmp_path):
    alone = expect(USAGE)
    assert alone.stdout == '' and alone.stderr.startswith('Usage: sealgram COMMAND')
    helped = expect(OK, '--help')
    assert all(re.search(rf'^  {name} +\S', helped.stdout, re.M) for name in COMMANDS)
    assert 'Exit codes: 0 done, 1 failed while running, 2 wrong command line, 3 unusable' in helped.stdout
    assert all(expect(OK, word).stdout == helped.stdout for word in ('-h', '-?', 'help'))
    assert all(re.fullmatch(r'sealgram \d+\.\d+\.\d+\n', expect(OK, word).stdout) for word in ('--version', '-V', 'version'))
    assert expect(USAGE, 'servre').stderr == "sealgram: there is no command 'servre'; sealgram --help lists them\n"


@pytest.mark.parametrize('command', COMMANDS)
def test_each_command_explains_itself(command):
    assert expect(OK, command, '--help').stdout.startswith(f'Usage: sealgram {command} ')
    assert expect(OK, command, '-h').stdout == expect(OK, command, '--help').stdout == expect(OK, 'help', command).stdout
    assert expect(OK, command, '--version').stdout.startswith('sealgram ')
    expect(USAGE, command, '--nonsense', says=[f'sealgram {command}: ', f'Try `sealgram {command} --help'])


def test_the_help_of_a_forward_has_an_example():
    told = ' '.join(expect(OK, 'client', '-h').stdout.split())
    assert 'as in udp:127.0.0.1:5353=9.9.9.9:53' in told and 'udp-only (as udp, but' in told


# --- init ---

def test_init_makes_all_that_a_server_needs(tmp_path):
    folder = tmp_path / 'server'
    done = expect(OK, 'init', folder, '--host', 'vpn.example.org', '--allow', '10.0.0.0/8', '--allow', 'fd00::/8',
                  says=[f'sealgram invite --out NAME.invite {folder} NAME\n',
                        f'sealgram server -c {folder}/server.yaml'])
    assert done.stdout == ''
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert mode(folder) == 0o700 and all(mode(folder / name) == 0o600 for name in FILES)
    text = openssl('x509', '-in', folder / 'cert.pem', '-noout', '-text').decode()
    assert 'DNS:vpn.example.org' in text and 'prime256v1' in text and 'ecdsa-with-SHA256' in text
    openssl('x509', '-in', folder / 'cert.pem', '-noout', '-checkend', 3650 * 86400)
    with pytest.raises(subprocess.CalledProcessError):
        openssl('x509', '-in', folder / 'cert.pem', '-noout', '-checkend', 3660 * 86400)
    yaml = (folder / 'server.yaml').read_text()
    assert '\nlisten:\n  - "0.0.0.0:1443"\n  - "[::]:1443"\n' in yaml
    assert '\nallow:\n  - "10.0.0.0/8"\n  - "fd00::/8"\n' in yaml and '\nhost: "vpn.example.org"\n' in yaml
    expect(OK, 'invite', folder, 'alice')
    assert expect(OK, 'server', '-c', folder / 'server.yaml', '--check').stdout.startswith('configuration ok')


def test_init_with_user_prints_the_invite(tmp_path):
    folder = tmp_path / 'server'
    done = expect(OK, 'init', folder, '--listen', '[2001:db8::1]:4000', '--user', 'a@b',
                  says=['sealgram client @a@b.invite', f'next, here: sealgram server -c {folder}/server.yaml'])
    user, token, host, port, pin = INVITE.fullmatch(done.stdout).groups()
    assert (user, host, port, pin) == ('a%40b', '[2001:db8::1]', '4000', pin_of(folder / 'cert.pem'))
    assert token and token not in (folder / 'users').read_text()
    assert 'IP Address:2001:DB8:0:0:0:0:0:1' in openssl('x509', '-in', folder / 'cert.pem', '-noout', '-text').decode()
    assert names_of(folder) == ['a@b']
    quiet = expect(OK, 'init', tmp_path / 'other', '--user', 'alice', '--quiet')
    assert INVITE.fullmatch(quiet.stdout) and quiet.stderr == ''


def test_init_says_which_host_it_chose(tmp_path):
    done = expect(OK, 'init', tmp_path / 'server', says='clients will be told to connect to ')
    host = re.search(r'connect to (\S+); --host NAME_OR_ADDR says otherwise', done.stderr).group(1)
    assert f'host: "{host}"' in (tmp_path / 'server' / 'server.yaml').read_text()


@pytest.mark.parametrize('name', FILES)
def test_init_overwrites_nothing(tmp_path, name):
    folder = tmp_path / 'server'
    folder.mkdir()
    (folder / name).write_text('mine')
    done = expect(FAILED, 'init', folder, '--user', 'alice')
    assert done.stderr == f'sealgram: {folder}/{name} exists already: nothing was changed\n' and done.stdout == ''
    assert contents(folder) == {name: b'mine'}


def test_init_keeps_a_folder_that_is_there(tmp_path):
    (tmp_path / 'notes').write_text('mine')
    expect(OK, 'init', tmp_path)
    assert sorted(contents(tmp_path)) == sorted([*FILES, 'notes'])


@pytest.mark.parametrize('limit', [100, 300, 1000])
def test_init_that_fails_midway_leaves_nothing(tmp_path, limit):
    """The disk takes no more after so many bytes of a file: at the key, at the certificate, at server.yaml."""
    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    done = subprocess.run([SEALGRAM, 'init', tmp_path / 'server', '--host', 'h', '--user', 'alice'], check=False,
                          capture_output=True, text=True, preexec_fn=small_files)
    assert done.returncode == FAILED and done.stdout == '' and done.stderr.startswith('sealgram: '), done
    assert list(tmp_path.iterdir()) == []


def test_two_inits_at_once_make_one_server(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: run('init', tmp_path / 'server', '--host', 'h').returncode, range(8)))
    assert sorted(codes) == [OK] + [FAILED] * 7
    assert sorted(contents(tmp_path / 'server')) == FILES
    expect(OK, 'renew-cert', tmp_path / 'server')


@pytest.mark.parametrize('options, text', [
    ([], 'DIR is missing'),
    (['d', 'e'], "'e' is one argument too many"),
    (['d', '--listen', '1443'], '--listen 1443: must be ADDRESS:PORT'),
    (['d', '--listen', 'example.org:1443'], '--listen example.org:1443: must be ADDRESS:PORT, with an IP address'),
    (['d', '--listen', '0.0.0.0:1', '--listen', '0.0.0.0:1'], '--listen 0.0.0.0:1: given twice'),
    (['d', '--allow', '10.0.0.1/8'], '--allow 10.0.0.1/8: not of the form ADDRESS/BITS without host bits'),
    (['d', '--host', 'a b'], '--host a b: neither a name nor an address'),
    (['d', '--host', 'a"'], '--host a": neither a name nor an address'),
    (['d', '--out', 'x'], '--out x: there is no invite without --user NAME'),
    (['d', '--user', 'a b'], '--user a b: not a user name: 1 to 64 of letters, digits and . _ - @'),
])
def test_init_refuses_a_wrong_command_line(tmp_path, options, text):
    done = subprocess.run([SEALGRAM, 'init', *options], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == USAGE and f'sealgram init: {text}' in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_in_an_impossible_place(tmp_path):
    (tmp_path / 'file').write_text('')
    expect(FAILED, 'init', tmp_path / 'file', says=f'{tmp_path}/file: Not a directory')
    expect(FAILED, 'init', tmp_path / 'none' / 'server', says=f'{tmp_path}/none/server: No such file or directory')


def empty_crl(folder):
    """A revocation list of the server's own key."""
    key = serialization.load_pem_private_key((folder / 'key.pem').read_bytes(), None)
    now = datetime.datetime.now(datetime.UTC)
    name = x509.load_pem_x509_certificate((folder / 'cert.pem').read_bytes()).subject
    return (x509.CertificateRevocationListBuilder().issuer_name(name).last_update(now)
            .next_update(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM))


def test_server_yaml_has_every_key_and_all_of_it_is_valid(tmp_path):
    """Each key of the configuration stands in the file, as a comment where it is a default; uncommented it loads."""
    folder = tmp_path / 'server'
    expect(OK, 'init', folder, '--user', 'alice')
    text = (folder / 'server.yaml').read_text()
    source = ''.join(path.read_text() for path in (ROOT / 'src' / 'server').glob('config*.c'))
    keys = set(re.findall(r'\{\.name = "(\w+)"', source)) | set(re.findall(r'NUMBER\("(\w+)"', source))
    keys |= set(re.findall(r'= \{"(\w+)", \d', (ROOT / 'src' / 'server' / 'user_limits.c').read_text()))
    assert len(keys) > 25 and keys | {'alice', 'staff'} == set(re.findall(r'^#? *(\w+):', text, re.M))
    active = re.sub(r'^# ( *\w+:(?: \S.*)?| +- ["{].*)$', r'\1', text, flags=re.M)
    assert not re.search(r'^# *\w+:( |$)', active, re.M)
    # what is an example there has to be here: the user and a directory
    active = active.replace('\nuser: sealgram\n', f'\nuser: {pwd.getpwuid(os.geteuid()).pw_name}\n')
    active = active.replace('/run/sealgram/control.sock', '/tmp/control.sock')
    (folder / 'server.yaml').write_text(active)
    (folder / 'client_ca.pem').write_bytes((folder / 'cert.pem').read_bytes())
    (folder / 'client_crl.pem').write_bytes(empty_crl(folder))
    expect(OK, 'server', '-c', folder / 'server.yaml', '--check')


# --- invite, users, revoke ---

def test_invite_prints_one_line(server_dir):
    done = expect(OK, 'invite', server_dir, 'alice', says='sealgram client @alice.invite')
    user, token, host, port, pin = INVITE.fullmatch(done.stdout).groups()
    assert (user, host, port, pin) == ('alice', 'vpn.example.org', '1443', pin_of(server_dir / 'cert.pem'))
    assert token not in done.stderr and len(token) == 48
    assert re.search(r'^alice token [0-9a-f]{64} \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$',
                     (server_dir / 'users').read_text(), re.M)
    assert mode(server_dir / 'users') == 0o600
    assert expect(OK, 'invite', server_dir, 'bob', '-q').stderr == ''


def test_invite_again(server_dir):
    first = expect(OK, 'invite', server_dir, 'alice').stdout
    before = (server_dir / 'users').read_bytes()
    refused = expect(FAILED, 'invite', server_dir, 'alice')
    assert refused.stdout == '' and refused.stderr == (
        f'sealgram: user alice exists already; sealgram invite --replace {server_dir} alice makes a new invite, '
        'and the old one ends\n')
    assert (server_dir / 'users').read_bytes() == before
    second = expect(OK, 'invite', '--replace', server_dir, 'alice').stdout
    assert INVITE.fullmatch(second) and first != second
    assert len(expect(OK, 'users', server_dir).stdout.splitlines()) == 1


def test_invite_for_a_certificate(server_dir):
    done = expect(OK, 'invite', server_dir, 'carol', '--certificate', says='--cert FILE --key FILE @carol.invite')
    user, token, host, _, pin = INVITE.fullmatch(done.stdout).groups()
    assert (user, token, host) == ('carol', None, 'vpn.example.org') and pin == pin_of(server_dir / 'cert.pem')
    assert re.fullmatch(r'carol +certificate +\S+\n', expect(OK, 'users', server_dir).stdout)
    expect(OK, 'invite', server_dir, 'carol', '--replace')
    assert re.fullmatch(r'carol +token +\S+\n', expect(OK, 'users', server_dir).stdout)


@pytest.mark.parametrize('name', ['', 'a b', 'a/b', 'a:b', 'é', 'a' * 65])
def test_names_that_are_none(server_dir, name):
    for command in 'invite', 'revoke', 'passwd':
        done = expect(USAGE, command, server_dir, name, stdin='long enough\n')
        assert f"'{name}' is not a user name: 1 to 64 of letters, digits and . _ - @" in done.stderr


def test_invite_that_cannot_be_written(server_dir):
    with open('/dev/full', 'w') as full:
        done = subprocess.run([SEALGRAM, 'invite', server_dir, 'alice'], stdout=full, stderr=subprocess.PIPE, text=True,
                              check=False)
    assert done.returncode == FAILED
    assert done.stderr == ('sealgram: the invite could not be written: No space left on device; '
                           f'sealgram invite --replace {server_dir} alice makes a new one\n')


@pytest.fixture
def readable_files():
    before = os.umask(0)
    yield
    os.umask(before)


def test_an_invite_goes_into_a_file_of_its_owner(tmp_path, readable_files):
    folder, first, second = tmp_path / 'server', tmp_path / 'alice.invite', tmp_path / 'bob'
    done = expect(OK, 'init', folder, '--host', 'h', '--user', 'alice', '--out', first,
                  says=[f'whoever has {first} is let in as alice', 'sealgram client @alice.invite\n'])
    assert done.stdout == '' and mode(first) == 0o600 and INVITE.fullmatch(first.read_text())[1] == 'alice'
    done = expect(OK, 'invite', '--out', second, folder, 'bob', says=[f'whoever has {second} is let in as bob', 'sealgram client @bob\n'])
    assert done.stdout == '' and mode(second) == 0o600 and INVITE.fullmatch(second.read_text())[1] == 'bob'
    assert expect(OK, 'invite', '-q', '--out', tmp_path / 'carol', folder, 'carol').stderr == ''


def test_an_invite_takes_the_place_of_no_file(tmp_path):
    folder, there = tmp_path / 'server', tmp_path / 'there'
    there.write_text('mine\n')
    refused = f'sealgram: {there} exists already: nothing was changed; --out takes the name of a new file\n'
    assert expect(FAILED, 'init', folder, '--host', 'h', '--user', 'alice', '--out', there).stderr == refused
    assert not folder.exists()
    expect(OK, 'init', folder, '--host', 'h')
    assert expect(FAILED, 'invite', '--out', there, folder, 'alice').stderr == refused
    (tmp_path / 'link').symlink_to(tmp_path / 'elsewhere')
    expect(FAILED, 'invite', '--out', tmp_path / 'link', folder, 'alice', says='exists already')
    expect(FAILED, 'invite', '--out', tmp_path / 'none' / 'x', folder, 'alice', says=f'{tmp_path}/none/x: No such file or directory')
    assert names_of(folder) == [] and there.read_text() == 'mine\n' and not (tmp_path / 'elsewhere').exists()


def test_a_file_for_an_invite_that_is_not_made_goes(tmp_path, server_dir):
    expect(OK, 'invite', server_dir, 'alice')
    expect(FAILED, 'invite', '--out', tmp_path / 'again', server_dir, 'alice', says='user alice exists already')
    expect(FAILED, 'init', server_dir, '--user', 'alice', '--out', tmp_path / 'again', says='exists already: nothing was changed')
    assert not (tmp_path / 'again').exists()


def test_revoke(server_dir):
    for name in 'alice', 'bob':
        expect(OK, 'invite', server_dir, name)
    expect(OK, 'passwd', server_dir, 'alice', stdin='long enough\n')
    assert names_of(server_dir) == ['alice', 'alice', 'bob']
    done = expect(OK, 'revoke', server_dir, 'alice')
    assert done.stdout == '' and names_of(server_dir) == ['bob']
    assert expect(FAILED, 'revoke', server_dir, 'alice').stderr == 'sealgram: there is no user alice\n'


def test_many_calls_at_once_lose_nobody(server_dir):
    for i in range(10):
        expect(OK, 'invite', server_dir, f'old{i}')
    calls = [('invite', f'new{i}') for i in range(20)] + [('revoke', f'old{i}') for i in range(10)]
    with ThreadPoolExecutor(30) as pool:
        done = list(pool.map(lambda call: run(call[0], server_dir, call[1]), calls))
    assert [one.returncode for one in done] == [OK] * 30
    assert names_of(server_dir) == sorted(f'new{i}' for i in range(20))
    assert len({one.stdout for one in done[:20]}) == 20
    assert sorted(path.name for path in server_dir.iterdir()) == [*FILES, 'users.lock']


def test_killed_while_editing(server_dir):
    """Whenever it is killed: the file parses, and says the old or the new."""
    expect(OK, 'invite', server_dir, 'alice')
    for i in range(20):
        process = subprocess.Popen([SEALGRAM, 'invite', server_dir, f'u{i}'], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(i * 0.0005)
        process.kill()
        process.wait()
        assert 'alice' in names_of(server_dir)


@pytest.mark.parametrize('command', ['invite', 'revoke', 'passwd'])
def test_a_broken_user_file_stays_as_it_is(server_dir, command):
    text = (server_dir / 'users').read_text() + 'alice token\n'
    (server_dir / 'users').write_text(text)
    done = expect(CONFIG, command, server_dir, 'bob', stdin='long enough\n')
    assert done.stderr == f'sealgram: {server_dir}/users:4: four fields are needed: NAME KIND VALUE CREATED\n'
    assert (server_dir / 'users').read_text() == text
    expect(CONFIG, 'users', server_dir, says='users:4: four fields')


@pytest.mark.parametrize('name', ['key.pem', 'users'])
def test_files_that_others_may_read(server_dir, name):
    expect(OK, 'invite', server_dir, 'alice')
    (server_dir / name).chmod(0o640)
    line = next(number for number, text in enumerate((server_dir / 'server.yaml').read_text().splitlines(), 1)
                if text.endswith(f': {name}'))
    key = name.removesuffix('.pem')
    text = (f'{server_dir}/server.yaml:{line}: {key}: {server_dir}/{name}: others may read or write it (mode 0640): '
            f'chmod 600 {server_dir}/{name}')
    for argv in ['users', server_dir], ['invite', server_dir, 'bob'], ['server', '-c', server_dir / 'server.yaml']:
        expect(CONFIG, *argv, says=text)


def test_no_server_there(tmp_path):
    for argv in ['users'], ['invite', 'bob'], ['revoke', 'bob'], ['renew-cert'], ['passwd', 'bob']:
        done = expect(CONFIG, argv[0], tmp_path / 'none', *argv[1:], stdin='long enough\n')
        assert done.stderr == (f'sealgram: {tmp_path}/none/server.yaml: No such file or directory; '
                               'sealgram init DIR makes one\n')
        expect(USAGE, argv[0], says='DIR is missing')


# --- passwd ---

def test_passwd_stores_argon2id(server_dir):
    expect(OK, 'passwd', server_dir, 'alice', stdin='correct horse\nmore\n')
    first = (server_dir / 'users').read_text()
    assert re.search(r'^alice password \$argon2id\$v=19\$m=65536,t=2,p=1\$\S+ \S+$', first, re.M)
    assert 'correct' not in first
    expect(OK, 'passwd', server_dir, 'alice', stdin='correct horse')
    assert (server_dir / 'users').read_text() != first and names_of(server_dir) == ['alice']


@pytest.mark.parametrize('password, text', [
    ('', 'a password has 8 to 255 bytes, in the first line of standard input'),
    ('\nlong enough\n', 'a password has 8 to 255 bytes'),
    ('short\n', 'a password has 8 to 255 bytes'),
    ('x' * 256 + '\n', 'a password has 8 to 255 bytes'),
    ('x' * 100000, 'a password has 8 to 255 bytes'),
    ('long\0enough\n', 'a password has no NUL byte'),
    ('sgt1_' + 'A' * 43 + '\n', 'a password of 48 bytes does not begin with sgt1_: that is a token'),
])
def test_passwords_that_are_refused(server_dir, password, text):
    done = expect(FAILED, 'passwd', server_dir, 'alice', stdin=password, says=text)
    assert done.stderr.count('\n') == 1 and names_of(server_dir) == []


def test_longest_password(server_dir):
    expect(OK, 'passwd', server_dir, 'alice', stdin='x' * 255 + '\r\n')
    assert names_of(server_dir) == ['alice']


def test_passwd_does_not_echo(server_dir):
    master, slave = pty.openpty()
    process = subprocess.Popen([SEALGRAM, 'passwd', server_dir, 'alice'], stdin=slave, stdout=slave, stderr=slave)
    shown = b''
    while b'Password: ' not in shown:
        shown += os.read(master, 1000)
    os.write(master, b'correct horse\n')
    assert process.wait(20) == OK
    os.close(slave)
    try:
        while chunk := os.read(master, 1000):
            shown += chunk
    except OSError:
        pass  # how a terminal without programs ends
    os.close(master)
    assert b'correct' not in shown and names_of(server_dir) == ['alice']


# --- renew-cert ---

def test_renewal_keeps_the_pin(server_dir):
    before, key = (server_dir / 'cert.pem').read_bytes(), (server_dir / 'key.pem').read_bytes()
    invite = expect(OK, 'invite', server_dir, 'alice').stdout
    expect(OK, 'renew-cert', server_dir, says=f'{server_dir}/cert.pem is new; `sealgram reload` makes a running server use it')
    assert (server_dir / 'cert.pem').read_bytes() != before and (server_dir / 'key.pem').read_bytes() == key
    assert INVITE.fullmatch(invite).group(5) == pin_of(server_dir / 'cert.pem')
    (server_dir / 'cert.pem').unlink()
    expect(OK, 'renew-cert', server_dir)
    expect(OK, 'server', '-c', server_dir / 'server.yaml', '--check')


def test_renewal_with_a_broken_key(server_dir):
    before = (server_dir / 'cert.pem').read_bytes()
    (server_dir / 'key.pem').write_text('nonsense')
    expect(CONFIG, 'renew-cert', server_dir, says=f'{server_dir}/key.pem: holds no private key')
    assert (server_dir / 'cert.pem').read_bytes() == before


# --- what a server makes of it ---

def test_a_running_server_notices(lab):
    folder, _, invite = lab.init()
    server = lab.server(folder)
    lab.client(invite)
    invite = lab.invite(folder, 'bob')
    time.sleep(1)
    lab.client(invite)
    assert server.status()['sessions'] == 2
    expect(OK, 'revoke', folder, 'bob')
    wait_for(lambda: server.status()['sessions'] == 1, 2, 'the end of the session of bob')
    invite = lab.invite(folder, 'alice', '--replace')
    wait_for(lambda: server.status()['sessions'] == 0, 2, 'the end of the session of alice')
    for name in 'alice', 'bob':
        assert f'session of {name} ended: user unknown, removed, or credential changed' in server.err
    lab.client(invite)
    table = expect(OK, 'status', '--socket', next((lab.folder / 'sealgram').glob('server-*.sock'))).stdout
    assert 'role: server\n' in table and 'sessions: 1\n' in table and 'forged' not in table


def test_no_start_without_users_where_others_reach_it(tmp_path):
    for listen, code in ('0.0.0.0:1443', CONFIG), ('[::]:1443', CONFIG), ('127.0.0.1:1443', OK), ('[::1]:1443', OK):
        folder = tmp_path / listen.partition(']')[0].replace(':', '_')
        expect(OK, 'init', folder, '--host', 'h', '--listen', listen)
        done = expect(code, 'server', '-c', folder / 'server.yaml', '--check')
        if code == CONFIG:
            assert 'there is no user, and the server would be reachable from other machines' in done.stderr
            assert '`sealgram invite DIR USER` adds one' in done.stderr
            with open(folder / 'server.yaml', 'a') as config:
                config.write('allow_anyone_without_authentication: true\n')
            expect(OK, 'server', '-c', folder / 'server.yaml', '--check')


def test_no_start_with_a_certificate_that_does_not_fit(server_dir, tmp_path):
    expect(OK, 'invite', server_dir, 'alice')
    expect(OK, 'init', tmp_path / 'other', '--host', 'h')
    (server_dir / 'cert.pem').write_bytes((tmp_path / 'other' / 'cert.pem').read_bytes())
    check = ['server', '-c', server_dir / 'server.yaml', '--check']
    expect(CONFIG, *check, says=f'{server_dir}/cert.pem: does not belong to the key')
    (server_dir / 'cert.pem').write_text('nonsense')
    expect(CONFIG, *check, says=f'{server_dir}/cert.pem: holds no certificate')
    expect(CONFIG, 'invite', server_dir, 'bob', says=f'{server_dir}/cert.pem: holds no certificate')
    expect(OK, 'renew-cert', server_dir)
    expect(OK, *check)


# --- status ---

STATUS = {'role': 'server', 'sessions': 2, 'path': {'mtu': 1264, 'drops': {'forged': 3, 'replayed': 0}},
          'list': [{'user': 'alice'}, {'user': 'bob'}], 'codes': [1, 2], 'bad': 'a\x1b[2J'}


class Answering:
    """A control socket that says the same to everyone."""

    def __init__(self, path, text):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self.text, self.listener = text, socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                with self.listener.accept()[0] as connection, contextlib.suppress(BrokenPipeError):
                    if connection.recv(100) == b'status\n':
                        connection.sendall(self.text)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def runtime():
    """A folder whose name leaves room for the name of a socket."""
    with tempfile.TemporaryDirectory(prefix='sg-') as folder:
        yield pathlib.Path(folder)


@pytest.fixture
def answer(runtime):
    made = []

    def make(name, text=json.dumps(STATUS).encode()):
        made.append(Answering(runtime / 'sealgram' / name, text))
        return runtime / 'sealgram' / name
    yield make
    for one in made:
        one.close()


def test_status_of_the_only_program(runtime, answer, nobody_else):
    answer('server-1.sock')
    done = expect(OK, 'status', folder=runtime)
    assert done.stdout == ('role: server\nsessions: 2\npath:\n  mtu: 1264\n  drops:\n    forged: 3\n'
                           'list:\n  -\n    user: alice\n  -\n    user: bob\ncodes: [1, 2]\nbad: "a\\u001B[2J"\n')
    done = expect(OK, 'status', '--json', folder=runtime)
    assert json.loads(done.stdout) == STATUS and done.stdout.startswith('{\n  "role"')


def test_status_of_several_programs(runtime, answer):
    first, second = answer('server-1.sock'), answer('client-2.sock')
    done = expect(USAGE, 'status', folder=runtime,
                  says=['several programs run; name one with --socket PATH:', f'  {first}\n', f'  {second}\n'])
    assert done.stdout == ''
    assert expect(OK, 'status', '--socket', second, folder=runtime).stdout.startswith('role: server\n')


def test_status_of_nobody(runtime, answer, nobody_else):
    text = 'sealgram: no running server or client was found; --socket PATH names one\n'
    assert expect(FAILED, 'status', folder=runtime).stderr == text
    (runtime / 'sealgram').mkdir()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(runtime / 'sealgram' / 'client-3.sock'))
    left.close()
    assert expect(FAILED, 'status', folder=runtime).stderr == text
    expect(FAILED, 'status', '--socket', runtime / 'none', says=f'{runtime}/none: No such file or directory')
    expect(FAILED, 'status', '--socket', 'x' * 200, says=': File name too long')


@pytest.mark.parametrize('text', [b'', b'{', b'[]', b'"text"', b'{}{}'])
def test_status_that_is_none(runtime, answer, text):
    path = answer('server-1.sock', text)
    expect(FAILED, 'status', '--socket', path, says=f'{path}: did not answer with a status')
