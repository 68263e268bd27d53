/* A disk that fails on demand, for any program: preload it (LD_PRELOAD) and steer it by the environment.
 *
 *   GRANTLOG_FAULT=<calls>:<fault>[:every=N][:after=N][:times=N][:path=TEXT]
 *       calls   write, fsync, truncate, or several joined by '+'
 *       fault   EIO, ENOSPC, EDQUOT     the call fails and does nothing
 *               TORN-EIO, TORN-ENOSPC   half of a write reaches the file, then it fails
 *               SHORT                   half of a write is written, and the caller is told so
 *       every   each N-th matching call (1), not counting the first `after` (0), at most `times` times (no limit)
 *       path    only files whose path contains this text ("events.db"), or ends with it if a '$' follows
 *     e.g. fsync:EIO:every=7:path=events.db-wal
 *
 *   GRANTLOG_FAULT_CONTROL=<file>
 *       The file holds such a line; it counts instead of GRANTLOG_FAULT whenever it exists, and is looked at before
 *       each call: write it (by renaming) to switch a running process into a fault, empty it to switch back.
 *
 *   GRANTLOG_DISK=<folder>
 *       Keeps in this folder what a power failure would leave of each file whose path contains GRANTLOG_DISK_PATH
 *       ("events.db"): the file's last name with only those bytes that an fsync has reported as written. Kill the
 *       process, put these files in the place of the real ones, and everything that was not synced is gone. As on
 *       Linux, what a failed fsync did not write stays readable, and no later fsync writes it unless it is written to
 *       the file again. What a killed process had not synced is treated likewise, which is harsher than Linux.
 *
 * write, pwrite, fsync, fdatasync, ftruncate and unlink are intercepted: what SQLite uses, and what Rust's File uses.
 * Files kept on GRANTLOG_DISK must be open for reading too. Memory-mapped files (SQLite's -shm) are left alone. Each injected fault is told on stderr. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum call { WRITE = 1, FSYNC = 2, TRUNCATE = 4 };
enum fault { NONE, FAIL, TORN, SHORT };

static struct {
  int calls;
  enum fault fault;
  int error;
  unsigned long every, after, times;
  char path[256];
  unsigned long seen, injected;
} plan;

/* What has been done to a file since its last fsync: a write of `length` bytes at `offset`, or (length -1) a truncation. */
struct change {
  off_t offset;
  off_t length;
};

struct file {
  char path[PATH_MAX];
  int disk; /* what is really on disk */
  struct change *changes;
  size_t count, capacity;
  struct file *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file *files;
static struct stat control_seen;
static int control_was_there;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_unlink)(const char *);

/* A mistake in the steering must never look like a test that passes. */
static void give_up(const char *why, const char *about) {
  dprintf(2, "fault_shim: %s: %s\n", why, about);
  _exit(99);
}

static int error_named(const char *name) {
  if (!strcmp(name, "EIO")) return EIO;
  if (!strcmp(name, "ENOSPC")) return ENOSPC;
  if (!strcmp(name, "EDQUOT")) return EDQUOT;
  give_up("unknown error", name);
  return 0;
}

static void make_plan(const char *text) {
  memset(&plan, 0, sizeof plan);
  plan.every = 1;
  plan.times = ULONG_MAX;
  strcpy(plan.path, "events.db");
  char copy[512];
  if (strlen(text) >= sizeof copy) give_up("too long", text);
  strcpy(copy, text);
  copy[strcspn(copy, "\n")] = 0;
  if (!copy[0]) return;
  char *rest = copy;
  char *calls = strsep(&rest, ":");
  char *fault = strsep(&rest, ":");
  if (!fault) give_up("no fault", text);
  for (char *call; (call = strsep(&calls, "+"));) {
    if (!strcmp(call, "write")) plan.calls |= WRITE;
    else if (!strcmp(call, "fsync")) plan.calls |= FSYNC;
    else if (!strcmp(call, "truncate")) plan.calls |= TRUNCATE;
    else give_up("unknown call", call);
  }
  if (!strcmp(fault, "SHORT")) {
    plan.fault = SHORT;
  } else if (!strncmp(fault, "TORN-", 5)) {
    plan.fault = TORN;
    plan.error = error_named(fault + 5);
  } else {
    plan.fault = FAIL;
    plan.error = error_named(fault);
  }
  for (char *word; (word = strsep(&rest, ":"));) {
    if (!strncmp(word, "every=", 6)) plan.every = strtoul(word + 6, NULL, 10);
    else if (!strncmp(word, "after=", 6)) plan.after = strtoul(word + 6, NULL, 10);
    else if (!strncmp(word, "times=", 6)) plan.times = strtoul(word + 6, NULL, 10);
    else if (!strncmp(word, "path=", 5) && strlen(word + 5) < sizeof plan.path) strcpy(plan.path, word + 5);
    else give_up("unknown word", word);
  }
  if ((plan.fault == TORN || plan.fault == SHORT) && plan.calls != WRITE) give_up("only a write can be torn or short", text);
  if (!plan.every) give_up("every must be at least 1", text);
}

