/* The lock on a VM's relocation, and what a crashed process left behind: both are files in the library's root. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vddk.h"

static void prepared_path(char *path, size_t size, const Params *params, const char *identity) {
    const char *vm = strchr(params->vmxSpec, '=');
    snprintf(path, size, "%s/prepared-%s-%s", lab_root(), vm ? vm + 1 : "", identity);
}

EXPORT VixError VixDiskLib_PrepareForAccess(const Params *params, const char *identity) {
    char path[800];
    uint32_t code;
    require_designated();
    on_service_thread("PrepareForAccess");
    if (!params->vmxSpec || !identity || strlen(identity) > 50)
        return failed(INVALID_ARG);
    if (struck("prepare", &code))
        return failed(code);
    prepared_path(path, sizeof path, params, identity);
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0)
        return failed(FAIL);
    close(file);
    return OK;
}

EXPORT VixError VixDiskLib_EndAccess(const Params *params, const char *identity) {
    char path[800];
    require_designated();
    on_service_thread("EndAccess");
    prepared_path(path, sizeof path, params, identity);
    return unlink(path) == 0 ? OK : failed(NOT_FOUND);
}

EXPORT VixError VixDiskLib_Cleanup(const Params *params, uint32_t *cleaned, uint32_t *remaining) {
    char path[800];
    int pid;
    require_designated();
    if (params->vmxSpec)
        return failed(INVALID_ARG);
    *cleaned = *remaining = 0;
    DIR *folder = opendir(lab_root());
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (sscanf(entry->d_name, "attached-%d-", &pid) != 1)
            continue;
        snprintf(path, sizeof path, "%s/%s", lab_root(), entry->d_name);
        if (kill(pid, 0) == 0)
            ++*remaining;
        else if (unlink(path) == 0)
            ++*cleaned;
    }
    if (folder)
        closedir(folder);
    return OK;
}
