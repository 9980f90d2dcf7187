"""The configuration file as a program reads it: bytes that no parser should see, and a file that does not come."""
import os

import pytest

from harness import run

ENDLESS = b'listen: ["127.0(0.1:144:43"]\n%oen: \xdbeis(ten: \xdbers\ng'  # libfyaml 0.8 never returns from it
COMMANDS = {
    'server': ('server', '-c', '{config}'),
    'check': ('server', '--check', '-c', '{config}'),
    'policy': ('policy', 'test', '-c', '{config}', '--user', 'a', 'udp', '192.0.2.1:53'),
    'invite': ('invite', '{folder}', 'bob'),
    'users': ('users', '{folder}'),
    'passwd': ('passwd', '{folder}', 'bob'),
    'revoke': ('revoke', '{folder}', 'alice'),
    'renew-cert': ('renew-cert', '{folder}'),
}


def words(name, folder):
    return [word.format(config=folder / 'server.yaml', folder=folder) for word in COMMANDS[name]]


@pytest.mark.parametrize('name', COMMANDS)
def test_bytes_that_the_parser_would_never_return_from_are_refused(lab, name):
    folder, _, _ = lab.init()
    (folder / 'server.yaml').write_bytes(ENDLESS)
    done = run(*words(name, folder), folder=lab.folder, stdin='a password of bob\n', timeout=20)
    assert done.returncode == 3 and f'{folder}/server.yaml:2: yaml: a line that begins with %: ' in done.stderr


@pytest.mark.parametrize('name', ['check', 'users'])
def test_a_file_that_does_not_come_is_not_waited_for(lab, name):
    folder, _, _ = lab.init()
    (folder / 'server.yaml').unlink()
    os.mkfifo(folder / 'server.yaml')  # as on a file system that does not answer
    done = run(*words(name, folder), folder=lab.folder, timeout=30)
    assert done.returncode == 3 and f'{folder}/server.yaml: was not read within 5 seconds' in done.stderr
