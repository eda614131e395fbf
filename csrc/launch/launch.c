// launch.c - the programs `mydocker` and `mydocker-runtime`: find the interpreter that they were installed with, and start it
// as cheaply as they can. Built twice, with the name and the entry of each (MYDOCKER_PROGRAM, MYDOCKER_MODULE).
//
// conmon, containerd's shim and podman's clean-up call a runtime with whatever PATH they have, and with no HOME at all, so
// nothing is looked up in either. pip writes scripts whose first line names the interpreter, and which import `site` and
// `re` before anything of ours: 7 ms of 18 at each call (docs/runtime.md). This program
//
//     reads the first line of `mydocker-python`, which pip wrote next to it, and executes that interpreter with -I -S;
//     a first line that names a shell (pip does so for long paths) means the python3 next to it: a virtual environment.
//
// It finds itself by /proc/self/exe, so symbolic links to it work. No C library: see csrc/init/sys.h.

#include <errno.h>
#include <fcntl.h>

#include "../init/entry.h"
#include "../init/sys.h"

#if !defined(MYDOCKER_PROGRAM)
#define MYDOCKER_PROGRAM "mydocker"
#define MYDOCKER_MODULE "cli.main"
#endif

enum { PATH_BYTES = 4096, EXIT_FAILED = 1 };

// -S leaves out `site`, which would add the packages' directory: it is where the prefix has it, or is left to `site` after all.
// Until there is somebody to take a KeyboardInterrupt, Ctrl-C ends it at once, without a traceback.
// A command makes some 10,000 objects and ends: at the default of 700, the collector looks through them a dozen times in
// vain, for a tenth of the time. What runs for long is still collected, every 20,000.
static const char bootstrap[] =
    "from gc import set_threshold\n"
    "set_threshold(20000, 10, 10)\n"
    "from _signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal\n"
    "is_told = getsignal(SIGINT) is default_int_handler\n"
    "if is_told:\n"
    "    signal(SIGINT, SIG_DFL)\n"
    "import sys\n"
    "from posix import access\n"
    "prefix, version = sys.argv.pop(1), '/python%d.%d/' % sys.version_info[:2]\n"
    "for place in ('/lib%ssite-packages', '/lib%sdist-packages', '/lib64%ssite-packages'):\n"
    "    place = prefix + place % version\n"
    "    if access(place + '/mydocker/__init__.py', 4):\n"
    "        sys.path.append(place)\n"
    "        break\n"
    "else:\n"
    "    import site\n"
    "    site.main()\n"
    "from mydocker." MYDOCKER_MODULE " import entry\n"
    "if is_told:\n"
    "    signal(SIGINT, default_int_handler)\n"
    "entry()\n";

static size_t length(const char *text) {
    size_t count = 0;
    while (text[count])
        count++;
    return count;
}

static void fail(const char *what) {
    const char *const parts[] = {MYDOCKER_PROGRAM ": ", what, "\n"};
    for (int i = 0; i < 3; i++)
        (void)sys(SYS_write, 2, (long)parts[i], (long)length(parts[i]), 0, 0); // nothing is left to say if this fails
    for (;;)
        sys(SYS_exit_group, EXIT_FAILED, 0, 0, 0, 0);
}

// Cuts the last part of a path off; returns what is left, without the slash.
static size_t parent(const char *path, size_t bytes) {
    while (bytes > 0 && path[bytes - 1] != '/')
        bytes--;
    return bytes > 1 ? bytes - 1 : bytes;
}

// Puts directory and name together; the caller's buffer has PATH_BYTES.
static void join(char *path, const char *directory, size_t bytes, const char *name) {
    if (bytes + length(name) + 1 > PATH_BYTES)
        fail("the path of its installation is too long");
    for (size_t i = 0; i < bytes; i++)
        path[i] = directory[i];
    for (size_t i = 0; i <= length(name); i++)
        path[bytes + i] = name[i];
}

static int ends_in_shell(const char *path) {
    size_t bytes = length(path);
    return bytes >= 3 && path[bytes - 3] == '/' && path[bytes - 2] == 's' && path[bytes - 1] == 'h';
}

// Reads the interpreter's path from the first line of a script: 1 when there is one that is no shell.
static int read_interpreter(char *line, const char *script) {
    long fd = sys(SYS_openat, AT_FDCWD, (long)script, O_RDONLY | O_CLOEXEC, 0, 0);
    if (fd < 0)
        return 0;
    long bytes = sys(SYS_read, fd, (long)line, PATH_BYTES - 1, 0, 0);
    (void)sys(SYS_close, fd, 0, 0, 0, 0);
    if (bytes < 3 || line[0] != '#' || line[1] != '!')
        return 0;
    long end = 2;
    while (end < bytes && line[end] != '\n' && line[end] != '\r' && line[end] != ' ')
        end++;
    for (long i = 2; i < end; i++)
        line[i - 2] = line[i];
    line[end - 2] = 0;
    return line[0] == '/' && !ends_in_shell(line);
}

static int launch(int argc, char **argv) {
    static char self[PATH_BYTES], script[PATH_BYTES], interpreter[PATH_BYTES];
    long bytes = sys(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)self, sizeof self - 1, 0);
    if (bytes <= 0)
        fail("read /proc/self/exe: is /proc mounted?");
    size_t bin = parent(self, (size_t)bytes);
    join(script, self, bin, "/mydocker-python");
    if (!read_interpreter(interpreter, script))
        join(interpreter, self, bin, "/python3");
    self[parent(self, bin)] = 0; // .../bin/mydocker -> the prefix, which the bootstrap is told
    char *arguments[argc + 6];
    int count = 0;
    arguments[count++] = interpreter;
    arguments[count++] = "-IS";
    arguments[count++] = "-c";
    arguments[count++] = (char *)bootstrap;
    arguments[count++] = self;
    for (int i = 1; i < argc; i++)
        arguments[count++] = argv[i];
    arguments[count] = NULL;
    (void)sys(SYS_execve, (long)interpreter, (long)arguments, (long)(argv + argc + 1), 0, 0);
    fail("execute the Python interpreter that it was installed with: it is gone, or not for this user");
    return EXIT_FAILED;
}

ENTER_AT(launch)
