"""What attack tests share: hostile images, and a static program that does inside what no shell can.

    attack call NAME NUMBER ARG...     one system call; prints `NAME ok` or `NAME <errno's name>`
    attack open-exes SECONDS [PATH]    tries to open every /proc/PID/exe for writing, and PATH below /proc/PID/root; prints what it
                                       saw and what it got
    attack swap A B                    exchanges two files for ever
    attack read PATH                   prints its effective group, and the first bytes of the file or the errno's name
    attack fds                         prints the open descriptors and what they lead to
    attack abstract NAME-PART          prints the abstract sockets of this network namespace that have it in their names
    attack agent SOCKET HEX...         sends an ssh-agent each of these messages; prints `NUMBER answered NUMBER`, or the errno's name;
                                       for `-` it announces one of 256 KiB, says `waiting` and does so for ever
"""
from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

from harness import Mydocker
from image_rig import Member, docker_archive, image_config, tar

from mydocker.runtime.plan import program_path

SOURCE = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int call(int argc, char **argv) {
    long words[6] = {0};
    for (int i = 4; i < argc && i < 10; i++)
        words[i - 4] = (long)strtoull(argv[i], NULL, 0);
    long result = syscall(strtol(argv[3], NULL, 0), words[0], words[1], words[2], words[3], words[4], words[5]);
    printf("%s %s\n", argv[2], result < 0 ? strerrorname_np(errno) : "ok");
    return 0;
}

static void remember(char seen[][256], int *count, const char *text) {
    for (int i = 0; i < *count; i++)
        if (!strcmp(seen[i], text))
            return;
    if (*count < 64) {
        snprintf(seen[(*count)++], 256, "%s", text);
        printf("%s\n", text);
        fflush(stdout);
    }
}

static int open_exes(double seconds, const char *canary) {
    static char seen[64][256];
    static int handles[256];
    int count = 0, held = 0;
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        DIR *proc = opendir("/proc");
        for (struct dirent *entry; (entry = readdir(proc));) {
            char path[300], target[256] = {0}, line[300];
            int pid = atoi(entry->d_name);
            if (pid <= 0 || pid == getpid())
                continue;
            snprintf(path, sizeof path, "/proc/%d/root%.200s", pid, canary);
            if (*canary && access(path, F_OK) == 0)
                remember(seen, &count, "REACHED the host");
            snprintf(path, sizeof path, "/proc/%d/exe", pid);
            if (readlink(path, target, sizeof target - 1) <= 0) {
                remember(seen, &count, errno == EACCES || errno == EPERM ? "hidden" : "gone");
                continue;
            }
            if (strstr(target, "busybox") || strstr(target, "attack"))
                continue;
            snprintf(line, sizeof line, "saw %.200s", target);
            remember(seen, &count, line);
            int handle = open(path, O_PATH | O_CLOEXEC);
            if (handle < 0)
                continue;
            // It may have become the command between our look and our handle. That is the container's own file: who holds
            // it open for writing keeps the command from being executed.
            snprintf(path, sizeof path, "/proc/self/fd/%d", handle);
            memset(target, 0, sizeof target);
            if (readlink(path, target, sizeof target - 1) <= 0 || strstr(target, "busybox") || held >= 256)
                close(handle);
            else
                handles[held++] = handle;
        }
        closedir(proc);
        // A running program cannot be opened for writing (ETXTBSY): try again when it may have ended.
        for (int i = 0; i < held; i++) {
            char path[64], target[256] = {0}, line[300];
            snprintf(path, sizeof path, "/proc/self/fd/%d", handles[i]);
            int got = open(path, O_WRONLY | O_CLOEXEC);
            if (got < 0)
                continue;
            readlink(path, target, sizeof target - 1);
            long written = write(got, "", 0) < 0 ? -1 : pwrite(got, "\177", 1, 0);
            snprintf(line, sizeof line, written == 1 && strncmp(target, "/memfd:", 7) == 0 ? "WROTE %.200s" : "OPENED %.200s", target);
            if (written == 1 || strncmp(target, "/memfd:", 7))
                remember(seen, &count, line);
            close(got);
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start.tv_sec + (now.tv_nsec - start.tv_nsec) / 1e9 < seconds);
    printf("done\n");
    return 0;
}

