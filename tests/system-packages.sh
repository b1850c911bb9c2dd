#!/bin/sh
# Install what Debian leaves out of its Python, where we may; else say what to do.
#
#     sh tests/system-packages.sh python [PYTHON]    # what everything needs
#     sh tests/system-packages.sh slurm              # what the tests on Slurm need
#     sh tests/system-packages.sh zsh                # what those of completion need
#     sh tests/system-packages.sh browser            # what the tests of pages need
#     sh tests/system-packages.sh software           # what those of envmodules and such do
set -eu

may_install() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null
}

install() {
    # Services are not started: tests run their own, with their own data.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

need_python() {
    python=$1
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "TigerFlow needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …" >&2
        exit 1
    fi
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        return
    fi
    if may_install; then
        install python3-venv
    else
        echo "Python's venv module is missing; ask for: apt-get install python3-venv" >&2
        exit 1
    fi
}

need_slurm() {
    packages="slurmctld slurmd slurmdbd slurm-client munge mariadb-server procps"
    PATH=$PATH:/usr/sbin:/sbin
    missing=
    for program in slurmctld slurmd slurmdbd sbatch munged mariadbd pkill; do
        command -v "$program" >/dev/null || missing=$program
    done
    if [ -z "$missing" ]; then
        return
    fi
    # With systemd, the services would start with the machine from now on.
    if may_install && { [ "${CI:-}" = true ] || [ ! -d /run/systemd/system ]; }; then
        # shellcheck disable=SC2086 -- words
        install $packages
    else
        echo "No Slurm for its tests; to get one, on a machine to play with, as root:" >&2
        echo "    apt-get install --no-install-recommends $packages" >&2
    fi
}

need_zsh() {
    if ! command -v zsh >/dev/null && may_install; then
        install zsh
    fi
}

need_browser() {
    if command -v chromium >/dev/null; then
        return
    fi
    if may_install; then
        install chromium fonts-dejavu-core
    else
        echo "No Chromium for the tests of pages; ask for: apt-get install chromium" >&2
    fi
}

need_software() {
    packages="environment-modules bubblewrap"
    if [ -e /usr/share/modules/init/bash ] && command -v bwrap >/dev/null; then
        return
    fi
    if may_install; then
        # shellcheck disable=SC2086 -- words
        install $packages
    else
        echo "No software for the tests of envmodules and container; as root:" >&2
        echo "    apt-get install --no-install-recommends $packages" >&2
    fi
}

case $1 in
python) need_python "${2:-python3}" ;;
slurm) need_slurm ;;
zsh) need_zsh ;;
browser) need_browser ;;
software) need_software ;;
esac
