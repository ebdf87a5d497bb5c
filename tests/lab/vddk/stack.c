/* A snapshot's disk as the lab keeps it: layers, of which the vCenter publishes names; see ../vcenter/layers.go.
 *
 * <snapshots>/<moref> holds "vm<TAB>MOREF", then for each disk "PATH<TAB>BYTES<TAB>FOLDER<TAB>LAYER LAYER ...".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vddk.h"

static VixError add_layer(Handle *handle, const char *folder, const char *name) {
    char path[1200];
    struct stat status;
    if (handle->depth == (int)(sizeof handle->layers / sizeof *handle->layers))
        return failed(FILE_NOT_FOUND);
    Layer *layer = &handle->layers[handle->depth];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    layer->file = open(path, O_RDONLY | O_CLOEXEC);
    if (layer->file < 0)
        return failed(FILE_NOT_FOUND);
    layer->spans = NULL;
    if (handle->depth++ == 0)
        return OK;
    strcpy(strrchr(path, '.'), ".map");
    int map = open(path, O_RDONLY | O_CLOEXEC);
    if (map < 0 || fstat(map, &status) != 0)
        return failed(FILE_NOT_FOUND);
    layer->count = (size_t)status.st_size / sizeof(Span);
    layer->spans = malloc((size_t)status.st_size + 1);
    ssize_t got = read(map, layer->spans, layer->count * sizeof(Span));
    close(map);
    return got < 0 ? failed(FILE_NOT_FOUND) : OK;
}

VixError stack_open(Handle *handle, const char *wanted) {
    char path[1200], line[4096], vm[128] = "";
    snprintf(path, sizeof path, "%s/%s", manner("snapshots"), handle->connection->snapshot);
    FILE *file = fopen(path, "r");
    if (!file)
        return failed(FILE_NOT_FOUND);
    VixError result = failed(FILE_NOT_FOUND);
    while (fgets(line, sizeof line, file)) {
        char *rest = line, *first = strsep(&rest, "\t\n");
        if (strcmp(first, "vm") == 0) {
            snprintf(vm, sizeof vm, "moref=%s", strsep(&rest, "\t\n"));
            if (strcmp(vm, handle->connection->vm) != 0) {
                result = failed(VM_NOT_FOUND);
                break;
            }
            continue;
        }
        if (strcmp(first, wanted) != 0)
            continue;
        handle->capacity = strtoull(strsep(&rest, "\t\n"), NULL, 10);
        char *folder = strsep(&rest, "\t\n"), *layers = strsep(&rest, "\t\n"), *name;
        result = OK;
        while (result == OK && (name = strsep(&layers, " ")))
            result = add_layer(handle, folder, name);
        break;
    }
    fclose(file);
    return result;
}

void stack_close(Handle *handle) {
    for (int i = 0; i < handle->depth; i++) {
        close(handle->layers[i].file);
        free(handle->layers[i].spans);
    }
}

static VixError fill(int file, uint64_t offset, uint64_t length, uint8_t *buffer) {
    while (length) {
        ssize_t got = pread(file, buffer, length, (off_t)offset);
        if (got < 0)
            return failed(7);
        if (got == 0) {
            memset(buffer, 0, length);
            return OK;
        }
        buffer += got, offset += (uint64_t)got, length -= (uint64_t)got;
    }
    return OK;
}

VixError stack_read(Handle *handle, uint64_t offset, uint64_t length, uint8_t *buffer) {
    VixError result = fill(handle->layers[0].file, offset, length, buffer);
    for (int i = 1; i < handle->depth && result == OK; i++)
        for (size_t n = 0; n < handle->layers[i].count && result == OK; n++) {
            Span span = handle->layers[i].spans[n];
            uint64_t first = span.offset > offset ? span.offset : offset;
            uint64_t last = span.offset + span.length;
            last = last < offset + length ? last : offset + length;
            if (first < last)
                result = fill(handle->layers[i].file, first, last - first, buffer + (first - offset));
        }
    return result;
}

bool stack_has_data(Handle *handle, uint64_t offset, uint64_t length) {
    off_t data = lseek(handle->layers[0].file, (off_t)offset, SEEK_DATA);
    if (data >= 0 && (uint64_t)data < offset + length)
        return true;
    for (int i = 1; i < handle->depth; i++)
        for (size_t n = 0; n < handle->layers[i].count; n++) {
            Span span = handle->layers[i].spans[n];
            if (span.offset < offset + length && offset < span.offset + span.length)
                return true;
        }
    return false;
}
