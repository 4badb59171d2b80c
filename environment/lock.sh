#!/usr/bin/env bash
# Writes constraints-<Python version>.txt anew from requirements*.txt and the extras of pyproject.toml. Needs uv.
#
#   environment/lock.sh                            adds what is missing, drops what nothing requires, keeps all versions
#   environment/lock.sh --upgrade-package torch    any option of `uv pip compile`: here, a new version of one package
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# cv-bridge asks for the OpenCV with a GUI, which setup.sh does not install: no version of it is locked.
echo 'opencv-python; sys_platform == "none"' >"$work/override"

for version in 3.10 3.11 3.12; do
  constraints=constraints-$version.txt
  requirements=(requirements.txt)
  [[ $version == 3.11 ]] && requirements+=(requirements-ros.txt requirements-no-deps.txt)
  extras=(--extra cu126 --extra onnx --extra openvino)
  [[ $version != 3.12 ]] && extras+=(--extra cu120)  # has no wheels for it
  cp "$constraints" "$work/lock"  # uv keeps the versions that it finds in the file that it writes
  uv pip compile "${requirements[@]}" ../pyproject.toml "${extras[@]}" --override "$work/override" \
    --python-version "$version" --python-platform x86_64-unknown-linux-gnu --no-header --no-annotate --quiet \
    --output-file "$work/lock" "$@"
  { grep '^#' "$constraints"; cat "$work/lock"; } >"$work/constraints"
  cp "$work/constraints" "$constraints"
done
