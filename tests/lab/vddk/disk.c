/* Connections and handles: what may refuse a disk, and what becomes of one that is used wrongly. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vddk.h"

#define MIN_CHUNK 128
#define MAX_CHUNKS 524288

static bool credentials_right(const Params *params) {
    char line[256] = "";
    FILE *file = fopen(manner("password_file"), "r");
    if (!file)
        return false;
    (void)!fgets(line, sizeof line, file);
    fclose(file);
    line[strcspn(line, "\r\n")] = 0;
    return params->credType == 1 && params->creds.userName && params->creds.password &&
           strcmp(params->creds.userName, manner("user")) == 0 && strcmp(params->creds.password, line) == 0;
}

EXPORT VixError VixDiskLib_ConnectEx(const Params *params, char read_only, const char *snapshot, const char *modes,
                                     Connection **made) {
    uint32_t code;
    require_designated();
    on_service_thread("ConnectEx");
    if (!read_only || !params->vmxSpec || !params->serverName || !snapshot || params->specType != 0)
        return failed(INVALID_ARG);
    if (struck("connect", &code))
        return failed(code);
    if (!credentials_right(params))
        return failed(AUTHENTICATION_FAIL);
    Connection *connection = calloc(1, sizeof *connection);
    snprintf(connection->vm, sizeof connection->vm, "%s", params->vmxSpec);
    snprintf(connection->snapshot, sizeof connection->snapshot, "%s", snapshot);
    snprintf(connection->thumbprint, sizeof connection->thumbprint, "%s", params->thumbPrint ? params->thumbPrint : "");
    const char *wanted = modes ? modes : "san";
    const char *fallback = manner("fallback");
    bool falls = *fallback && strncmp(wanted, "hotadd", 6) == 0;
    snprintf(connection->mode, sizeof connection->mode, "%.*s", (int)strcspn(falls ? fallback : wanted, ":"),
             falls ? fallback : wanted);
    *made = connection;
    return OK;
}

EXPORT VixError VixDiskLib_Disconnect(Connection *connection) {
    require_designated();
    /* Handles of it are gone: whoever uses one afterwards touches memory that is not there. */
    for (Handle *handle = connection->handles, *next; handle; handle = next) {
        next = handle->next;
        stack_close(handle);
        munmap(handle, sizeof *handle);
    }
    free(connection);
    return OK;
}

static void mark_attached(Handle *handle) {
    static int count;
    snprintf(handle->marker, sizeof handle->marker, "%s/attached-%d-%d", lab_root(), (int)getpid(), count++);
    int file = open(handle->marker, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0)
        close(file);
}

EXPORT VixError VixDiskLib_Open(Connection *connection, const char *path, uint32_t flags, Handle **made) {
    uint32_t code;
    require_designated();
    on_service_thread("Open");
    if (struck("open", &code))
        return failed(code);
    if (strcasecmp(connection->thumbprint, manner("thumbprint")) != 0)
        return failed(FAIL);
    Handle *handle = mmap(NULL, sizeof *handle, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    handle->connection = connection;
    VixError result = flags & 4 ? stack_open(handle, path) : failed(INVALID_ARG);
    if (result != OK) {
        stack_close(handle);
        munmap(handle, sizeof *handle);
        return result;
    }
    strcpy(handle->mode, connection->mode);
    if (strcmp(handle->mode, "hotadd") == 0)
        mark_attached(handle);
    handle->next = connection->handles;
    connection->handles = handle;
    logged(warn_log(), "opened %s over %s\n", path, handle->mode);
    *made = handle;
    return OK;
}

EXPORT VixError VixDiskLib_Close(Handle *handle) {
    require_designated();
    if (__atomic_load_n(&handle->pending, __ATOMIC_SEQ_CST))
        die("Close while reads are under way");
    for (Handle **place = &handle->connection->handles; *place; place = &(*place)->next)
        if (*place == handle) {
            *place = handle->next;
            break;
        }
    if (handle->marker[0])
        unlink(handle->marker);
    stack_close(handle);
    munmap(handle, sizeof *handle);
    return OK;
}

EXPORT const char *VixDiskLib_GetTransportMode(Handle *handle) { return handle->mode; }

EXPORT VixError VixDiskLib_GetInfo(Handle *handle, Info **made) {
    Info *info = calloc(1, sizeof *info);
    info->capacity = handle->capacity / SECTOR;
    info->adapterType = 3;
    info->numLinks = handle->depth;
#if LAB_VDDK < 70
    memset(&info->logicalSectorSize, 0xdd, 8);
#else
    info->logicalSectorSize = info->physicalSectorSize = SECTOR;
#endif
    *made = info;
    return OK;
}

EXPORT void VixDiskLib_FreeInfo(Info *info) {
    memset(info, 0xdd, sizeof *info);
    free(info);
}

#if LAB_VDDK > 65
EXPORT VixError VixDiskLib_QueryAllocatedBlocks(Handle *handle, uint64_t start, uint64_t sectors, uint64_t chunk,
                                                BlockList **made) {
    uint32_t code;
    require_designated();
    on_service_thread("QueryAllocatedBlocks");
    if (struck("query", &code))
        return failed(code);
    if (chunk < MIN_CHUNK || !sectors || start % chunk || sectors % chunk || sectors / chunk > MAX_CHUNKS ||
        start + sectors > handle->capacity / SECTOR)
        return failed(INVALID_ARG);
    BlockList *list = malloc(sizeof *list + sectors / chunk * sizeof(Block));
    list->numBlocks = 0;
    for (uint64_t at = start; at < start + sectors; at += chunk) {
        if (!stack_has_data(handle, at * SECTOR, chunk * SECTOR))
            continue;
        Block *last = list->numBlocks ? &list->blocks[list->numBlocks - 1] : NULL;
        if (last && last->offset + last->length == at)
            last->length += chunk;
        else
            list->blocks[list->numBlocks++] = (Block){at, chunk};
    }
    *made = list;
    return OK;
}

EXPORT VixError VixDiskLib_FreeBlockList(BlockList *list) {
    memset(list, 0xdd, sizeof *list + list->numBlocks * sizeof(Block));
    free(list);
    return OK;
}
#endif
