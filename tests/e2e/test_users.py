"""Who is let in: invites with an end or a number of devices, and certificates by the names in them."""
import datetime
import re
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from attacker import CHANNEL, Tls, credentials, is_ended, login, open_block, request
from harness import CONNECT, run, socks_request, wait_for


def home(lab, name):
    """The environment of a device of its own."""
    folder = lab.folder / name
    folder.mkdir(exist_ok=True)
    return {'XDG_STATE_HOME': str(folder)}


def date(seconds):
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return when.strftime('%Y-%m-%dT%H:%M:%SZ')


def ended(client):
    """The log of a client that the server does not let in."""
    wait_for(lambda: client.process.poll() is not None, 20, f'the end of the client: {client.err}')
    assert client.process.returncode == 1 and not client.out, client.err
    client.process.returncode = -9  # its end was expected
    return client.err


def fails(client, server, line):
    """The same, for the reason in the server's log."""
    told = ended(client)
    wait_for(lambda: re.search(line, server.err), 5, f'{line} in {server.err}')
    return told


def test_an_invite_ends_at_its_time_and_what_it_let_in(lab, tcp_echo):
    folder, port, _ = lab.init(user=None)
    end = time.time() + 6
    invite = lab.invite(folder, 'bob', '--expires', date(6))
    users = run('users', folder).stdout
    assert re.fullmatch(r'bob +token +\S+ expires \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n', users)
    lab.invite(folder, 'alice')
    server = lab.server(folder)
    client = lab.client(invite)
    relay, code, _ = socks_request(client.socks, CONNECT, *tcp_echo.address)
    lab.open(relay)
    assert code == 0 and server.status()['sessions'] == 1
    wait_for(lambda: server.status()['sessions'] == 0, 15, 'the end of the session')
    assert end - 2 < time.time() < end + 3
    wait_for(lambda: server.status()['tcp']['relays'] == 0, 5, 'the end of the relay')
    assert 'sealgram: info: a credential has expired' in server.err
    assert re.fullmatch(r'alice +token +\S+\nbob +token +\S+ expired \S+\n', run('users', folder).stdout)
    user, token = credentials(invite)
    answers = []
    for password in (token, token[:-1] + ('A' if token[-1] != 'A' else 'B')):
        tls = lab.open(Tls(port))
        tls.sendall(b'\5\1\2' + login(user, password))
        answers.append(tls.receive(4))
        assert is_ended(tls)
    assert answers[0] == answers[1] and answers[0][2:] != b'\1\0'
    wait_for(lambda: re.search(r'credentials of bob refused from 127\.0\.0\.0:\d+: the invite has expired\n', server.err),
             5, 'the line')
    assert re.search(r'credentials refused from 127\.0\.0\.0:\d+: it is the token of no user: revoked, replaced, or not ',
                     server.err)
    client.kill()


def test_an_invite_can_be_used_at_once(lab):
    """A server that runs is told of it before the line is printed, and of the end of a user, too."""
    folder, port, _ = lab.init()
    lab.server(folder)
    for number in range(5):
        done = run('invite', folder, f'user{number}', folder=lab.folder)
        tls = lab.open(Tls(port))
        tls.sendall(b'\5\1\2' + login(*credentials(done.stdout.strip())))
        assert tls.receive(4) == b'\5\2\1\0', number
        assert run('revoke', folder, f'user{number}', folder=lab.folder).returncode == 0
        again = lab.open(Tls(port))
        again.sendall(b'\5\1\2' + login(*credentials(done.stdout.strip())))
        assert again.receive(4) == b'\5\2\1\1', number


def test_a_client_waits_for_a_server_that_may_be_about_to_know_it(lab):
    """A server that looks by itself knows a fresh invite a moment later."""
    folder, _, _ = lab.init()
    before = (folder / 'users').read_text()
    invite = run('invite', folder, 'bob', folder=lab.folder).stdout.strip()
    after = (folder / 'users').read_text()
    (folder / 'users').write_text(before)
    server = lab.server(folder)
    client = lab.client(invite, ready=False)
    wait_for(lambda: 'credentials refused' in server.err, 10, 'the first attempt')
    (folder / 'users').write_text(after)
    client.ready()