__attribute__((constructor)) static void begin(void) {
  real_write = dlsym(RTLD_NEXT, "write");
  real_pwrite = dlsym(RTLD_NEXT, "pwrite");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
  real_unlink = dlsym(RTLD_NEXT, "unlink");
  const char *text = getenv("GRANTLOG_FAULT");
  make_plan(text ? text : "");
}

static void look_at_control(void) {
  const char *control = getenv("GRANTLOG_FAULT_CONTROL");
  struct stat now;
  if (!control) return;
  if (stat(control, &now)) {
    if (control_was_there) make_plan("");
    control_was_there = 0;
    return;
  }
  if (control_was_there && now.st_ino == control_seen.st_ino && now.st_size == control_seen.st_size &&
      now.st_mtim.tv_sec == control_seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == control_seen.st_mtim.tv_nsec)
    return;
  control_was_there = 1;
  control_seen = now;
  char text[512];
  int fd = open(control, O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  if (length < 0) give_up("cannot be read", control);
  text[length] = 0;
  make_plan(text);
}

static int is_meant(const char *path) {
  size_t wanted = strlen(plan.path), length = strlen(path);
  if (!wanted || plan.path[wanted - 1] != '$') return strstr(path, plan.path) != NULL;
  wanted--;
  return length >= wanted && !strncmp(path + length - wanted, plan.path, wanted);
}

static int path_of(int fd, char path[PATH_MAX]) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length <= 0 || path[0] != '/') return 0;
  path[length] = 0;
  return 1;
}

/* Whether this call is to fail, and how. */
static enum fault fault_for(enum call call, const char *name, const char *path) {
  look_at_control();
  if (!(plan.calls & call) || !is_meant(path)) return NONE;
  plan.seen++;
  if (plan.seen <= plan.after || (plan.seen - plan.after) % plan.every || plan.injected >= plan.times) return NONE;
  plan.injected++;
  dprintf(2, "fault_shim: call %lu, a %s of %s, %s%s\n", plan.seen, name, path,
          plan.fault == FAIL ? "fails" : plan.fault == TORN ? "is torn" : "is short",
          plan.error == ENOSPC ? " (disk full)" : "");
  return plan.fault;
}

static int is_kept(const char *path) {
  const char *wanted = getenv("GRANTLOG_DISK_PATH");
  size_t length = strlen(path);
  if (!getenv("GRANTLOG_DISK") || !strstr(path, wanted ? wanted : "events.db")) return 0;
  return !(length > 4 && !strcmp(path + length - 4, "-shm"));
}

static void disk_path(const char *path, char disk[PATH_MAX]) {
  const char *name = strrchr(path, '/');
  if (snprintf(disk, PATH_MAX, "%s/%s", getenv("GRANTLOG_DISK"), name ? name + 1 : path) >= PATH_MAX)
    give_up("too long", path);
}

static void copy_range(int from, int to, off_t offset, off_t length) {
  char buffer[65536];
  while (length > 0) {
    size_t want = length < (off_t)sizeof buffer ? (size_t)length : sizeof buffer;
    ssize_t got = pread(from, buffer, want, offset);
    if (got <= 0) return; /* truncated since */
    if (real_pwrite(to, buffer, (size_t)got, offset) != got) give_up("cannot write", "GRANTLOG_DISK");
    offset += got;
    length -= got;
  }
}

/* The file's record, made when it is first seen; what the file holds then is on disk, unless an earlier process left
 * word of what really is. */
static struct file *file_at(const char *path, int fd) {
  for (struct file *file = files; file; file = file->next)
    if (!strcmp(file->path, path)) return file;
  struct file *file = calloc(1, sizeof *file);
  if (!file) give_up("no memory", path);
  strcpy(file->path, path);
  char disk[PATH_MAX];
  disk_path(path, disk);
  int is_known = access(disk, F_OK) == 0;
  file->disk = open(disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file->disk < 0) give_up("cannot be opened", disk);
  /* By the caller's descriptor: closing one of our own would release the process's locks on the file. */
  if (!is_known) copy_range(fd, file->disk, 0, LLONG_MAX);
  file->next = files;
  files = file;
  return file;
}

