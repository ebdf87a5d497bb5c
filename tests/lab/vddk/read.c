/* Reads: inside the call, or by two threads of the library's own. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vddk.h"

#define THREADS 2

typedef struct Job {
    Handle *handle;
    uint64_t offset, length;
    uint8_t *buffer;
    DoneFn *done;
    void *data;
    struct Job *next;
} Job;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER, fewer = PTHREAD_COND_INITIALIZER;
static Job *first, **last = &first;
static bool started;

static VixError checked(Handle *handle, uint64_t start, uint64_t sectors) {
    if (start + sectors > handle->capacity / SECTOR)
        return failed(16007);
    return sectors > 4096 ? failed(INVALID_ARG) : OK; /* 2 MiB, beyond which hosts run out of buffers */
}

static VixError now(Handle *handle, uint64_t offset, uint64_t length, uint8_t *buffer) {
    uint32_t code;
    const char *slow = manner("slow_us");
    if (*slow)
        usleep((useconds_t)atoi(slow));
    if (struck("read", &code))
        return failed(code);
    return stack_read(handle, offset, length, buffer);
}

static void enter(Handle *handle) {
    require_alive();
    if (__atomic_exchange_n(&handle->busy, 1, __ATOMIC_SEQ_CST))
        die("one handle used by two threads at once");
}

static void leave(Handle *handle) { __atomic_store_n(&handle->busy, 0, __ATOMIC_SEQ_CST); }

EXPORT VixError VixDiskLib_Read(Handle *handle, uint64_t start, uint64_t sectors, uint8_t *buffer) {
    enter(handle);
    VixError result = checked(handle, start, sectors);
    if (result == OK)
        result = now(handle, start * SECTOR, sectors * SECTOR, buffer);
    leave(handle);
    return result;
}

static void *work(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (!first)
            pthread_cond_wait(&more, &lock);
        Job *job = first;
        first = job->next;
        if (!first)
            last = &first;
        pthread_mutex_unlock(&lock);
        job->done(job->data, now(job->handle, job->offset, job->length, job->buffer));
        pthread_mutex_lock(&lock);
        __atomic_sub_fetch(&job->handle->pending, 1, __ATOMIC_SEQ_CST);
        pthread_cond_broadcast(&fewer);
        pthread_mutex_unlock(&lock);
        free(job);
    }
    return NULL;
}

static void start_threads(void) {
    pthread_t thread;
    for (int i = 0; i < THREADS && !started; i++)
        if (pthread_create(&thread, NULL, work, NULL) != 0)
            die("no thread for reads");
    started = true;
}

EXPORT VixError VixDiskLib_ReadAsync(Handle *handle, uint64_t start, uint64_t sectors, uint8_t *buffer, DoneFn *done,
                                     void *data) {
    enter(handle);
    VixError result = checked(handle, start, sectors);
    if (result != OK) {
        leave(handle);
        return result;
    }
    bool inside = strcmp(handle->mode, "nbdssl") != 0 || handle->reads++ % 8 == 0;
    if (inside) {
        done(data, now(handle, start * SECTOR, sectors * SECTOR, buffer));
        leave(handle);
        return ASYNC;
    }
    memset(buffer, 0xa5, 4096); /* who reads it before the callback reads rubbish */
    Job *job = malloc(sizeof *job);
    *job = (Job){handle, start * SECTOR, sectors * SECTOR, buffer, done, data, NULL};
    pthread_mutex_lock(&lock);
    start_threads();
    __atomic_add_fetch(&handle->pending, 1, __ATOMIC_SEQ_CST);
    *last = job;
    last = &job->next;
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
    leave(handle);
    return ASYNC;
}

EXPORT VixError VixDiskLib_Wait(Handle *handle) {
    require_alive();
    pthread_mutex_lock(&lock);
    while (__atomic_load_n(&handle->pending, __ATOMIC_SEQ_CST))
        pthread_cond_wait(&fewer, &lock);
    pthread_mutex_unlock(&lock);
    return OK;
}