def test_so_many_devices_join_and_come_back(lab, echo):
    folder, _, _ = lab.init(user=None)
    invite = lab.invite(folder, 'bob', '--uses', '2')
    assert '/?pin=' in invite and ':sgd1_' in invite
    assert re.fullmatch(r'bob +token +\S+ devices 0/2\n', run('users', folder).stdout)
    server = lab.server(folder)
    first = lab.client(invite, env=home(lab, 'one'))
    assert 'a device of bob joined: 1 of 2' in server.err
    # more connections of a device, and the same one again, are no further use
    for _ in range(3):
        lab.client(invite, env=home(lab, 'one')).stop()
    assert re.fullmatch(r'bob +token +\S+ devices 1/2\n', run('users', folder).stdout)
    lab.client(invite, env=home(lab, 'two'))
    assert re.fullmatch(r'bob +token +\S+ devices 2/2\n', run('users', folder).stdout)
    third = lab.client(invite, env=home(lab, 'three'), ready=False)
    told = fails(third, server, r'credentials of bob refused from 127\.0\.0\.0:\d+: '
                                r'as many devices as may have joined by this invite\n')
    assert 'joined' not in told, 'only the log says which of the reasons it was'
    # a restart counts on
    first.stop()
    server.stop()
    server = lab.server(folder)
    lab.client(invite, env=home(lab, 'one'))
    third = lab.client(invite, env=home(lab, 'three'), ready=False)
    fails(third, server, 'as many devices as may have joined by this invite')
    key = lab.folder / 'one' / 'sealgram' / 'device.key'
    assert key.stat().st_mode & 0o777 == 0o600 and key.stat().st_size == 32
    listed = (folder / 'users.devices').read_text()
    assert listed.count('\nbob ') == 2 and key.read_bytes().hex() not in listed
    # a new invite begins anew
    fresh = lab.invite(folder, 'bob', '--replace', '--uses', '1')
    wait_for(lambda: 'user file read again: 1 users' in server.err, 5, 'the new invite')
    lab.client(fresh, env=home(lab, 'three'))
    assert re.fullmatch(r'bob +token +\S+ devices 1/1\n', run('users', folder).stdout)
    assert (folder / 'users.devices').read_text().count('\nbob ') == 1


def test_devices_that_have_joined_outlive_their_invite(lab):
    folder, _, _ = lab.init(user=None)
    made = run('invite', folder, 'bob', '--uses', '5', '--expires', date(6))
    assert re.search(r'^sealgram: 5 devices may join by this invite until \S+Z, and may come back as long as bob is a user$',
                     made.stderr, re.M)
    invite, end = made.stdout.strip(), time.time() + 6
    server = lab.server(folder)
    client = lab.client(invite, env=home(lab, 'one'))
    wait_for(lambda: time.time() > end, 10, 'the end')
    late = lab.client(invite, env=home(lab, 'two'), ready=False)
    fails(late, server, r'credentials of bob refused from 127\.0\.0\.0:\d+: the invite has expired\n')
    assert server.status()['sessions'] == 1
    client.stop()
    lab.client(invite, env=home(lab, 'one'))
    run('revoke', folder, 'bob')
    wait_for(lambda: server.status()['sessions'] == 0, 5, 'the end of the user')
    lab.programs[-1].kill()


def test_a_counting_token_without_a_device_opens_nothing(lab):
    folder, port, _ = lab.init(user=None)
    invite = lab.invite(folder, 'bob', '--uses', '2')
    server = lab.server(folder)
    tls = lab.open(Tls(port))
    tls.sendall(b'\5\1\2' + login(*credentials(invite)))
    assert tls.receive(4)[2:] != b'\1\0' and is_ended(tls)
    assert re.search(r'credentials of bob refused from 127\.0\.0\.0:\d+: the invite counts devices, and the client names '
                     r'none\n', server.err)
    user, token = credentials(invite)
    tls = lab.open(Tls(port))
    tls.sendall(b'\5\1\2' + login(user, f'{token}.{22 * "x"}') + request(CHANNEL) + open_block())
    assert tls.receive(4) == b'\5\2\1\0'
    assert tls.reply()[0] == 0


def test_a_list_of_devices_that_cannot_be_written_lets_nobody_join(lab):
    folder, _, _ = lab.init(user=None)
    invite = lab.invite(folder, 'bob', '--uses', '2')
    lab.edit_config(folder, 'devices: no/such/folder/devices')
    server = lab.server(folder)
    client = lab.client(invite, env=home(lab, 'one'), ready=False)
    fails(client, server, r'sealgram: error: a device of bob cannot join, the list of devices cannot be written: '
                          r'No such file or directory: `devices` in server\.yaml names a file for it in a directory that '
                          r'the server may write to\n')


def test_a_client_that_cannot_keep_its_key_says_so(lab):
    folder, _, _ = lab.init(user=None)
    invite = lab.invite(folder, 'bob', '--uses', '2')
    (lab.folder / 'file').write_text('')
    client = lab.client(invite, ready=False, env={'XDG_STATE_HOME': str(lab.folder / 'file')})
    wait_for(lambda: client.process.poll() is not None, 10, 'its end')
    assert re.search(rf'invite\d+:1: the invite counts devices, and this one\'s key cannot be kept in '
                     rf'{re.escape(str(lab.folder))}/file/sealgram/device.key: Not a directory\n', client.err), client.err
    client.process.returncode = -9


