# Everything on CPUs, ROS 2 from PyPI. For a GPU or for the ROS 2 of your distribution: docs/install.md.
#
#   docker build -t vexkd .
#   docker run --rm -it --network host --ipc host vexkd make demo
FROM debian:12-slim

# Debian's mirrors keep no old versions, so that pinned ones would soon fail.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates g++ git make python3.11-dev python3.11-venv \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /vexkd
COPY . .
RUN PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu PIP_NO_CACHE_DIR=1 make setup

ENV PATH=/vexkd/.venv/bin:$PATH
# DDS hands large messages over in shared memory: run with --ipc host, as the user of the nodes outside.
CMD ["vexkd-student-node", "--ros-args", "-p", "model:=models/lidar_distilled"]
