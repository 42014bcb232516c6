/* A disk that dies: preloaded, it counts what a process does to the files of one folder, and acts at the k-th time.

   FAULT_FOLDER  the folder; calls on other files pass.
   FAULT_AT      k, from 1; 0 = only count.
   FAULT_DO      "kill": the process dies before the call. "EIO" or "ENOSPC": the call fails.
   FAULT_STICKY  set: all later calls fail, too.
   FAULT_SYNCED  a folder that holds what is on the disk for certain: a copy of each file as of its last sync.

   They are read when the process starts, and when it calls fault_begin().

   That a file was removed is on the disk for certain with the next sync of any file beside it, as on file systems
   that keep the order of such changes (ext4, xfs, apfs). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

static long calls, at;
static int ready, failing, code;
static const char *folder, *synced;
static char removed[8][NAME_MAX + 1];

__attribute__((constructor)) void fault_begin(void) {
    const char *what = getenv("FAULT_DO");
    folder = getenv("FAULT_FOLDER");
    synced = getenv("FAULT_SYNCED");
    at = getenv("FAULT_AT") ? atol(getenv("FAULT_AT")) : 0;
    code = !what || !strcmp(what, "kill") ? 0 : !strcmp(what, "EIO") ? EIO : ENOSPC;
    ready = folder != NULL;
}

long fault_calls(void) { return calls; }

/* The name of a board's file in the folder, or NULL. The shared memory of readers does not outlive anything. */
static const char *board_file(const char *path) {
    size_t length = folder ? strlen(folder) : 0;
    if (!ready || strncmp(path, folder, length) || path[length] != '/') return NULL;
    const char *name = path + length + 1;
    const char *suffix = strstr(name, ".db");
    if (!suffix || !strcmp(suffix, ".db-shm") || !strcmp(suffix, ".db.lock")) return NULL;
    return name;
}

static const char *board_fd(int fd) {
    static __thread char path[PATH_MAX];
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = ready ? readlink(link, path, sizeof path - 1) : -1;
    if (length <= 0) return NULL;
    path[length] = 0;
    return board_file(path);
}

/* Count a call; whether it is to fail, with errno set. */
static int fault(void) {
    long now = __sync_add_and_fetch(&calls, 1);
    if (now == at && !code) kill(getpid(), SIGKILL);
    if (now == at && code) failing = getenv("FAULT_STICKY") ? 2 : 1;
    if (!failing) return 0;
    if (failing == 1) failing = 0;
    errno = code;
    return 1;
}

static void copy_synced(const char *name) {
    char from[PATH_MAX], to[PATH_MAX], part[1 << 16];
    if (!synced) return;
    snprintf(from, sizeof from, "%s/%s", folder, name);
    snprintf(to, sizeof to, "%s/%s", synced, name);
    ready = 0;
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (ssize_t got; in >= 0 && out >= 0 && (got = read(in, part, sizeof part)) > 0;)
        if (write(out, part, (size_t)got) != got) abort();
    if (in >= 0) close(in);
    if (out >= 0) close(out);
    for (int i = 0; i < 8; i++)
        if (removed[i][0]) {
            snprintf(to, sizeof to, "%s/%s", synced, removed[i]);
            if (strcmp(removed[i], name)) unlink(to);
            removed[i][0] = 0;
        }
    ready = 1;
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (ready && board_fd(fd) && fault()) return -1;
    return real(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    if (ready && board_fd(fd) && fault()) return -1;
    return real(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (ready && board_fd(fd) && fault()) return -1;
    return real(fd, data, size, offset);
}

int ftruncate(int fd, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    if (ready && board_fd(fd) && fault()) return -1;
    return real(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    if (ready && board_fd(fd) && fault()) return -1;
    return real(fd, size);
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    const char *name = ready ? board_fd(fd) : NULL;
    if (name && fault()) return -1;
    int done = real(fd);
    if (name && !done) copy_synced(name);
    return done;
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    const char *name = ready ? board_fd(fd) : NULL;
    if (name && fault()) return -1;
    int done = real(fd);
    if (name && !done) copy_synced(name);
    return done;
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    const char *name = ready ? board_file(path) : NULL;
    if (name && fault()) return -1;
    for (int i = 0; name && i < 8; i++)
        if (!removed[i][0]) {
            snprintf(removed[i], sizeof removed[i], "%s", name);
            break;
        }
    return real(path);
}
