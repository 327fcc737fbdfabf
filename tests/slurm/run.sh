#!/bin/sh
# Runs a command on a SLURM cluster that lives in a temporary folder for as long as the command:
#   tests/slurm/run.sh make -j2 report PROFILE=smoke LAUNCH="srun -n1 -c1"
# Debian and Ubuntu: apt-get install slurm-wlm munge. Needs two cores, root and no systemd.
set -eu
PATH=$PATH:/usr/sbin:/sbin
here=$(dirname "$0")
folder=$(mktemp -d)
chmod 755 "$folder" # munge's clients must reach its socket
mkdir "$folder/state"
daemons=

stop() {
    trap '' INT TERM
    test -z "$daemons" || kill $daemons || true
    wait
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start() { # logs are in the folder, for as long as it exists
    "$@" > "$folder/output.log" 2>&1 &
    daemons="$daemons $!"
}

# Ports by process number, so that two of these clusters can run side by side.
sed "s:@folder@:$folder:; s:@host@:$(hostname -s):; s:@user@:$(id -un):; \
     s:@port@:$((1000 + $$ % 2000)):" "$here/slurm.conf" > "$folder/slurm.conf"
export SLURM_CONF="$folder/slurm.conf"

(umask 077 && head -c 128 /dev/urandom > "$folder/munge.key")
start munged --foreground --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munge.pid" --log-file="$folder/munge.log" --seed-file="$folder/munge.seed"
timeout 10 sh -c "until test -S '$folder/munge.socket'; do sleep 0.1; done"
start slurmctld -D
for core in 0 1; do # to each node a core of its own, as if it were a machine
    start taskset -c $core slurmd -D -N node$core
done
if ! timeout 60 srun --quiet -N2 true; then
    tail -n 30 "$folder"/*.log >&2
    exit 1
fi
"$@"
