"""Kernels that lack something: what `init` writes starts all the same, serves, and one line of the log says what is missing."""
import errno
import json
import re
import socket
import sys

import pytest

from harness import CONNECT, SocksUdp, free_port, run, socks_request

# Becomes the program, with system calls that fail: for each [name, errno, [argument, value]...] of the list, the call whose
# arguments are so. Nothing else than this filter stands between a test and a kernel that was built without the part.
LACKING = '''
import ctypes, json, os, sys
lib = ctypes.CDLL('libseccomp.so.2')
class Condition(ctypes.Structure):
    _fields_ = [('arg', ctypes.c_uint), ('op', ctypes.c_int), ('a', ctypes.c_uint64), ('b', ctypes.c_uint64)]
lib.seccomp_init.restype = ctypes.c_void_p
filter = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(0x7fff0000)))
for name, error, *conditions in json.loads(sys.argv[1]):
    number = lib.seccomp_syscall_resolve_name(name.encode())
    made = (Condition * len(conditions))(*[Condition(arg, 4, value, 0) for arg, value in conditions])
    assert lib.seccomp_rule_add_array(filter, ctypes.c_uint32(0x00050000 | error), number, len(made), made) == 0, name
assert lib.seccomp_load(filter) == 0
os.execv(sys.argv[2], sys.argv[2:])
'''
IPV4 = ['socket', errno.EAFNOSUPPORT, [0, socket.AF_INET]]
IPV6 = ['socket', errno.EAFNOSUPPORT, [0, socket.AF_INET6]]
NETLINK = ['socket', errno.EAFNOSUPPORT, [0, socket.AF_NETLINK]]
STEERING = ['setsockopt', errno.ENOPROTOOPT, [1, socket.SOL_SOCKET], [2, 51]]
OVERFLOW = ['setsockopt', errno.ENOPROTOOPT, [1, socket.SOL_SOCKET], [2, 40]]

pytestmark = pytest.mark.no_sanitize  # their run-time libraries use netlink


def lacking(*rules):
    return [sys.executable, '-c', LACKING, json.dumps(rules)]


def serve(lab, folder, *rules, ready=True):
    server = lab.start('server', 'server', '-c', folder / 'server.yaml', prefix=lacking(*rules))
    if ready:
        server.ready()
    return server


def connect(lab, invite, *rules):
    path = lab.folder / 'invite'
    path.write_text(invite + '\n')
    path.chmod(0o600)
    client = lab.start('client', 'client', '--socks', '127.0.0.1:0', f'@{path}', prefix=lacking(*rules))
    host, _, port = client.ready()['socks'].rpartition(':')
    return client, (host, int(port))


def passes(lab, socks, echo, tcp_echo):
    assert lab.open(SocksUdp(socks)).ask(b'x', echo.address)[0] == b'x'
    sock, code, _ = socks_request(socks, CONNECT, *tcp_echo.address)
    lab.open(sock)
    assert code == 0


def ends(program, code=1):
    assert program.process.wait(20) == code
    return program.err


def lines(program, words):
    return [line for line in program.err.splitlines() if words in line]


@pytest.fixture
def usual(lab):
    """What init writes with no address given, on a free port: both families."""
    folder, port, invite = lab.init(listen=[])
    config = folder / 'server.yaml'
    text = config.read_text()
    assert '"0.0.0.0:1443"' in text and '"[::]:1443"' in text
    config.write_text(text.replace(':1443"', f':{port}"'))
    return folder, port, re.sub(r':1443\b', f':{port}', invite)


@pytest.mark.parametrize('family, left_out, left', [(IPV6, '[::]', '0.0.0.0'), (IPV4, '0.0.0.0', '[::]')], ids=['IPv6', 'IPv4'])
def test_a_wildcard_of_a_family_that_is_missing_is_left_out(lab, usual, echo, tcp_echo, family, left_out, left):
    folder, port, invite = usual
    server = serve(lab, folder, family)
    assert server.ready()['plain'] == [f'{left}:{port}']
    name = 'IPv6' if family is IPV6 else 'IPv4'
    assert lines(server, name) == [f'sealgram: info: listen: {left_out}:{port} is left out: this kernel has no {name}']
    assert not lines(server, 'warning')
    if family is IPV6:
        client, socks = connect(lab, invite, family)
        passes(lab, socks, echo, tcp_echo)
        assert client.status()['path'] == 'udp'
    assert run('reload', folder=lab.folder).stdout == 'reloaded\n'
    assert len(lines(server, 'is left out')) == 1 and not lines(server, 'restart')


def test_with_several_workers_too(lab, usual, echo, tcp_echo):
    folder, _, invite = usual
    lab.edit_config(folder, 'workers: 2')
    server = serve(lab, folder, IPV6)
    passes(lab, connect(lab, invite)[1], echo, tcp_echo)
    assert len(server.status()['workers']) == 2 and len(lines(server, 'is left out')) == 1


@pytest.mark.parametrize('listen, family', [('[::1]', 6), ('127.0.0.1', 4)])
def test_an_address_of_a_family_that_is_missing_is_an_error(lab, listen, family):
    port = free_port()
    folder, _, _ = lab.init(listen=[f'{listen}:{port}'])
    server = serve(lab, folder, IPV6 if family == 6 else IPV4, ready=False)
    assert ends(server) == (f'sealgram: error: cannot listen on TCP {listen}:{port} (listen): Address family not supported by '
                            f'protocol: this kernel has no IPv{family}; listen may name another address\n')
    lab.programs.remove(server)


