/* Beneath a real server, by LD_PRELOAD:
 *
 * TRACE_FILE and TRACE_FOLDER: every write, truncation, sync, creation and removal of files in the folder is appended to the
 * trace, in one order for all processes. A write is noted before it is made, a sync when it begins and when it has succeeded.
 * The -shm file is left out: it is mapped memory, and SQLite makes it anew after a crash.
 * KILL_AT: the process is killed, as by kill -9, once it has noted so many of these: before it makes what it has noted.
 *
 * CLOCK_FILE: eight bytes, the seconds by which the clock of the day is wrong; the monotonic clock stays right.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE, SYNC_BEGINS, SYNC_ENDS, CREATE, UNLINK, RENAME };

struct head {
    uint32_t length, operation;
    uint64_t inode, place; /* the folder's inode is 0; place is an offset, a size, or which sync it is */
};

static int trace = -1;
static long kill_at;
static const char *folder;
static size_t folder_length;
static const int64_t *clock_error;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("TRACE_FILE"), *clock_file = getenv("CLOCK_FILE");
    folder = getenv("TRACE_FOLDER");
    if (getenv("KILL_AT")) kill_at = atol(getenv("KILL_AT"));
    if (file && folder) {
        folder_length = strlen(folder);
        trace = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (trace < 0) abort();
    }
    if (clock_file) {
        int clock = syscall(SYS_openat, AT_FDCWD, clock_file, O_RDONLY | O_CLOEXEC, 0);
        void *mapped = mmap(NULL, sizeof *clock_error, PROT_READ, MAP_SHARED, clock, 0);
        if (mapped == MAP_FAILED) abort();
        clock_error = mapped;
    }
}

static void note(int operation, uint64_t inode, uint64_t place, const void *bytes, size_t length)
{
    static long noted;
    int saved = errno;
    struct head head = {length, operation, inode, place};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)bytes, length}};
    if (syscall(SYS_writev, trace, parts, 2) != (long)(sizeof head + length)) abort();
    if (__atomic_add_fetch(&noted, 1, __ATOMIC_RELAXED) == kill_at) kill(getpid(), SIGKILL);
    errno = saved;
}

/* Its name within the folder, or NULL for what is not traced; a relative path is none of SQLite's. */
static const char *name_of(const char *path)
{
    if (trace < 0 || strncmp(path, folder, folder_length) || path[folder_length] != '/' || strstr(path, "-shm")) return NULL;
    return path + folder_length + 1;
}

static int is_traced(int fd, uint64_t *inode)
{
    char link[64], path[PATH_MAX];
    struct stat found;
    int saved = errno, is_ours = 0;
    if (trace < 0) return 0;
    if (!fstat(fd, &found) && (S_ISREG(found.st_mode) || S_ISDIR(found.st_mode))) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length > 0 ? length : 0] = 0;
        is_ours = S_ISDIR(found.st_mode) ? !strcmp(path, folder) : name_of(path) != NULL;
        *inode = S_ISDIR(found.st_mode) ? 0 : found.st_ino;
    }
    errno = saved;
    return is_ours;
}

static int open_noted(int at, const char *path, int flags, mode_t mode)
{
    const char *name = flags & O_CREAT ? name_of(path) : NULL;
    int is_new = name && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0;
    int fd = syscall(SYS_openat, at, path, flags, mode);
    uint64_t inode;
    if (fd >= 0 && is_new && is_traced(fd, &inode)) note(CREATE, inode, 0, name, strlen(name));
    if (fd >= 0 && name && !is_new && flags & O_TRUNC && is_traced(fd, &inode)) note(TRUNCATE, inode, 0, "", 0);
    return fd;
}

#define MODE_OF(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list arguments; \
        va_start(arguments, last); \
        mode = va_arg(arguments, int); \
        va_end(arguments); \
    }

int open(const char *path, int flags, ...) { MODE_OF(flags, flags) return open_noted(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags, flags) return open_noted(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { MODE_OF(flags, flags) return open_noted(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE_OF(flags, flags) return open_noted(at, path, flags | O_LARGEFILE, mode); }

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset)
{
    REAL(pwrite64);
    uint64_t inode;
    if (is_traced(fd, &inode)) note(WRITE, inode, offset, bytes, length);
    return real(fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

ssize_t write(int fd, const void *bytes, size_t length)
{
    uint64_t inode;
    if (is_traced(fd, &inode)) note(WRITE, inode, lseek(fd, 0, SEEK_CUR), bytes, length);
    return syscall(SYS_write, fd, bytes, length);
}

int ftruncate64(int fd, off64_t size)
{
    REAL(ftruncate64);
    uint64_t inode;
    if (is_traced(fd, &inode)) note(TRUNCATE, inode, size, "", 0);
    return real(fd, size);
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int sync_noted(int fd, int (*real)(int))
{
    static uint32_t count;
    uint64_t inode, which = (uint64_t)getpid() << 32 | __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    int is_ours = is_traced(fd, &inode);
    if (is_ours) note(SYNC_BEGINS, inode, which, "", 0);
    int result = real(fd);
    if (is_ours && result == 0) note(SYNC_ENDS, inode, which, "", 0);
    return result;
}

int fsync(int fd)
{
    REAL(fsync);
    return sync_noted(fd, real);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    return sync_noted(fd, real);
}

int unlink(const char *path)
{
    REAL(unlink);
    const char *name = name_of(path);
    if (name) note(UNLINK, 0, 0, name, strlen(name));
    return real(path);
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    const char *old = name_of(from), *new = name_of(to);
    char both[2 * PATH_MAX];
    if (old && new) note(RENAME, 0, 0, both, snprintf(both, sizeof both, "%s/%s", old, new));
    return real(from, to);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    REAL(clock_gettime);
    int result = real(clock, now);
    if (!result && clock_error && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *clock_error;
    return result;
}

int gettimeofday(struct timeval *now, void *zone)
{
    REAL(gettimeofday);
    int result = real(now, zone);
    if (!result && clock_error) now->tv_sec += *clock_error;
    return result;
}

time_t time(time_t *where)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
