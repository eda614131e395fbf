# cgroup2-host.sh - the part that uml-cgroup2 and qemu-cgroup2 have in common;
# cgroup2-guest.sh is what runs inside the guest.  Sourced, needs bash.
#
# The guest's root is an overlay: lower = the host's root file system (hostfs
# or virtiofs), upper = a sparse ext4 image that is thrown away.  So a command
# may change any file without changing the host, except below --workdir and
# --share directories, which are the host's own, read-write.

prog=${0##*/}
tools=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
say() { printf '%s: %s\n' "$prog" "$*" >&2; }
die() { say "$@"; exit 125; }

host_usage() {
    cat <<EOF
usage: $prog [OPTION...] -- COMMAND [ARG...]
Runs COMMAND in a guest whose only cgroup hierarchy is cgroup v2, and exits
with COMMAND's status (124: time ran out; 125: the guest itself failed).
  --user NAME     run COMMAND as this user, in a cgroup delegated to it, with an
                  empty home directory and XDG_RUNTIME_DIR (default: as root)
  --workdir DIR   start there; shared read-write with the host (default: .)
  --share DIR     share another host directory read-write (repeatable)
  --data DIR      an empty directory on ext4, gone afterwards (repeatable);
                  always: /tmp /var/tmp /var/lib/mydocker
  --env NAME[=V]  pass or set a variable (repeatable); always passed:
                  PATH HOME VIRTUAL_ENV LANG LC_ALL TERM TZ
  --timeout S     end the guest after S seconds (default 600)
  --mem SIZE      guest memory (default 2G)    --disk SIZE  ext4 image (16G)
  --cpus N        virtual cpus (only qemu-cgroup2; default 2)
  --lsm NAME      major security module: apparmor (default), selinux or none
  --console FILE  keep the guest's kernel log
COMMAND reads /dev/null; there is no network but loopback.
EOF
}

# host_options "$@": sets the variables below from the command line.
host_options() {
    mem=2G disk_size=16G limit=600 cpus=2 lsm="" console="" workdir=$PWD user="" uid=0 gid=0 home=""
    envs=() shares=() data=(/var/lib/mydocker)
    local n names=(PATH HOME VIRTUAL_ENV LANG LC_ALL TERM TZ)
    while [ $# -gt 0 ]; do
        case $1 in
            --) shift; break ;;
            --help | -h) host_usage; exit 0 ;;
            --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
            --*) [ $# -ge 2 ] || die "$1 needs a value" ;;
            *) break ;;
        esac
        case $1 in
            --mem) mem=$2 ;;            --disk) disk_size=$2 ;;
            --timeout) limit=$2 ;;      --cpus) cpus=$2 ;;
            --user) user=$2 ;;          --workdir) workdir=$2 ;;
            --lsm) lsm=$2 ;;            --console) console=$2 ;;
            --share) shares+=("$2") ;;  --data) data+=("$2") ;;
            --env) names+=("$2") ;;
            *) die "unknown option $1 (see --help)" ;;
        esac
        shift 2
    done
    [ $# -gt 0 ] || { host_usage >&2; exit 125; }; argv=("$@")
    [ "$(id -u)" = 0 ] || die "must be run as root"
    workdir=$(cd "$workdir" && pwd -P) || die "no such directory: $workdir"
    for n in "${!shares[@]}"; do
        shares[n]=$(cd "${shares[n]}" && pwd -P) || die "cannot share it: no such directory"
    done
    [ -z "$console" ] || console=$(realpath -- "$console") || exit 125
    [ "$workdir" = / ] || shares+=("$workdir")
    for n in "${names[@]}"; do # NAME=VALUE as it is, NAME if it is set here
        case $n in
            *=*) envs+=("$n") ;;
            *) [ -z "${!n+set}" ] || envs+=("$n=${!n}") ;;
        esac
    done
    if [ -n "$user" ]; then
        IFS=: read -r _ _ uid gid _ home _ < <(getent passwd "$user") || die "no such user: $user"
        [ "${home:-/}" != / ] || home=/home/$user
        envs+=("HOME=$home" "USER=$user" "LOGNAME=$user" "XDG_RUNTIME_DIR=/run/user/$uid")
    fi
    # A virtual environment that the guest's fresh directories would hide:
    case ${VIRTUAL_ENV-} in
        /tmp/* | /var/tmp/* | /run/* | "${home:-/nonexistent}"/*) shares+=("$VIRTUAL_ENV") ;;
    esac
    split=1; [ ! /dev/fd/1 -ef /dev/fd/2 ] || split= # both go to one place: keep their order
}

# host_need PROGRAM=PACKAGE...: installs the packages of missing programs.
host_need() {
    local pair missing=()
    for pair; do command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}"); done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    local get=(apt-get -qq -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "${missing[@]}")
    { DEBIAN_FRONTEND=noninteractive "${get[@]}" ||
        { apt-get -qq update && DEBIAN_FRONTEND=noninteractive "${get[@]}"; }; } >&2 </dev/null ||
        die "could not install ${missing[*]}"
}

# host_prepare MODULE-DIR BLOCK-DEVICE: the scratch directory with the disk
# image, the guest's first program and what that program has to know.
host_prepare() {
    local d new base=${TMPDIR:-/var/tmp}/$prog
    umask 022
    for d in "$base".*/lock; do # what a run that was killed left behind
        [ ! -e "$d" ] || ! flock -n "$d" true || rm -rf "${d%/lock}"
    done
    scratch=$(mktemp -d "$base.XXXXXX") || exit 125
    trap 'rm -rf "$scratch"' EXIT
    exec 8>"$scratch/new" && flock 8 && mv "$scratch/new" "$scratch/lock" || exit 125
    case $scratch in *[!A-Za-z0-9_./+-]*) die "odd characters in TMPDIR" ;; esac
    cd "$scratch" || exit 125
    mkdir -p old dev mnt/disk mnt/root kmod/lib stage/root stage/work
    ln -s "$1" kmod/lib/modules
    ln -s /proc/self/fd dev/fd && ln -s fd/0 dev/stdin && ln -s fd/1 dev/stdout && ln -s fd/2 dev/stderr
    [ -z "$user" ] || data+=("$home")
    for d in /tmp /var/tmp "${data[@]}"; do mkdir -p "stage/fresh$d"; done
    chmod 1777 stage/fresh/tmp stage/fresh/var/tmp
    [ -z "$user" ] || { chmod 700 "stage/fresh$home" && chown "$uid:$gid" "stage/fresh$home"; }
    truncate -s "$disk_size" disk &&
        mkfs.ext4 -q -F -m 0 -O ^has_journal -E nodiscard,lazy_itable_init=1 -d stage disk ||
        die "could not make the disk image"
    new=$scratch/mnt/root
    {
        cat <<EOF
$2 $scratch/mnt/disk ext4 noatime
overlay $new overlay lowerdir=/,upperdir=$scratch/mnt/disk/root,workdir=$scratch/mnt/disk/work
proc $new/proc proc nosuid,nodev,noexec
sysfs $new/sys sysfs nosuid,nodev,noexec
devtmpfs $new/dev devtmpfs nosuid
devpts $new/dev/pts devpts nosuid,noexec,gid=5,mode=620,ptmxmode=666,X-mount.mkdir
tmpfs $new/dev/shm tmpfs nosuid,nodev,mode=1777,X-mount.mkdir
mqueue $new/dev/mqueue mqueue nosuid,nodev,noexec,X-mount.mkdir
tmpfs $new/run tmpfs nosuid,nodev,mode=755
cgroup2 $new/sys/fs/cgroup cgroup2 nosuid,nodev,noexec,nsdelegate,memory_recursiveprot
securityfs $new/sys/kernel/security securityfs nosuid,nodev,noexec
bpf $new/sys/fs/bpf bpf nosuid,nodev,noexec,mode=700
$scratch/kmod/lib/modules $new/lib/modules none bind,X-mount.mkdir
$scratch $new/run/guest none bind,X-mount.mkdir
EOF
        for d in /tmp /var/tmp "${data[@]}"; do host_bind "$scratch/mnt/disk/fresh$d" "$new$d"; done
        for d in "${shares[@]}"; do host_bind "$d" "$new$d"; done
        [ -z "$user" ] ||
            echo "tmpfs $new/run/user/$uid tmpfs nosuid,nodev,mode=700,uid=$uid,gid=$gid,X-mount.mkdir"
    } >fstab
    ulimit -n 1000000 2>/dev/null || ulimit -n "$(ulimit -Hn)"
    files=$(ulimit -n)
    declare -p argv envs workdir user uid gid split files >conf
    cp -- "$tools/cgroup2-guest.sh" guest.sh
    printf '#!/bin/bash\n. %s/guest.sh\nguest_main %s\n' "$scratch" "$scratch" >init
    chmod 755 init && touch out err
}
host_bind() { echo "${1// /\\040} ${2// /\\040} none bind,X-mount.mkdir"; }

