#!/usr/bin/env bash
# Makes .venv with everything that demo and tests need, in exactly the versions pinned beside this script.
#
#   environment/setup.sh      does nothing when .venv is already what the pinned files say
#
# Without ROS on the machine, .venv holds ROS 2 Kilted from PyPI (Linux x86-64, Python 3.11). With a sourced ROS 2
# (ROS_DISTRO is set), .venv builds on that installation and its Python instead.
#
# pip's own settings work as always, e.g. a smaller PyTorch without CUDA:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=$PWD/.venv
# A process that was started by another environment of this kind carries these; its libraries are not ours.
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE PYTHONHOME

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

# --- Is there anything to do? ---------------------------------------------------------------------------------

# One line that changes whenever the files and folders $@ do. .venv's path is in it because a venv cannot be moved.
fingerprint() {
  { echo "$VENV ${ROS_DISTRO:-no-ros}"
    find "$@" -type f ! -name '*.md' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  } | sha256sum
}

PACKAGES=(environment interfaces)            # what decides which packages .venv holds
PROJECT=(pyproject.toml setup.py setup.cfg)  # what decides how this repository is installed among them

# Has the step that leaves .venv/$1 been done with the rest of $@ as they are?
is_done() { [[ -x $VENV/bin/python && -f $VENV/$1 && $(<"$VENV/$1") == "$(fingerprint "${@:2}")" ]]; }

# --- What the machine has to bring ----------------------------------------------------------------------------

# What keeps Python $1 from being the one we build on, as one line; nothing if it will do.
python_lacks() {
  "$1" - <<'PYTHON'
import importlib.util, pathlib, sysconfig
if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
    print("its venv module (Debian and Ubuntu: apt install python3.11-venv)")
elif not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists():
    print("its C headers (Debian and Ubuntu: apt install python3.11-dev)")
PYTHON
}

find_python_311() {
  local candidate lacks first_lack=""
  while read -r candidate; do
    [[ $("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) == 3.11 ]] || continue
    lacks=$(python_lacks "$candidate")
    [[ -z $lacks ]] && { echo "$candidate"; return; }
    first_lack=${first_lack:-"$candidate lacks $lacks"}
  done < <(type -aP python3.11 python3 || true)
  fail "${first_lack:-Python 3.11 is missing: install it (Debian 12: apt install python3.11-venv python3.11-dev; pyenv install 3.11; uv python install 3.11), or source a ROS 2 installation}"
}

find_ros_python() {
  local candidate
  while read -r candidate; do
    "$candidate" -c 'import rclpy' 2>/dev/null || continue
    "$candidate" -c 'import venv, ensurepip' 2>/dev/null || fail "$candidate lacks its venv module (Ubuntu: apt install python3-venv)"
    echo "$candidate"
    return
  done < <(echo /usr/bin/python3; type -aP python3 || true)
  fail "ROS_DISTRO is $ROS_DISTRO, but no python3 can import rclpy: source /opt/ros/$ROS_DISTRO/setup.bash, or unset ROS_DISTRO to do without ROS"
}

check_compiler() {
  [[ $(uname -sm) == "Linux x86_64" ]] || fail "without a ROS installation this needs Linux on x86-64; elsewhere install ROS 2 and source it"
  [[ -n $(type -P c++ g++ clang++) ]] || fail "a C++ compiler is missing (Debian and Ubuntu: apt install g++)"
  type -P make >/dev/null || fail "make is missing (Debian and Ubuntu: apt install make)"
}

# --- The two ways to make .venv -------------------------------------------------------------------------------

pip_install() { "$VENV/bin/python" -m pip install --disable-pip-version-check "$@"; }

# $1: Python to build on; the rest: options of venv. Whatever an interrupted run left is thrown away: pip's cache
# makes the second attempt quick, and nobody has to wonder what half an installation is.
make_venv() {
  local python=$1 version
  shift
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  constraints=environment/constraints-$version.txt
  [[ -f $constraints ]] || fail "Python $version of $python is none of those pinned in environment/ (3.10, 3.11, 3.12)"
  say "making .venv with $python"
  rm -rf "$VENV"
  "$python" -m venv "$@" "$VENV"
}

make_with_pip_ros() {
  local python
  check_compiler
  python=$(find_python_311)
  make_venv "$python"
  say "installing pinned packages and ROS 2 Kilted from PyPI (about 630 MB with a CPU-only PyTorch)"
  pip_install -c "$constraints" -r environment/requirements.txt -r environment/requirements-ros.txt
  # Its metadata ask for the OpenCV with a GUI, which would overwrite the headless one that nuscenes-devkit brings.
  pip_install --no-deps -r environment/requirements-no-deps.txt
  build_interfaces
}

# tf2_msgs and vision_msgs, merged into .venv beside the other messages, where Python and the loader look anyway.
build_interfaces() {
  local include numpy_include work=$VENV/interfaces
  say "building tf2_msgs and vision_msgs"
  include=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  numpy_include=$("$VENV/bin/python" -c 'import numpy; print(numpy.get_include())')
  # The wheels' CMake files name folders of the machine that built them.
  find "$VENV"/share/*/cmake -name '*.cmake' -exec sed -i \
    -e "s|/opt/python/cp311-cp311/include/python3.11|$include|g" \
    -e "s|/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include|$numpy_include|g" {} +
  # interfaces/COLCON_IGNORE keeps a workspace from building these; --paths names them nevertheless.
  env PATH="$VENV/bin:$PATH" AMENT_PREFIX_PATH="$VENV" CMAKE_PREFIX_PATH="$VENV" \
    colcon --log-base "$work/log" build --paths interfaces/tf2_msgs interfaces/vision_msgs \
    --build-base "$work/build" --install-base "$VENV" --merge-install --event-handlers console_direct- \
    --cmake-args -DBUILD_TESTING=OFF -DPython3_EXECUTABLE="$VENV/bin/python" -Wno-unused-cli
  rm -rf "$work"
}

make_on_ros() {
  local python module
  python=$(find_ros_python)
  for module in tf2_msgs.msg vision_msgs.msg cv_bridge sensor_msgs_py.point_cloud2 tf2_py; do
    "$python" -c "import $module" 2>/dev/null || {
      module=${module%%.*}
      fail "ROS 2 $ROS_DISTRO lacks $module: apt install ros-$ROS_DISTRO-${module//_/-}"
    }
  done
  make_venv "$python" --system-site-packages
  say "installing pinned packages on top of ROS 2 $ROS_DISTRO"
  pip_install -c "$constraints" -r environment/requirements.txt
}

# --- Do it ----------------------------------------------------------------------------------------------------

# Two makes at once: the second waits here, then finds everything done. The kernel drops the lock with its last holder.
exec 9<environment/setup.sh
flock --nonblock 9 || { say "another make is working on .venv; waiting for it"; flock 9; }
is_done packages "${PACKAGES[@]}" && is_done project "${PROJECT[@]}" && exit

started=$SECONDS
if ! is_done packages "${PACKAGES[@]}"; then
  if [[ -n ${ROS_DISTRO:-} ]]; then make_on_ros; else make_with_pip_ros; fi
  fingerprint "${PACKAGES[@]}" >"$VENV/packages"
fi
pip_install --no-deps --no-build-isolation --use-pep517 --editable .
fingerprint "${PROJECT[@]}" >"$VENV/project"
say "done in $((SECONDS - started)) s; to use it in a shell: source .venv/bin/activate"
