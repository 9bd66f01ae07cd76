/* What stands before libc in a worker: it logs every change to the files of one folder, in one
   order across processes, and lets a chosen call fail.

   It is loaded by LD_PRELOAD and finds its orders in a file that all processes of a run map (struct
   control; fault_control.py writes it, and its layout is said in both places). Without
   that file it does nothing. It calls libc's own functions for the rest, and appends each record to
   the log by one call, so that records of two processes never mix.

   A record of a write is appended after the write has returned, and a sync has two, one before it
   and one after. So what the log has before the first of the two was written before the sync began,
   and the sync covers it; a write that is logged between the two may be covered or not, and is
   taken for not covered. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MAGIC 0x63776b31u  /* "cwk1" */
#define MOST_RULES 16
#define MOST_HITS 256
#define MOST_FDS 65536

enum call { OPEN = 1, WRITE, SYNC, TRUNCATE, RENAME, UNLINK, CLOSE, NOTE, MAPPED };
enum action { FAIL = 1, SHORT, TORN, KILL_BEFORE, KILL_AFTER, STOP, SLOW, LIE };
enum flag { BEGUN = 1, CREATED = 2, INJECTED = 4, LIED = 8 };

struct rule {
  uint32_t call, action, argument, worker; /* worker : 0 any, else its number plus 1 */
  uint64_t first, last;                    /* which matching calls, counted from 1 */
  _Atomic uint64_t matched, fired;
  char file[64];                           /* pattern of fnmatch for the file's name */
};

/* A moment at which a rule fired: which rule, whose call, when on the monotonic clock. */
struct hit { int64_t at_ns; uint32_t rule, worker, pid, padding; };

struct control {
  uint32_t magic, rules;
  _Atomic uint32_t armed;    /* rules count and fire only while it is 1 */
  _Atomic uint32_t logging;  /* records are appended only while it is 1 */
  _Atomic uint64_t sequence; /* of the last record */
  _Atomic uint64_t lost;     /* records that could not be appended */
  _Atomic uint64_t hits;     /* that there were; the first MOST_HITS of them are in hit */
  _Atomic int64_t clock_s;   /* by how much the time of day is another one, seconds */
  char folder[PATH_MAX], log[PATH_MAX];
  char prefix[64];           /* of the names that are watched */
  struct rule rule[MOST_RULES];
  struct hit hit[MOST_HITS];
};

struct record {
  uint32_t magic, length;
  uint64_t sequence;
  int64_t at_ns;
  uint32_t pid, worker;
  uint16_t call, flags;
  int32_t error;
  uint64_t file;
  int64_t offset, result;
  uint32_t name, data; /* lengths of what follows */
};

static struct control *control;
static uint32_t worker;
static int log_fd = -1;
static size_t folder_length;

/* Per descriptor: the file's number (its inode), 0 where it is not watched, and its name. */
struct open_file { _Atomic uint64_t file; char *name; };
static struct open_file *files;

#define REAL(name) real_##name
#define DECLARE(type, name, ...) static type (*real_##name)(__VA_ARGS__)
DECLARE(int, open, const char *, int, ...);
DECLARE(int, openat, int, const char *, int, ...);
DECLARE(int, close, int);
DECLARE(int, dup, int);
DECLARE(int, dup2, int, int);
DECLARE(int, dup3, int, int, int);
DECLARE(int, fcntl, int, int, ...);
DECLARE(ssize_t, write, int, const void *, size_t);
DECLARE(ssize_t, writev, int, const struct iovec *, int);
DECLARE(ssize_t, pwrite, int, const void *, size_t, off_t);
DECLARE(ssize_t, pwritev, int, const struct iovec *, int, off_t);
DECLARE(ssize_t, pwritev2, int, const struct iovec *, int, off_t, int);
DECLARE(int, fsync, int);
DECLARE(int, fdatasync, int);
DECLARE(int, ftruncate, int, off_t);
DECLARE(int, truncate, const char *, off_t);
DECLARE(int, fallocate, int, int, off_t, off_t);
DECLARE(int, posix_fallocate, int, off_t, off_t);
DECLARE(int, rename, const char *, const char *);
DECLARE(int, renameat, int, const char *, int, const char *);
DECLARE(int, unlink, const char *);
DECLARE(int, unlinkat, int, const char *, int);
DECLARE(void *, mmap, void *, size_t, int, int, int, off_t);
DECLARE(int, clock_gettime, clockid_t, struct timespec *);
DECLARE(int, gettimeofday, struct timeval *, void *);
DECLARE(time_t, time, time_t *);

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find_libc(void) {
#define FIND(name) *(void **)&real_##name = dlsym(RTLD_NEXT, #name)
  FIND(open); FIND(openat); FIND(close); FIND(dup); FIND(dup2); FIND(dup3); FIND(fcntl);
  FIND(write); FIND(writev); FIND(pwrite); FIND(pwritev); FIND(pwritev2); FIND(fsync); FIND(fdatasync);
  FIND(ftruncate); FIND(truncate); FIND(fallocate); FIND(posix_fallocate); FIND(rename);
  FIND(renameat); FIND(unlink); FIND(unlinkat); FIND(mmap);
  FIND(clock_gettime); FIND(gettimeofday); FIND(time);
}

