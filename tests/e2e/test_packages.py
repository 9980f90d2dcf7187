"""tools/deps with package lists of two releases of Debian: it asks for what is missing under the name that exists."""
import os
import subprocess

import pytest

from harness import ROOT

BOOKWORM = {'libssl3': '', 'libipsec-mb1': '', 'libevent-core-2.1-7': ''}
TRIXIE = {'libssl3t64': 'libssl3 (= 3.5.1-1)', 'libipsec-mb2': '',
          'libevent-core-2.1-7t64': 'libevent-core-2.1-7 (= 2.1.12-stable-10+b1), libevent-core-x (= 1)'}
LIST = '''[run]
libssl3      # called libssl3t64 in Debian 13, which provides the old name
libipsec-mb2|libipsec-mb1 ?amd64 #
libevent-core-2.1-7 #
libnever ?m68k # for another architecture

[bench]
dante-server unpack # gone from Debian 13
'''


@pytest.fixture
def machine(tmp_path):
    """Gives a function: tools/deps on a machine with these packages installed, and these known to apt."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'tools' / 'deps').write_text((ROOT / 'tools' / 'deps').read_text())
    (tmp_path / 'packages.txt').write_text(LIST)

    def deps(installed, known, *arguments):
        status = ''.join(f'installed {name} {provided}\n' for name, provided in installed.items())
        programs = {'dpkg': 'echo amd64', 'dpkg-query': f"cat <<'END'\n{status}deinstall libgone\nEND",
                    'apt-cache': "cat <<'END'\n" + ''.join(f'{name}\n' for name in known) + 'END',
                    'apt-get': 'echo "apt-get: $*"', 'sudo': 'exec "$@"'}
        for name, text in programs.items():
            (tmp_path / 'bin' / name).write_text(f'#!/bin/sh\n{text}\n')
            (tmp_path / 'bin' / name).chmod(0o755)
        done = subprocess.run(['bash', tmp_path / 'tools' / 'deps', *arguments], capture_output=True, text=True,
                              check=False, env={'PATH': f'{tmp_path}/bin:{os.environ["PATH"]}'}, timeout=60)
        assert (done.returncode, done.stderr) == (0, '')
        return done.stdout.split('\n')
    return deps


@pytest.mark.parametrize('release', [BOOKWORM, TRIXIE], ids=['bookworm', 'trixie'])
def test_nothing_is_missing_where_all_is_installed(machine, release):
    """Under another name, too, that provides the listed one: else apt-get would run at every make."""
    assert machine(release, release, '--list', 'run') == ['']


@pytest.mark.parametrize('release, name', [(BOOKWORM, 'libipsec-mb1'), (TRIXIE, 'libipsec-mb2')],
                         ids=['bookworm', 'trixie'])
def test_of_several_names_the_one_that_apt_knows(machine, release, name):
    installed = {other: provided for other, provided in release.items() if other != name}
    assert machine(installed, release, '--list', 'run') == [name, '']


def test_a_package_that_the_release_has_not_is_said_once(machine):
    first = machine(TRIXIE, TRIXIE, 'bench')
    assert 'tools/deps: this release of Debian has no dante-server; what uses it will say that it is missing' in first
    assert machine(TRIXIE, TRIXIE, 'bench') == ['']
