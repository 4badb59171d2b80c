#!/usr/bin/env bash
# A SLURM cluster of this one machine, for tests and trials. As root; all its files are in one folder.
#
#   apt-get install --no-install-recommends slurmctld slurmd slurm-client munge    # Debian, Ubuntu
#   tests/support/slurm_node.sh start DIR && export SLURM_CONF=DIR/slurm.conf      # then srun, sbatch, squeue …
#   tests/support/slurm_node.sh stop DIR                                           # started again, it knows its jobs
#
# Its 8 processors are a claim, so that several jobs run beside one another on any machine. Without systemd and cgroups.
set -euo pipefail
action=${1:?start or stop} dir=$(realpath -m "${2:?folder}")
export PATH=$PATH:/usr/sbin SLURM_CONF=$dir/slurm.conf

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

configure() {
  mkdir -p "$dir"/{state,spool}
  chmod 700 "$dir"
  (umask 077 && dd if=/dev/urandom of="$dir/munge.key" bs=128 count=1 status=none)
  cat >"$SLURM_CONF" <<CONF
ClusterName=one_node
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=0
KillWait=5
PropagatePrioProcess=1
ReturnToService=2
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
SlurmdParameters=config_overrides
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
  munged --force --key-file "$dir/munge.key" --socket "$dir/munge.socket" --pid-file "$dir/munged.pid" \
    --seed-file "$dir/munged.seed" --log-file "$dir/munged.log" --num-threads 2
  slurmctld
  slurmd
  for _ in {1..300}; do
    [[ $(sinfo --noheader --format %T 2>/dev/null) =~ ^(idle|mix|alloc) ]] && return
    sleep 0.1
  done
  echo "$dir: the node does not come up; see its *.log" >&2
  return 1
}

stop() {
  for daemon in slurmd slurmctld munged; do
    [[ -f $dir/$daemon.pid ]] || continue
    kill "$(<"$dir/$daemon.pid")" 2>/dev/null || true
    for _ in {1..100}; do [[ -f $dir/$daemon.pid ]] && sleep 0.1; done  # it removes the file at its end
    rm -f "$dir/$daemon.pid"
  done
}

if [[ $action == start ]]; then
  for program in munged slurmctld slurmd sinfo; do
    type -P $program >/dev/null || { echo "$program: absent; apt-get install slurmctld slurmd slurm-client munge" >&2; exit 1; }
  done
  [[ -f $SLURM_CONF ]] || configure
fi
"$action"
