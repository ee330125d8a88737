# Sourced: installs packages of the distribution (Debian, Ubuntu), and only what is missing.

# as_root COMMAND: written as "${as_root[@]}" COMMAND, so that in the background it is the command itself that gets the signals.
if [ "$(id -u)" = 0 ]; then as_root=(); else as_root=(sudo); fi

# The programs of the system are not in every user's PATH.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# want FILE PACKAGE: notes the package when the program, or the file, is not there.
missing=()
want() {
    case $1 in
        /*) [ -e "$1" ] || missing+=("$2") ;;
        *) command -v "$1" >/dev/null || missing+=("$2") ;;
    esac
}

# The command `docker` is a package of its own in newer releases.
want_docker() {
    want dockerd docker.io
    # whether there is one is only known from the lists of packages
    if ! command -v docker >/dev/null && command -v apt-get >/dev/null; then "${as_root[@]}" apt-get update -q; fi
    command -v docker >/dev/null || ! apt-cache show docker-cli >/dev/null 2>&1 || missing+=(docker-cli)
}

install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || { echo "please install: ${missing[*]}" >&2; exit 1; }
    echo "installing: ${missing[*]}"
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}
