#!/usr/bin/env bash
# A Slurm cluster of several hosts on one machine, to be broken: every host is a set of Linux namespaces (processes,
# network, host name, shared memory, mounts) on a bridge without a way out. Needs root, Slurm, munge and iproute2.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: slurm-lab.sh COMMAND        (through cargo: cargo xtask slurm-lab COMMAND)
  up                  make and start the cluster; `login` is its login host
  down                end it and remove all its files
  exec HOST CMD...    run a command on a host
  kill HOST           power cut: every process of the host dies at once
  start HOST          power back; KEEP_SOCKETS=1 leaves what the cut left in Slurm's spool folder
  cut HOST            pull the network cable
  join HOST           plug it in again
environment: SLURM_LAB (folder), LAB_NODES (4), LAB_CPUS (4), LAB_NET (10.78.0),
             LAB_ACCOUNTS=1 (keep accounts: needs slurmdbd and mariadb-server)
EOF
    exit 2
}

lab=${SLURM_LAB:-/tmp/convoke-slurm-lab}
nodes=${LAB_NODES:-4} cpus=${LAB_CPUS:-4} net=${LAB_NET:-10.78.0} accounts=${LAB_ACCOUNTS:-0}
[ -f "$lab/settings" ] && . "$lab/settings"
bridge=cvlab${net//[!0-9]/}
bridge=${bridge:0:14}
export SLURM_CONF=$lab/slurm.conf

die() { echo "slurm-lab: $*" >&2; exit 1; }
until_true() { # SECONDS CMD...
    local end=$(($(date +%s) + $1)); shift
    until "$@" >/dev/null 2>&1; do [ "$(date +%s)" -lt $end ] || die "timed out: $*"; sleep 0.05; done
}
is_host() { [ "$1" = login ] || [[ $1 =~ ^n[0-9]+$ && ${1#n} -le $nodes ]] || die "no host $1; hosts: login, n1 to n$nodes"; }
address() { if [ "$1" = login ]; then echo "$net.250"; else echo "$net.${1#n}"; fi; }
init_of() { cat "$lab/hosts/$1.pid"; }
on() { local host=$1; shift; nsenter --target "$(init_of "$host")" --all --wdns="$PWD" -- "$@"; }
# All of the network, or two clusters would share names; 15 letters at most.
cable() { echo "cv${net//[!0-9]/}${1/login/l}"; }

missing() {
    [ "$(id -u)" = 0 ] || { echo "root (namespaces and network links are made)"; return; }
    local database=; [ "$accounts" = 0 ] || database="slurmdbd mariadbd mariadb-install-db"
    for program in slurmctld slurmd sbatch munged ip nsenter unshare $database; do
        PATH=$PATH:/usr/sbin command -v $program >/dev/null || { echo $program; return; }
    done
    unshare -n true 2>/dev/null || echo "the right to make namespaces"
}

accounting() {
    [ "$accounts" = 0 ] && { echo "AccountingStorageType=accounting_storage/none"; return; }
    # Jobs leave the queue at once: what was, only the accounts know.
    printf '%s\n' AccountingStorageType=accounting_storage/slurmdbd AccountingStorageHost=login "AccountingStoragePass=$lab/munge/socket" MinJobAge=2
}

database_up() { # the accounts, on the login host
    (umask 077; cat >"$lab/slurmdbd.conf" <<EOF
AuthInfo=socket=$lab/munge/socket
DbdHost=login
DbdAddr=$(address login)
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=27306
StorageUser=slurm
StoragePass=lab
StorageLoc=slurm
PidFile=$lab/slurmdbd.pid
LogFile=$lab/log/slurmdbd.log
EOF
    )
    mariadb-install-db --no-defaults --user=root --datadir="$lab/database" --auth-root-authentication-method=normal \
        --skip-test-db >>"$lab/log/database.log" 2>&1
    printf '%s;\n' "CREATE DATABASE slurm" "CREATE USER slurm@localhost IDENTIFIED BY 'lab'" \
        "GRANT ALL ON slurm.* TO slurm@localhost" >"$lab/database.sql"
    on login setsid mariadbd --no-defaults --user=root --datadir="$lab/database" --socket="$lab/database.socket" \
        --pid-file="$lab/database.pid" --bind-address=127.0.0.1 --port=27306 --init-file="$lab/database.sql" \
        --innodb-buffer-pool-size=64M </dev/null >>"$lab/log/database.log" 2>&1 &
    until_true 60 on login bash -c '</dev/tcp/127.0.0.1/27306'
    on login slurmdbd >>"$lab/log/login.out" 2>&1
    until_true 30 on login sacctmgr --immediate add cluster lab
}

write_configuration() {
    mkdir -p "$lab"/{hosts,log,state,spool,tmp}
    chmod 755 "$lab" "$lab"/*
    printf 'nodes=%s cpus=%s net=%s accounts=%s\n' "$nodes" "$cpus" "$net" "$accounts" >"$lab/settings"
    install -d -o munge -g munge "$lab/munge"
    (umask 077; head -c 1024 /dev/urandom >"$lab/munge/key")
    chown munge: "$lab/munge/key"
    {
        echo "127.0.0.1 localhost"
        echo "$(address login) login"
        for i in $(seq "$nodes"); do echo "$(address "n$i") n$i"; done
    } >"$lab/hosts.txt"
    echo "CgroupAutomount=no" >"$lab/cgroup.conf"
    {
        cat <<EOF
ClusterName=lab
SlurmctldHost=login($(address login))
SlurmctldPort=27000
SlurmUser=root
SlurmdUser=root
# A requeued job waits until its credential has expired: two minutes by default.
AuthInfo=socket=$lab/munge/socket,cred_expire=5
StateSaveLocation=$lab/state
SlurmdSpoolDir=$lab/spool/%n
# PMIx keeps its files there: one folder for each host.
TmpFS=$lab/tmp/%n
SlurmctldPidFile=$lab/slurmctld.pid
SlurmdPidFile=$lab/hosts/%n.slurmd.pid
SlurmctldLogFile=$lab/log/slurmctld.log
SlurmdLogFile=$lab/log/%n.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
# Containers have no control groups to give.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
# The file is believed, not the machine: hosts share its cores.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2,bf_interval=2,default_queue_depth=2000
$(accounting)
MpiDefault=none
MaxArraySize=1001
MaxJobCount=10000
JobRequeue=1
ReturnToService=2
SlurmdTimeout=10
SlurmctldTimeout=30
KillWait=5
EOF
        for i in $(seq "$nodes"); do
            mkdir -p "$lab/spool/n$i" "$lab/tmp/n$i"
            echo "NodeName=n$i NodeAddr=$(address "n$i") Port=$((27100 + i)) CPUs=$cpus RealMemory=4000 State=UNKNOWN"
        done
        echo "PartitionName=main Nodes=n[1-$nodes] Default=YES MaxTime=1:00:00 DefaultTime=10:00"
        echo "PartitionName=short Nodes=n[1-$nodes] MaxTime=2:00 DefaultTime=1:00"
    } >"$SLURM_CONF"
}

host_up() { # HOST DAEMON...: the host's first process is a shell; with it, everything on the host dies
    local host=$1; shift
    rm -f "$lab/hosts/$host".{pid,plugged,ready}
    setsid unshare --mount --uts --ipc --net --pid --fork --kill-child=KILL --mount-proc bash -c '
        host=$1 address=$2 lab=$3; shift 3
        hostname "$host"
        mount --make-rprivate /
        mount -t tmpfs -o mode=1777,size=1g none /dev/shm
        mount --bind "$lab/hosts.txt" /etc/hosts
        until [ -e "$lab/hosts/$host.plugged" ]; do sleep 0.02; done
        ip link set lo up; ip link set eth0 up; ip addr add "$address/24" dev eth0
        touch "$lab/hosts/$host.ready"
        "$@" &
        wait; sleep infinity & wait' host "$host" "$(address "$host")" "$lab" "$@" </dev/null >>"$lab/log/$host.out" 2>&1 &
    local outer=$!
    until_true 10 pgrep -P $outer
    pgrep -P $outer >"$lab/hosts/$host.pid"
    ip link del "$(cable "$host")" 2>/dev/null || true
    ip link add "$(cable "$host")" type veth peer name eth0 netns "$(init_of "$host")"
    ip link set "$(cable "$host")" master "$bridge" up
    touch "$lab/hosts/$host.plugged"
    until_true 10 test -e "$lab/hosts/$host.ready"
}

host_down() {
    local pid; pid=$(cat "$lab/hosts/$1.pid" 2>/dev/null) || return 0
    kill -KILL "$pid" 2>/dev/null || true
    until_true 10 gone "$pid"
}
# The machine's first process may be slow to bury the dead.
gone() { ! grep -qs '^State:.[^ZX]' "/proc/$1/status"; }

node_up() {
    [ "${KEEP_SOCKETS:-0}" = 1 ] || rm -f "$lab/spool/$1"/stepd.slurm.pmix*
    host_up "$1" slurmd -D -N "$1" -f "$SLURM_CONF"
}

PATH=$PATH:/usr/sbin
command=${1:-}
[ -n "$command" ] || usage
shift
case $command in
missing) missing ;;
up)
    need=$(missing)
    [ -z "$need" ] || die "cannot make a cluster here: missing $need"
    [ ! -e "$lab/settings" ] || die "there is one in $lab already; \`down\` ends it"
    write_configuration
    ip link del "$bridge" 2>/dev/null || true
    ip link add "$bridge" type bridge
    ip link set "$bridge" up
    runuser -u munge -- munged --key-file="$lab/munge/key" --socket="$lab/munge/socket" --pid-file="$lab/munge/pid" \
        --log-file="$lab/munge/log" --seed-file="$lab/munge/seed"
    host_up login sleep infinity
    [ "$accounts" = 0 ] || database_up
    on login setsid slurmctld -f "$SLURM_CONF" </dev/null >>"$lab/log/login.out" 2>&1
    for i in $(seq "$nodes"); do node_up "n$i"; done
    all_idle() { [ "$(on login sinfo --noheader --Node --states=idle --partition=main | wc -l)" -eq "$nodes" ]; }
    until_true 60 all_idle
    echo "$nodes hosts are up in $lab; try: cargo xtask slurm-lab exec login sinfo"
    ;;
down)
    [ -e "$lab/settings" ] || { echo "no cluster in $lab"; exit 0; }
    for host in $(seq -f n%g "$nodes") login; do
        host_down "$host"
        ip link del "$(cable "$host")" 2>/dev/null || true
    done
    ip link del "$bridge" 2>/dev/null || true
    kill "$(cat "$lab/munge/pid")" 2>/dev/null || true
    rm -rf "$lab"
    ;;
exec) is_host "${1:?a host}"; on "$@" ;;
kill) is_host "${1:?a host}"; host_down "$1" ;;
start) is_host "${1:?a host}"; node_up "$1" ;;
cut) is_host "${1:?a host}"; ip link set "$(cable "$1")" down ;;
join) is_host "${1:?a host}"; ip link set "$(cable "$1")" up ;;
*) usage ;;
esac