static void note(struct file *file, off_t offset, off_t length) {
  if (file->count == file->capacity) {
    file->capacity = file->capacity ? 2 * file->capacity : 64;
    file->changes = realloc(file->changes, file->capacity * sizeof *file->changes);
    if (!file->changes) give_up("no memory", file->path);
  }
  file->changes[file->count++] = (struct change){offset, length};
}

static void reach_disk(struct file *file, int fd) {
  for (size_t i = 0; i < file->count; i++) {
    struct change change = file->changes[i];
    if (change.length >= 0) copy_range(fd, file->disk, change.offset, change.length);
    else if (real_ftruncate(file->disk, change.offset)) give_up("cannot truncate", file->path);
  }
  file->count = 0;
}

static ssize_t write_at(int fd, const void *bytes, size_t length, off_t offset, int at_offset) {
  char path[PATH_MAX];
  if (!path_of(fd, path)) return at_offset ? real_pwrite(fd, bytes, length, offset) : real_write(fd, bytes, length);
  pthread_mutex_lock(&lock);
  enum fault fault = fault_for(WRITE, "write", path);
  int error = plan.error;
  struct file *file = is_kept(path) ? file_at(path, fd) : NULL;
  ssize_t written = -1;
  if (fault == FAIL) {
    errno = error;
  } else {
    size_t part = fault == NONE || (fault == SHORT && length < 2) ? length : length / 2;
    off_t begin = at_offset ? offset : lseek(fd, 0, SEEK_CUR);
    written = at_offset ? real_pwrite(fd, bytes, part, offset) : real_write(fd, bytes, part);
    if (file && written > 0) note(file, begin, written);
    if (fault == TORN) {
      written = -1;
      errno = error;
    }
  }
  int kept = errno;
  pthread_mutex_unlock(&lock);
  errno = kept;
  return written;
}

ssize_t write(int fd, const void *bytes, size_t length) { return write_at(fd, bytes, length, 0, 0); }
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return write_at(fd, bytes, length, offset, 1); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) { return write_at(fd, bytes, length, offset, 1); }

static int sync_file(int fd, int (*real)(int)) {
  char path[PATH_MAX];
  if (!path_of(fd, path)) return real(fd);
  pthread_mutex_lock(&lock);
  struct file *file = is_kept(path) ? file_at(path, fd) : NULL;
  int answer;
  if (fault_for(FSYNC, "fsync", path) != NONE) {
    if (file) file->count = 0; /* readable, and never to be written */
    answer = -1;
    errno = plan.error;
  } else {
    answer = real(fd);
    if (file && !answer) reach_disk(file, fd);
  }
  int kept = errno;
  pthread_mutex_unlock(&lock);
  errno = kept;
  return answer;
}

int fsync(int fd) { return sync_file(fd, real_fsync); }
int fdatasync(int fd) { return sync_file(fd, real_fdatasync); }

static int truncate_file(int fd, off_t size) {
  char path[PATH_MAX];
  if (!path_of(fd, path)) return real_ftruncate(fd, size);
  pthread_mutex_lock(&lock);
  struct file *file = is_kept(path) ? file_at(path, fd) : NULL;
  int answer;
  if (fault_for(TRUNCATE, "truncation", path) != NONE) {
    answer = -1;
    errno = plan.error;
  } else {
    answer = real_ftruncate(fd, size);
    if (file && !answer) note(file, size, -1);
  }
  int kept = errno;
  pthread_mutex_unlock(&lock);
  errno = kept;
  return answer;
}

int ftruncate(int fd, off_t size) { return truncate_file(fd, size); }
int ftruncate64(int fd, off64_t size) { return truncate_file(fd, size); }

/* A removed file counts as gone from the disk at once. */
int unlink(const char *path) {
  int answer = real_unlink(path);
  int kept = errno;
  if (!answer && is_kept(path)) {
    pthread_mutex_lock(&lock);
    char disk[PATH_MAX];
    disk_path(path, disk);
    real_unlink(disk);
    for (struct file **link = &files; *link; link = &(*link)->next)
      if (!strcmp((*link)->path, path)) {
        struct file *gone = *link;
        *link = gone->next;
        close(gone->disk);
        free(gone->changes);
        free(gone);
        break;
      }
    pthread_mutex_unlock(&lock);
  }
  errno = kept;
  return answer;
}