def test_an_address_must_be_left(lab):
    port = free_port()
    folder, _, _ = lab.init(listen=[f'[::]:{port}'])
    server = serve(lab, folder, IPV6, ready=False)
    assert ends(server).endswith('sealgram: error: listen: no address is left: name one that this kernel can have\n')
    lab.programs.remove(server)


def test_a_name_that_has_both_families(lab, usual, tcp_echo, echo):
    """A server without IPv6 goes to the address that it can reach."""
    folder, _, invite = usual
    serve(lab, folder, IPV6)
    _, socks = connect(lab, invite, IPV6)
    assert lab.open(SocksUdp(socks)).ask(b'x', ('localhost', echo.address[1]))[0] == b'x'
    sock, code, _ = socks_request(socks, CONNECT, 'localhost', tcp_echo.address[1])
    lab.open(sock)
    assert code == 0


def test_without_netlink(lab, usual, echo, tcp_echo):
    folder, _, invite = usual
    server = serve(lab, folder, NETLINK)
    client, socks = connect(lab, invite, NETLINK)
    passes(lab, socks, echo, tcp_echo)
    text = 'sealgram: warning: netlink is not to be had (Address family not supported by protocol): '
    for program in server, client:
        assert [line for line in program.err.splitlines() if 'netlink' in line and line.startswith(text)] == lines(program, 'netlink')
        assert len(lines(program, 'netlink')) == 1
    assert run('reload', folder=lab.folder).stdout == 'reloaded\n'
    assert len(lines(server, 'netlink')) == 1


def test_a_kernel_that_cannot_steer_datagrams_has_one_worker(lab, usual, echo, tcp_echo):
    folder, _, invite = usual
    lab.edit_config(folder, 'workers: 3')
    server = serve(lab, folder, STEERING)
    client, socks = connect(lab, invite, STEERING)
    passes(lab, socks, echo, tcp_echo)
    assert client.status()['path'] == 'udp' and len(server.status()['workers']) == 1
    assert lines(server, 'worker') == [
        'sealgram: warning: one worker instead of 3: this kernel cannot tell which datagram is for which '
        '(SO_ATTACH_REUSEPORT_CBPF: Protocol not available)']


def test_a_kernel_that_does_not_count_what_it_drops(lab, usual, echo, tcp_echo):
    folder, _, invite = usual
    serve(lab, folder, OVERFLOW)
    client, socks = connect(lab, invite, OVERFLOW)
    passes(lab, socks, echo, tcp_echo)
    assert client.status()['path'] == 'udp'


WITHOUT_SECCOMP = [(errno.ENOSYS, 'this kernel has none'), (errno.EINVAL, 'that of this kernel is older than Linux 4.14'),
                   (errno.EPERM, 'Operation not permitted')]
WITHOUT_LANDLOCK = [(errno.ENOSYS, 'this kernel has none'), (errno.EOPNOTSUPP, 'this kernel has it switched off (lsm=)'),
                    (errno.EPERM, 'Operation not permitted')]


def refuse_seccomp(error):
    return ['seccomp', error], ['prctl', error, [0, 22]]


def refuse_landlock(error):
    return [['landlock_create_ruleset', error]]


def need_sandbox(lab, folder):
    server = lab.server(folder)
    server.stop()
    if lines(server, 'this build has none'):
        pytest.skip('this build has no sandbox')


@pytest.mark.parametrize('error, reason', WITHOUT_SECCOMP)
def test_without_seccomp(lab, usual, echo, tcp_echo, error, reason):
    folder, _, invite = usual
    need_sandbox(lab, folder)
    server = serve(lab, folder, *refuse_seccomp(error))
    client, socks = connect(lab, invite, *refuse_seccomp(error))
    passes(lab, socks, echo, tcp_echo)
    line = f'sealgram: warning: sandbox: system calls are not restricted: no seccomp: {reason}'
    for program in server, client:
        assert lines(program, 'seccomp') == [line]


@pytest.mark.parametrize('error, reason', WITHOUT_LANDLOCK)
def test_without_landlock(lab, usual, echo, tcp_echo, error, reason):
    folder, _, invite = usual
    need_sandbox(lab, folder)
    server = serve(lab, folder, *refuse_landlock(error))
    client, socks = connect(lab, invite, *refuse_landlock(error))
    passes(lab, socks, echo, tcp_echo)
    for program in server, client:
        assert lines(program, 'Landlock') == [f'sealgram: info: sandbox: files are not restricted: no Landlock: {reason}']


@pytest.mark.parametrize('rules, text', [
    *[(refuse_seccomp(error), f'system calls cannot be filtered (seccomp): {reason}') for error, reason in WITHOUT_SECCOMP],
    *[(refuse_landlock(error), f'the file system cannot be closed (Landlock): {reason}') for error, reason in WITHOUT_LANDLOCK]])
def test_a_sandbox_that_is_required(lab, usual, rules, text):
    folder, _, _ = usual
    need_sandbox(lab, folder)
    lab.edit_config(folder, 'require_sandbox: true')
    server = serve(lab, folder, *rules, ready=False)
    assert ends(server).endswith(f'sealgram: error: {text}\n')
    lab.programs.remove(server)
    assert server.out == ''