static int64_t now_ns(void) {
  struct timespec t;
  real_clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

__attribute__((constructor)) static void begin(void) {
  pthread_once(&once, find_libc);
  const char *path = getenv("CWKIT_FAULTS");
  if (path == NULL) return;
  int fd = real_open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *map = real_mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  struct stat st;
  int whole = fstat(fd, &st) == 0 && (size_t)st.st_size == sizeof(struct control);
  real_close(fd);
  if (map == MAP_FAILED || !whole) return;
  struct control *found = map;
  files = calloc(MOST_FDS, sizeof *files);
  if (found->magic != MAGIC || files == NULL) return;
  const char *number = getenv("CWKIT_FAULTS_WORKER");
  worker = number == NULL ? 0 : (uint32_t)atoi(number) + 1;
  folder_length = strnlen(found->folder, PATH_MAX);
  fd = real_open(found->log, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd >= 0) {
    /* High up, where nobody who closes what he did not open comes by. */
    log_fd = real_fcntl(fd, F_DUPFD_CLOEXEC, 900);
    if (log_fd < 0) log_fd = fd; else real_close(fd);
  }
  control = found;
}

/* -- the log ----------------------------------------------------------------------------------- */

static void append(enum call call, int flags, uint64_t file, const char *name, int64_t offset,
                   int64_t result, int error, const struct iovec *data, int pieces, size_t bytes) {
  if (log_fd < 0 || !atomic_load(&control->logging)) return;
  int kept = errno;
  struct record r = {.magic = MAGIC, .at_ns = now_ns(), .pid = (uint32_t)getpid(),
                     .worker = worker, .call = (uint16_t)call, .flags = (uint16_t)flags,
                     .error = error, .file = file, .offset = offset, .result = result};
  struct iovec out[IOV_MAX > 64 ? 64 : IOV_MAX];
  r.name = name == NULL ? 0 : (uint32_t)strlen(name);
  out[0] = (struct iovec){&r, sizeof r};
  out[1] = (struct iovec){(void *)(name == NULL ? "" : name), r.name};
  int many = 2;
  size_t left = bytes;
  for (int at = 0; at < pieces && left > 0 && many < 64; at++) {
    size_t length = data[at].iov_len < left ? data[at].iov_len : left;
    out[many++] = (struct iovec){data[at].iov_base, length};
    left -= length;
  }
  r.data = (uint32_t)(bytes - left);
  r.length = (uint32_t)(sizeof r + r.name + r.data);
  r.sequence = atomic_fetch_add(&control->sequence, 1) + 1;
  if (left > 0 || syscall(SYS_writev, log_fd, out, many) != (ssize_t)r.length)
    atomic_fetch_add(&control->lost, 1);
  errno = kept;
}

static const char *base(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash == NULL ? path : slash + 1;
}

/* Shared memory is no file that a crash leaves: SQLite makes it anew. */
static int is_shared_memory(const char *name) {
  size_t length = strlen(name);
  return length > 4 && strcmp(name + length - 4, "-shm") == 0;
}

/* The name below the watched folder of a path that the kernel made, NULL of any other. */
static const char *watched(const char *real) {
  if (strncmp(real, control->folder, folder_length) != 0) return NULL;
  if (real[folder_length] == 0) return ".";
  if (real[folder_length] != '/') return NULL;
  const char *name = real + folder_length + 1;
  if (strncmp(name, control->prefix, strnlen(control->prefix, sizeof control->prefix)) != 0)
    return NULL;
  return is_shared_memory(name) ? NULL : name;
}

/* The same of a path as it was given: its folder is resolved, its last part is not. */
static const char *watched_path(int at, const char *path, char *out) {
  char given[PATH_MAX];
  if (path[0] == '/' || at == AT_FDCWD) {
    if (snprintf(given, sizeof given, "%s", path) >= (int)sizeof given) return NULL;
  } else {
    char link[64], folder[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t length = readlink(link, folder, sizeof folder - 1);
    if (length < 0) return NULL;
    folder[length] = 0;
    if (snprintf(given, sizeof given, "%s/%s", folder, path) >= (int)sizeof given) return NULL;
  }
  char *slash = strrchr(given, '/');
  const char *last = slash == NULL ? given : slash + 1;
  char folder[PATH_MAX], name[NAME_MAX + 1];
  if (snprintf(name, sizeof name, "%s", last) >= (int)sizeof name) return NULL;
  if (slash == NULL) strcpy(given, "."); else if (slash == given) given[1] = 0; else *slash = 0;
  if (realpath(given, folder) == NULL) return NULL;
  if (snprintf(out, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX) return NULL;
  return watched(out);
}

static void remember(int fd, uint64_t file, const char *name) {
  if (fd < 0 || fd >= MOST_FDS) return;
  free(files[fd].name);
  files[fd].name = name == NULL ? NULL : strdup(name);
  atomic_store(&files[fd].file, files[fd].name == NULL ? 0 : file);
}

static uint64_t file_of(int fd) {
  return control == NULL || fd < 0 || fd >= MOST_FDS ? 0 : atomic_load(&files[fd].file);
}

/* -- faults ------------------------------------------------------------------------------------ */

static void end_here(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/* Stopped as by SIGSTOP, all threads, until the kernel's timer has it go on. */
static void stop_for(uint32_t ms) {
  struct sigevent how = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT};
  /* Again and again: on a busy machine the first may come before the stop does. */
  struct itimerspec when = {.it_value = {ms / 1000, (long)(ms % 1000) * 1000000L + 1},
                            .it_interval = {0, 20000000}};
  timer_t timer;
  if (timer_create(CLOCK_MONOTONIC, &how, &timer) != 0) return;
  /* To this thread: another one might take it after the timer is gone, and nobody went on then. */
  if (timer_settime(timer, 0, &when, NULL) == 0) raise(SIGSTOP);
  timer_delete(timer);
}

/* The rule that this call meets, NULL where there is none. Rules are counted across processes. */
static struct rule *met(enum call call, const char *name) {
  if (control->rules == 0 || !atomic_load(&control->armed)) return NULL;
  struct rule *found = NULL;
  for (uint32_t at = 0; at < control->rules && at < MOST_RULES; at++) {
    struct rule *one = &control->rule[at];
    if (one->call != (uint32_t)call || (one->worker && one->worker != worker)) continue;
    if (fnmatch(one->file, base(name), 0) != 0) continue;
    uint64_t number = atomic_fetch_add(&one->matched, 1) + 1;
    if (number < one->first || number > one->last || found != NULL) continue;
    uint64_t hit = atomic_fetch_add(&control->hits, 1);
    if (hit < MOST_HITS)
      control->hit[hit] = (struct hit){now_ns(), at, worker, (uint32_t)getpid(), 0};
    atomic_fetch_add(&one->fired, 1);
    found = one;
  }
  if (found == NULL) return NULL;
  switch (found->action) {
    case KILL_BEFORE:
      append(call, INJECTED, 0, name, 0, -1, 0, NULL, 0, 0);
      end_here();
      break;
    case STOP: stop_for(found->argument); return NULL;
    case SLOW: {
      struct timespec time = {found->argument / 1000, (long)(found->argument % 1000) * 1000000L};
      while (nanosleep(&time, &time) != 0 && errno == EINTR) {}
      return NULL;
    }
    default: break;
  }
  return found;
}

static void after(struct rule *rule) {
  if (rule != NULL && rule->action == KILL_AFTER) end_here();
}

/* -- calls that change names ------------------------------------------------------------------- */

static void opened(int fd, const char *path, int flags, int existed) {
  char link[64], real[PATH_MAX];
  (void)path;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, real, sizeof real - 1);
  if (length < 0) return;
  real[length] = 0;
  const char *name = watched(real);
  struct stat st;
  if (name == NULL || fstat(fd, &st) != 0) { remember(fd, 0, NULL); return; }
  remember(fd, st.st_ino, name);
  int created = (flags & O_CREAT) && !existed;
  if (created || (flags & O_TRUNC))
    append(OPEN, created ? CREATED : 0, st.st_ino, name, 0, 0, 0, NULL, 0, 0);
}

static int open_at(int at, const char *path, int flags, mode_t mode) {
  pthread_once(&once, find_libc);
  if (control == NULL) return real_openat(at, path, flags, mode);
  struct rule *rule = NULL;
  int existed = 1;
  if (flags & (O_WRONLY | O_RDWR | O_CREAT)) {
    char place[PATH_MAX];
    const char *name = watched_path(at, path, place);
    struct stat st;
    if (name != NULL) {
      rule = met(OPEN, name);
      if (rule != NULL && rule->action == FAIL) {
        append(OPEN, INJECTED, 0, name, 0, -1, (int)rule->argument, NULL, 0, 0);
        errno = (int)rule->argument;
        return -1;
      }
      if (flags & O_CREAT) existed = lstat(place, &st) == 0;
    }
  }
  int fd = real_openat(at, path, flags, mode);
  if (fd >= 0) opened(fd, path, flags, existed);
  after(rule);
  return fd;
}

static mode_t mode_of(int flags, va_list more) {
  return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(more, int) : 0;
}

#define OPENS(name, extra, at)                                \
  EXPORT int name(extra const char *path, int flags, ...) {   \
    va_list more;                                             \
    va_start(more, flags);                                    \
    mode_t mode = mode_of(flags, more);                       \
    va_end(more);                                             \
    return open_at(at, path, flags, mode);                    \
  }
#define NOTHING
#define AT int dirfd,
OPENS(open, NOTHING, AT_FDCWD)
OPENS(open64, NOTHING, AT_FDCWD)
OPENS(openat, AT, dirfd)
OPENS(openat64, AT, dirfd)

EXPORT int creat(const char *path, mode_t mode) {
  return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
EXPORT int creat64(const char *path, mode_t mode) { return creat(path, mode); }

EXPORT int close(int fd) {
  pthread_once(&once, find_libc);
  if (file_of(fd)) remember(fd, 0, NULL); /* before: another thread may get the number at once */
  return real_close(fd);
}

static int copied(int from, int to) {
  if (control != NULL && to >= 0 && to != from) {
    uint64_t file = file_of(from);
    if (file || file_of(to)) remember(to, file, file ? files[from].name : NULL);
  }
  return to;
}

EXPORT int dup(int fd) { pthread_once(&once, find_libc); return copied(fd, real_dup(fd)); }
EXPORT int dup2(int fd, int to) {
  pthread_once(&once, find_libc);
  return copied(fd, real_dup2(fd, to));
}
EXPORT int dup3(int fd, int to, int flags) {
  pthread_once(&once, find_libc);
  return copied(fd, real_dup3(fd, to, flags));
}

#define FCNTLS(name)                                                                  \
  EXPORT int name(int fd, int command, ...) {                                         \
    pthread_once(&once, find_libc);                                                   \
    va_list more;                                                                     \
    va_start(more, command);                                                          \
    void *argument = va_arg(more, void *);                                            \
    va_end(more);                                                                     \
    int got = real_fcntl(fd, command, argument);                                      \
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, got) : got;  \
  }
FCNTLS(fcntl)
FCNTLS(fcntl64)

static int renamed(int from_at, const char *from, int to_at, const char *to) {
  pthread_once(&once, find_libc);
  if (control == NULL) return real_renameat(from_at, from, to_at, to);
  char one[PATH_MAX], two[PATH_MAX], both[2 * PATH_MAX];
  const char *old = watched_path(from_at, from, one), *new = watched_path(to_at, to, two);
  if (old == NULL && new == NULL) return real_renameat(from_at, from, to_at, to);
  snprintf(both, sizeof both, "%s\n%s", old == NULL ? "" : old, new == NULL ? "" : new);
  struct rule *rule = met(RENAME, old == NULL ? new : old);
  struct stat st;
  uint64_t file = lstat(one, &st) == 0 ? st.st_ino : 0;
  int injected = rule != NULL && rule->action == FAIL;
  int got = injected ? -1 : real_renameat(from_at, from, to_at, to);
  int error = injected ? (int)rule->argument : got < 0 ? errno : 0;
  append(RENAME, injected ? INJECTED : 0, file, both, 0, got, error, NULL, 0, 0);
  after(rule);
  if (got < 0) errno = error;
  return got;
}

EXPORT int rename(const char *from, const char *to) {
  return renamed(AT_FDCWD, from, AT_FDCWD, to);
}
EXPORT int renameat(int from_at, const char *from, int to_at, const char *to) {
  return renamed(from_at, from, to_at, to);
}

static int unlinked(int at, const char *path, int flags) {
  pthread_once(&once, find_libc);
  if (control == NULL) return real_unlinkat(at, path, flags);
  char place[PATH_MAX];
  const char *name = watched_path(at, path, place);
  if (name == NULL) return real_unlinkat(at, path, flags);
  struct rule *rule = met(UNLINK, name);
  struct stat st;
  uint64_t file = lstat(place, &st) == 0 ? st.st_ino : 0;
  int injected = rule != NULL && rule->action == FAIL;
  int got = injected ? -1 : real_unlinkat(at, path, flags);
  int error = injected ? (int)rule->argument : got < 0 ? errno : 0;
  append(UNLINK, injected ? INJECTED : 0, file, name, 0, got, error, NULL, 0, 0);
  after(rule);
  if (got < 0) errno = error;
  return got;
}

EXPORT int unlink(const char *path) { return unlinked(AT_FDCWD, path, 0); }
EXPORT int unlinkat(int at, const char *path, int flags) { return unlinked(at, path, flags); }

/* -- calls that change contents ---------------------------------------------------------------- */

static size_t length_of(const struct iovec *data, int pieces) {
  size_t all = 0;
  for (int at = 0; at < pieces; at++) all += data[at].iov_len;
  return all;
}

/* Write a part only, and log it. */
static ssize_t cut(int fd, uint64_t file, const struct iovec *data, int pieces, off_t offset,
                   size_t bytes) {
  size_t done = 0;
  for (int at = 0; at < pieces && done < bytes; at++) {
    size_t length = data[at].iov_len < bytes - done ? data[at].iov_len : bytes - done;
    ssize_t got = real_pwrite(fd, data[at].iov_base, length, offset + (off_t)done);
    if (got <= 0) break;
    done += (size_t)got;
  }
  append(WRITE, INJECTED, file, files[fd].name, offset, (ssize_t)done, 0, data, pieces, done);
  return (ssize_t)done;
}

/* position : -1 of a write at the descriptor's own place, which is then moved. */
static ssize_t written(int fd, const struct iovec *data, int pieces, off_t position, int simple) {
  uint64_t file = file_of(fd);
  int moves = position < 0;
  if (!file) {
    if (simple) return moves ? real_write(fd, data->iov_base, data->iov_len)
                             : real_pwrite(fd, data->iov_base, data->iov_len, position);
    return moves ? real_writev(fd, data, pieces) : real_pwritev(fd, data, pieces, position);
  }
  off_t offset = position;
  if (moves) {
    struct stat st;
    int flags = real_fcntl(fd, F_GETFL);
    offset = flags & O_APPEND ? (fstat(fd, &st) == 0 ? st.st_size : 0) : lseek(fd, 0, SEEK_CUR);
  }
  struct rule *rule = met(WRITE, files[fd].name);
  size_t all = length_of(data, pieces);
  if (rule != NULL && rule->action == FAIL) {
    append(WRITE, INJECTED, file, files[fd].name, offset, -1, (int)rule->argument, NULL, 0, 0);
    errno = (int)rule->argument;
    return -1;
  }
  if (rule != NULL && (rule->action == SHORT || rule->action == TORN)) {
    size_t part = rule->argument < all ? rule->argument : all / 2;
    ssize_t done = cut(fd, file, data, pieces, offset, part);
    if (rule->action == TORN) end_here();
    if (moves) lseek(fd, offset + done, SEEK_SET);
    return done;
  }
  ssize_t got = simple ? (moves ? real_write(fd, data->iov_base, data->iov_len)
                                : real_pwrite(fd, data->iov_base, data->iov_len, position))
                       : (moves ? real_writev(fd, data, pieces)
                                : real_pwritev(fd, data, pieces, position));
  append(WRITE, 0, file, files[fd].name, offset, got, got < 0 ? errno : 0, data, pieces,
         got > 0 ? (size_t)got : 0);
  after(rule);
  return got;
}

EXPORT ssize_t write(int fd, const void *data, size_t length) {
  pthread_once(&once, find_libc);
  if (control == NULL) return real_write(fd, data, length);
  struct iovec one = {(void *)data, length};
  return written(fd, &one, 1, -1, 1);
}
EXPORT ssize_t writev(int fd, const struct iovec *data, int pieces) {
  pthread_once(&once, find_libc);
  return control == NULL ? real_writev(fd, data, pieces) : written(fd, data, pieces, -1, 0);
}

#define PWRITES(name)                                                               \
  EXPORT ssize_t name(int fd, const void *data, size_t length, off_t offset) {      \
    pthread_once(&once, find_libc);                                                 \
    if (control == NULL) return real_pwrite(fd, data, length, offset);              \
    struct iovec one = {(void *)data, length};                                      \
    return written(fd, &one, 1, offset, 1);                                         \
  }
PWRITES(pwrite)
PWRITES(pwrite64)

#define PWRITEVS(name)                                                              \
  EXPORT ssize_t name(int fd, const struct iovec *data, int pieces, off_t offset) { \
    pthread_once(&once, find_libc);                                                 \
    if (control == NULL) return real_pwritev(fd, data, pieces, offset);             \
    return written(fd, data, pieces, offset, 0);                                    \
  }
PWRITEVS(pwritev)
PWRITEVS(pwritev64)

/* flags : hints, and syncs that are left to fsync: where the file is watched it is a plain write. */
#define PWRITEV2S(name)                                                                        \
  EXPORT ssize_t name(int fd, const struct iovec *data, int pieces, off_t offset, int flags) { \
    pthread_once(&once, find_libc);                                                            \
    if (!file_of(fd)) return real_pwritev2(fd, data, pieces, offset, flags);                   \
    return written(fd, data, pieces, offset, 0);                                               \
  }
PWRITEV2S(pwritev2)
PWRITEV2S(pwritev64v2)

static int synced(int fd, int (*real)(int)) {
  uint64_t file = file_of(fd);
  if (!file) return real(fd);
  const char *name = files[fd].name;
  struct rule *rule = met(SYNC, name);
  if (rule != NULL && rule->action == FAIL) {
    append(SYNC, INJECTED, file, name, 0, -1, (int)rule->argument, NULL, 0, 0);
    errno = (int)rule->argument;
    return -1;
  }
  if (rule != NULL && rule->action == LIE) {
    append(SYNC, LIED | INJECTED, file, name, 0, 0, 0, NULL, 0, 0);
    return 0;
  }
  append(SYNC, BEGUN, file, name, 0, 0, 0, NULL, 0, 0);
  int got = real(fd);
  append(SYNC, 0, file, name, 0, got, got < 0 ? errno : 0, NULL, 0, 0);
  after(rule);
  return got;
}

EXPORT int fsync(int fd) {
  pthread_once(&once, find_libc);
  return control == NULL ? real_fsync(fd) : synced(fd, real_fsync);
}
EXPORT int fdatasync(int fd) {
  pthread_once(&once, find_libc);
  return control == NULL ? real_fdatasync(fd) : synced(fd, real_fdatasync);
}

static int resized(int fd, off_t length) {
  uint64_t file = file_of(fd);
  if (!file) return real_ftruncate(fd, length);
  const char *name = files[fd].name;
  struct rule *rule = met(TRUNCATE, name);
  if (rule != NULL && rule->action == FAIL) {
    append(TRUNCATE, INJECTED, file, name, length, -1, (int)rule->argument, NULL, 0, 0);
    errno = (int)rule->argument;
    return -1;
  }
  int got = real_ftruncate(fd, length);
  append(TRUNCATE, 0, file, name, length, got, got < 0 ? errno : 0, NULL, 0, 0);
  after(rule);
  return got;
}

EXPORT int ftruncate(int fd, off_t length) {
  pthread_once(&once, find_libc);
  return control == NULL ? real_ftruncate(fd, length) : resized(fd, length);
}
EXPORT int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }

/* Space that is only kept changes no byte; where it makes the file longer, that is a truncation. */
static int allocated(int fd, int mode, off_t offset, off_t length, int posix) {
  uint64_t file = file_of(fd);
  struct stat before, now;
  if (file && fstat(fd, &before) != 0) file = 0;
  int got = posix ? real_posix_fallocate(fd, offset, length)
                  : real_fallocate(fd, mode, offset, length);
  if (file && got == 0 && fstat(fd, &now) == 0 && now.st_size != before.st_size)
    append(TRUNCATE, 0, file, files[fd].name, now.st_size, 0, 0, NULL, 0, 0);
  return got;
}

#define FALLOCATES(name)                                                       \
  EXPORT int name(int fd, int mode, off_t offset, off_t length) {              \
    pthread_once(&once, find_libc);                                            \
    return control == NULL ? real_fallocate(fd, mode, offset, length)          \
                           : allocated(fd, mode, offset, length, 0);           \
  }
FALLOCATES(fallocate)
FALLOCATES(fallocate64)
#define POSIX_FALLOCATES(name)                                                 \
  EXPORT int name(int fd, off_t offset, off_t length) {                        \
    pthread_once(&once, find_libc);                                            \
    return control == NULL ? real_posix_fallocate(fd, offset, length)          \
                           : allocated(fd, 0, offset, length, 1);              \
  }
POSIX_FALLOCATES(posix_fallocate)
POSIX_FALLOCATES(posix_fallocate64)

/* A file that is mapped for writing changes without a call: that is noted, so that it can be said. */
#define MMAPS(call_)                                                                            \
  EXPORT void *call_(void *address, size_t length, int protection, int flags, int fd, off_t at) { \
    pthread_once(&once, find_libc);                                                            \
    void *got = real_mmap(address, length, protection, flags, fd, at);                         \
    if (control != NULL && (protection & PROT_WRITE) && (flags & MAP_SHARED) && file_of(fd))   \
      append(MAPPED, 0, file_of(fd), files[fd].name, at, (int64_t)length, 0, NULL, 0, 0);      \
    return got;                                                                                \
  }
MMAPS(mmap)
MMAPS(mmap64)

/* -- the time of day ------------------------------------------------------------------------------ */

/* Set forward or back for the workers alone. The monotonic clock is what the kernel keeps it to. */
static time_t shift(void) { return control == NULL ? 0 : (time_t)atomic_load(&control->clock_s); }

EXPORT int clock_gettime(clockid_t clock, struct timespec *time) {
  pthread_once(&once, find_libc);
  int got = real_clock_gettime(clock, time);
  if (got == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    time->tv_sec += shift();
  return got;
}
EXPORT int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  pthread_once(&once, find_libc);
  int got = real_gettimeofday(time, zone);
  if (got == 0) time->tv_sec += shift();
  return got;
}
EXPORT time_t time(time_t *into) {
  pthread_once(&once, find_libc);
  time_t now = real_time(NULL) + shift();
  if (into != NULL) *into = now;
  return now;
}

/* -- for the worker ---------------------------------------------------------------------------- */

/* Put a note of the worker's own into the log: that a COMMIT begins, or that it was acknowledged. */
EXPORT int cwkit_note(const char *text, uint32_t length) {
  if (control == NULL) return -1;
  struct iovec one = {(void *)text, length};
  append(NOTE, 0, 0, NULL, 0, 0, 0, &one, 1, length);
  return 0;
}

EXPORT uint64_t cwkit_faults_size(void) { return sizeof(struct control); }