@pytest.mark.parametrize('option, value, complaint', [
    ('--expires', '0d', '--expires 0d: not a time to come: 12h, 7d, 2026-12-24 or 2026-12-24T18:00:00Z'),
    ('--expires', '2001-01-01', '--expires 2001-01-01: not a time to come: 12h, 7d, 2026-12-24 or 2026-12-24T18:00:00Z'),
    ('--expires', '2100-02-30', '--expires 2100-02-30: not a time to come: 12h, 7d, 2026-12-24 or 2026-12-24T18:00:00Z'),
    ('--uses', '0', '--uses 0: not a number from 1 to 10000'),
    ('--uses', '10001', '--uses 10001: not a number from 1 to 10000'),
])
def test_terms_that_make_no_sense_are_refused(lab, option, value, complaint):
    folder, _, _ = lab.init(user=None)
    done = run('invite', folder, 'bob', option, value)
    assert done.returncode == 2 and done.stderr.splitlines()[0].endswith(complaint)
    assert run('users', folder).stdout == ''


@pytest.mark.parametrize('value, seconds', [('90s', 90), ('5m', 300), ('12h', 43200), ('7d', 604800)])
def test_times_are_counted_from_now(lab, value, seconds):
    folder, _, _ = lab.init(user=None)
    lab.invite(folder, 'bob', '--expires', value)
    text = re.search(r'expires=(\S+)\n', (folder / 'users').read_text()).group(1)
    left = datetime.datetime.fromisoformat(text).timestamp() - time.time()
    assert seconds - 20 < left <= seconds


# --- certificates ---