# host_run PROGRAM...: runs the virtual machine in a pid namespace that ends
# with it, passes on the output while it grows, and exits as COMMAND did.
host_run() {
    local rc vm n tails=() status interrupted=
    printf '#!/bin/bash\nread -r pid _ </proc/self/stat\necho "$pid" >pid\n' >boot # seen from outside
    printf '%q ' exec timeout -s KILL "$limit" "$@" >>boot
    setpriv --pdeathsig KILL unshare --pid --fork --kill-child bash boot </dev/null >console 2>&1 &
    vm=$!
    trap 'interrupted=1; read -r n <pid || n=$vm; kill -KILL "$n"' INT TERM HUP
    tail -c +1 -f -s 0.1 --pid="$vm" out & tails+=($!)
    tail -c +1 -f -s 0.1 --pid="$vm" err >&2 & tails+=($!)
    { wait "$vm"; rc=$?; [ -z "$interrupted" ] || wait "$vm"; } 2>/dev/null
    trap - INT TERM HUP
    wait "${tails[@]}"
    [ -z "$console" ] || cat console >"$console"
    if read -r status 2>/dev/null <status; then exit "$status"; fi
    [ -z "$interrupted" ] || exit 130
    case $rc in 124 | 137) say "timed out after $limit s"; exit 124 ;; esac
    say "the guest ended early; the end of its log:"
    tail -n 25 console >&2; exit 125
}