static int list_fds(void) {
    DIR *directory = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[300], target[256] = {0};
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(directory))
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        if (readlink(path, target, sizeof target - 1) > 0)
            printf("%s %s\n", entry->d_name, target);
    }
    return 0;
}

static int swap(const char *one, const char *other) {
    for (;;)
        if (syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2) < 0) /* RENAME_EXCHANGE */
            usleep(100);
}

static int abstract(const char *part) {
    char line[512];
    FILE *file = fopen("/proc/net/unix", "r");
    while (file && fgets(line, sizeof line, file))
        if (strchr(line, '@') && strstr(strchr(line, '@'), part))
            fputs(strchr(line, '@'), stdout);
    return 0;
}

static int read_file(const char *path) {
    char text[64];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text);
    printf("group %d: %.*s\n", getegid(), got < 0 ? 64 : (int)got, got < 0 ? strerrorname_np(errno) : text);
    return 0;
}

static int ask_agent(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, argv[2], sizeof address.sun_path - 1);
    for (int i = 3; i < argc; i++) {
        unsigned char message[4096] = {0};
        int length = (int)strlen(argv[i]) / 2, sock = socket(AF_UNIX, SOCK_STREAM, 0);
        message[2] = (unsigned char)(length >> 8), message[3] = (unsigned char)length;
        for (int at = 0; at < length && at < 4092; at++)
            sscanf(argv[i] + 2 * at, "%2hhx", message + 4 + at);
        int number = message[4], got = -1;
        if (*argv[i] == '-' && !connect(sock, (struct sockaddr *)&address, sizeof address) && write(sock, "\0\4\0\0\13", 5) == 5) {
            puts("waiting");
            fflush(stdout);
            for (;;)
                pause();
        }
        if (!connect(sock, (struct sockaddr *)&address, sizeof address) && write(sock, message, (size_t)length + 4) > 0)
            got = (int)recv(sock, message, 5, MSG_WAITALL);
        if (got == 5)
            printf("%d answered %d\n", number, message[4]);
        else
            printf("%d: %s\n", number, got < 0 ? strerrorname_np(errno) : "nothing");
        close(sock);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 3 && !strcmp(argv[1], "agent"))
        return ask_agent(argc, argv);
    if (argc > 3 && !strcmp(argv[1], "call"))
        return call(argc, argv);
    if (argc > 2 && !strcmp(argv[1], "open-exes"))
        return open_exes(atof(argv[2]), argc > 3 ? argv[3] : "");
    if (argc > 2 && !strcmp(argv[1], "read"))
        return read_file(argv[2]);
    if (argc > 1 && !strcmp(argv[1], "fds"))
        return list_fds();
    if (argc > 3 && !strcmp(argv[1], "swap"))
        return swap(argv[2], argv[3]);
    if (argc > 2 && !strcmp(argv[1], "abstract"))
        return abstract(argv[2]);
    return 2;
}
"""


def build_attack(directory: str) -> str:
    """Compile the program and return its path."""
    path = f"{directory}/attack"
    subprocess.run(
        ["gcc", "-x", "c", "-O1", "-static", "-Wall", "-Wno-unused-result", "-o", path, "-"], input=SOURCE.encode(), check=True)
    return path


def load_image(
    mydocker: Mydocker, busybox_tar: str, *members: Member, name: str = "hostile:1", config: dict[str, object] | None = None
) -> str:
    """Make an image: busybox, a layer with these members on top, and the `config` object. Returns its name."""
    with open(busybox_tar, "rb") as stream:
        base = stream.read()
    layers = [base, *([tar(*members)] if members else [])]
    document = image_config(*layers, config={"Cmd": ["sh"], **(config or {})})
    mydocker("load", stdin=docker_archive(*layers, tags=(name,), config=document))
    return name


def spec_of(mydocker: Mydocker, name: str) -> dict[str, object]:
    """Return a container's runtime spec."""
    with open(f"{mydocker.directory_of(name)}/bundle/config.json") as stream:
        spec: dict[str, object] = json.load(stream)
    return spec


def own_programs() -> dict[str, str]:
    """Return the SHA-256 of everything of ours that enters or starts a container: interpreter, last stage, monitor."""
    paths = [os.path.realpath(sys.executable), program_path("mydocker-init"), program_path("mydocker-monitor")]
    sums = {}
    for path in paths:
        with open(path, "rb") as stream:
            sums[path] = hashlib.sha256(stream.read()).hexdigest()
    return sums
