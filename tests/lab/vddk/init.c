/* Life of the library in a process, its log, its error texts, and the thread that a fork would lose. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vddk.h"

static LogFn *log_fn, *warn_fn, *panic_fn;
static pid_t owner;
static pid_t designated;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static const char *asked;
static bool answered, over;
static pthread_t service;

void die(const char *why) {
    fprintf(stderr, "lab vddk: %s\n", why);
    if (panic_fn)
        logged(panic_fn, "Panic: %s\n", why);
    abort();
}

VixError failed(uint32_t code) { return (1ULL << 40) | 0x00A50000ULL | code; }

LogFn *warn_log(void) { return warn_fn; }

/* The format and what it refers to live for the length of the call only. */
static void passed(LogFn *fn, char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fn(format, arguments);
    va_end(arguments);
}

void logged(LogFn *fn, const char *format, ...) {
    char text[1024], *lent_format = strdup("%s [%d] %s"), *lent = malloc(sizeof text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(lent, text, sizeof text);
    passed(fn, lent_format, "VixDiskLib:", (int)syscall(SYS_gettid), lent);
    memset(lent_format, 0xdd, strlen("%s [%d] %s"));
    memset(lent, 0xdd, sizeof text);
    free(lent_format);
    free(lent);
}

static void *serve(void *unused) {
    (void)unused;
    pthread_mutex_lock(&lock);
    while (!over) {
        if (asked && !answered) {
            const char *now = asked;
            pthread_mutex_unlock(&lock);
            logged(log_fn, "service thread: %s\n", now);
            pthread_mutex_lock(&lock);
            answered = true;
            pthread_cond_broadcast(&changed);
        }
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

void on_service_thread(const char *what) {
    struct timespec until;
    require_alive();
    pthread_mutex_lock(&lock);
    asked = what;
    answered = false;
    pthread_cond_broadcast(&changed);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    while (!answered)
        if (pthread_cond_timedwait(&changed, &lock, &until) != 0)
            die("the service thread does not answer");
    asked = NULL;
    pthread_mutex_unlock(&lock);
}

void require_alive(void) {
    if (!owner)
        die("used before InitEx or after Exit");
    if (owner != getpid())
        die("used in a forked child, which has no service thread");
}

void require_designated(void) {
    pid_t self = (pid_t)syscall(SYS_gettid);
    require_alive();
    if (!designated)
        designated = self;
    if (designated != self)
        die("Connect, Open, Close or QueryAllocatedBlocks on another thread than the first one");
}

/* A process with another libcrypto in it works until the two meet: worth a line. */
static void note_neighbours(void) {
    char line[1024];
    bool mixed = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        mixed = mixed || strstr(line, "libssl") || strstr(line, "libcrypto") || strstr(line, "cygrpc");
    if (maps)
        fclose(maps);
    note(mixed ? "loaded beside another libssl" : "loaded alone");
}

EXPORT VixError VixDiskLib_InitEx(uint32_t major, uint32_t minor, LogFn *log, LogFn *warn, LogFn *panic,
                                  const char *root, const char *config) {
    if ((pid_t)syscall(SYS_gettid) != getpid() || owner)
        die("InitEx must run once, on the main thread");
    if (!log || !warn || !panic) {
        ((LogFn *)log)(NULL, *(va_list *)NULL); /* the real one calls it unasked, too */
    }
    log_fn = log, warn_fn = warn, panic_fn = panic;
    if (major > LAB_VDDK / 10 || (major == LAB_VDDK / 10 && minor > LAB_VDDK % 10))
        return failed(INVALID_ARG);
    manners_read(root);
    if (config && access(config, R_OK) != 0)
        return failed(FILE_NOT_FOUND);
    owner = getpid();
    note_neighbours();
    if (pthread_create(&service, NULL, serve, NULL) != 0)
        die("no service thread");
    logged(log_fn, "VMware VixDiskLib (%d.%d) Release build-lab\n", LAB_VDDK / 10, LAB_VDDK % 10);
    on_service_thread("started");
    return OK;
}

EXPORT void VixDiskLib_Exit(void) {
    require_alive();
    pthread_mutex_lock(&lock);
    over = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(service, NULL);
    owner = 0;
}

EXPORT char *VixDiskLib_GetErrorText(VixError error, const char *locale) {
    char text[128];
    if (locale)
        die("a locale that is not NULL");
    snprintf(text, sizeof text, "The lab's text for error %u", (unsigned)(error & 0xffff));
    return strdup(text);
}

EXPORT void VixDiskLib_FreeErrorText(char *text) {
    memset(text, 0xdd, strlen(text));
    free(text);
}

EXPORT const char *VixDiskLib_ListTransportModes(void) { return "file:san:hotadd:nbdssl:nbd"; }

#if LAB_VDDK > 65
EXPORT Params *VixDiskLib_AllocateConnectParams(void) { return calloc(1, sizeof(Params)); }

EXPORT void VixDiskLib_FreeConnectParams(Params *params) {
    memset(params, 0xdd, sizeof *params);
    free(params);
}
#endif