class Authority:
    """A CA with certificates by name, and a list of those that it revoked."""

    def __init__(self, folder, name='test CA'):
        self.folder, self.name = folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.serials, self.revoked = {}, []
        self.write('ca.pem', self.build(self.name, self.key.public_key(), x509.BasicConstraints(True, None)))

    def write(self, name, thing):
        path = self.folder / name
        draft = path.with_suffix('.draft')
        draft.write_bytes(thing.public_bytes(serialization.Encoding.PEM))
        draft.rename(path)
        return path

    def build(self, subject, public_key, *extensions):
        now = datetime.datetime.now(datetime.UTC)
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(public_key)
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
                   .not_valid_after(now + datetime.timedelta(days=2)))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name, subject, *san):
        """Options of a client that shows the certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        (self.folder / f'{name}.key').write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        (self.folder / f'{name}.key').chmod(0o600)
        certificate = self.build(subject, key.public_key(), *([x509.SubjectAlternativeName(san)] if san else []))
        self.serials[name] = certificate.serial_number
        return '--cert', self.write(f'{name}.pem', certificate), '--key', self.folder / f'{name}.key'

    def list(self, *names, days=1):
        """Writes the list with these revoked too."""
        now = datetime.datetime.now(datetime.UTC)
        self.revoked += names
        builder = (x509.CertificateRevocationListBuilder().issuer_name(self.name)
                   .last_update(now - datetime.timedelta(days=2)).next_update(now + datetime.timedelta(days=days)))
        for name in self.revoked:
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(self.serials[name])
                                                      .revocation_date(now - datetime.timedelta(hours=1)).build())
        return self.write('crl.pem', builder.sign(self.key, hashes.SHA256()))


def subject(**names):
    return x509.Name([x509.NameAttribute(getattr(NameOID, oid), value) for oid, value in names.items()])


@pytest.fixture
def authority(lab):
    folder = lab.folder / 'ca'
    folder.mkdir()
    return Authority(folder)


def test_names_in_certificates_are_mapped_to_users(lab, authority):
    folder, port, _ = lab.init(user=None)
    invites = {user: lab.invite(folder, user, '--certificate') for user in ('alice', 'bob', 'carol', 'dave', 'erin')}
    lab.invite(folder, 'tokenuser')
    lab.edit_config(folder, f'client_ca: {authority.folder}/ca.pem\n'
                            'certificate_users:\n'
                            '  - {san: "dns:phone.example.org", user: alice}\n'
                            '  - {san: "email:bob@example.org", user: bob}\n'
                            '  - {san: "uri:spiffe://example.org/carol", user: carol}\n'
                            '  - {subject: "CN=D\\\\, E,O=Example", user: dave}\n'
                            '  - {san: "dns:nobody.example.org", user: tokenuser}\n')
    server = lab.server(folder)
    someone = subject(COMMON_NAME='someone')
    cases = [
        ('alice', authority.issue('1', someone, x509.DNSName('other.example.org'), x509.DNSName('PHONE.example.org'))),
        ('bob', authority.issue('2', someone, x509.RFC822Name('bob@example.org'))),
        ('carol', authority.issue('3', someone, x509.UniformResourceIdentifier('spiffe://example.org/carol'))),
        ('dave', authority.issue('4', subject(ORGANIZATION_NAME='Example', COMMON_NAME='D, E'))),
        ('erin', authority.issue('5', subject(COMMON_NAME='erin'))),
        # an entry comes before the CN, and the first one before the others
        ('alice', authority.issue('6', subject(COMMON_NAME='erin'), x509.RFC822Name('bob@example.org'),
                                  x509.DNSName('phone.example.org'))),
    ]
    def opened():
        return re.findall(r'session of (\S+) opened', server.err)
    for user, options in cases:
        lab.client(invites[user], *options)
    assert opened() == [user for user, _ in cases]
    strangers = [
        authority.issue('7', someone),
        authority.issue('8', someone, x509.DNSName('*.example.org')),
        authority.issue('9', someone, x509.DNSName('phone.example.org.evil.example')),
        authority.issue('10', someone, x509.RFC822Name('BOB@example.org')),
        authority.issue('11', someone, x509.DNSName('bob@example.org')),
        authority.issue('12', subject(COMMON_NAME='D, E')),
        # the user has no credential of the kind
        authority.issue('13', subject(COMMON_NAME='erin'), x509.DNSName('nobody.example.org')),
    ]
    for options in strangers:
        ended(lab.client(invites['alice'], *options, ready=False))
    assert len(opened()) == len(cases)


def test_revoked_certificates_fail_as_soon_as_the_list_says_so(lab, authority):
    folder, _, _ = lab.init(user=None)
    invites = {user: lab.invite(folder, user, '--certificate') for user in ('alice', 'bob')}
    options = {user: authority.issue(user, subject(COMMON_NAME=user)) for user in invites}
    lab.edit_config(folder, f'client_ca: {authority.folder}/ca.pem\nclient_crl: {authority.list()}')
    server = lab.server(folder)
    for user in invites:
        lab.client(invites[user], *options[user]).stop()
    authority.list('bob')
    wait_for(lambda: 'sealgram: info: revocation lists read again\n' in server.err, 5, 'the new list')
    told = ended(lab.client(invites['bob'], *options['bob'], ready=False))
    assert told.endswith('own certificate refused by the peer (certificate revoked)\n')
    lab.client(invites['alice'], *options['alice']).stop()
    # what is no list changes nothing
    (authority.folder / 'crl.pem').write_text('nothing')
    line = f'sealgram: error: {authority.folder}/crl.pem: holds no revocation list in PEM: ' \
           'the revocation lists stay as they were\n'
    wait_for(lambda: line in server.err, 5, 'the complaint')
    lab.client(invites['alice'], *options['alice']).stop()
    # an outdated list lets nobody in
    authority.list(days=-1)
    wait_for(lambda: server.err.count('revocation lists read again') == 2, 5, 'the outdated list')
    told = ended(lab.client(invites['alice'], *options['alice'], ready=False))
    assert told.endswith('own certificate refused by the peer (certificate expired)\n')


@pytest.mark.parametrize('text, complaint', [
    ('certificate_users: 5', 'certificate_users: must be a list'),
    ('certificate_users: [5]', 'certificate_users: an entry is a mapping of san or subject, and user'),
    ('certificate_users: [{user: bob}]', 'certificate_users: an entry needs san or subject, and user'),
    ('certificate_users: [{san: "dns:x"}]', 'certificate_users: an entry needs san or subject, and user'),
    ('certificate_users: [{san: "ip:x", user: bob}]', 'san: must be dns:NAME, email:ADDRESS or uri:URI'),
    ('certificate_users: [{san: "dns:", user: bob}]', 'san: must be dns:NAME, email:ADDRESS or uri:URI'),
    ('certificate_users: [{san: "dns:x", subject: y, user: bob}]', 'subject: an entry has one san or one subject'),
    ('certificate_users: [{san: "dns:x", user: "b b"}]',
     "user: 'b b' is not a user name: 1 to 64 of letters, digits and . _ - @"),
    ('certificate_users: [{name: x}]', 'name: unknown key'),
    ('certificate_users: [{san: "dns:x", user: bob}]', 'client_ca: is missing, which certificate_users needs'),
    ('client_crl: cert.pem', 'client_ca: is missing, which client_crl needs'),
    ('client_ca: cert.pem\nclient_crl: cert.pem', 'cert.pem: holds no revocation list in PEM'),
])
def test_certificate_settings_that_make_no_sense_are_refused(lab, text, complaint):
    folder, _, _ = lab.init()
    lab.edit_config(folder, text)
    done = run('server', '-c', folder / 'server.yaml', '--check')
    assert done.returncode == 3 and done.stderr.rstrip('\n').endswith(complaint), done.stderr
