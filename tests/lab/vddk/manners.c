/* What the library is told from outside: "lab.conf" in its root, and "fault", which may come and go in mid-run.
 *
 * lab.conf: lines name=value. snapshots (folder that the vCenter publishes to), thumbprint, user, password_file,
 * fallback (mode that comes up in place of hotadd), slow_us (microseconds before every read).
 * fault: one line "WHERE WHAT NTH [always]". WHERE is connect, open, read, query, prepare; WHAT an error code, crash
 * or hang; NTH counts calls of this process from 1. Without "always" it strikes once and the file is removed first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vddk.h"

static char root_folder[512];
static char conf[8192];

void manners_read(const char *root) {
    char path[600];
    snprintf(root_folder, sizeof root_folder, "%s", root);
    snprintf(path, sizeof path, "%s/lab.conf", root);
    FILE *file = fopen(path, "r");
    if (!file)
        die("no lab.conf in libDir, which must be the library's root");
    conf[0] = '\n';
    conf[1 + fread(conf + 1, 1, sizeof conf - 2, file)] = 0;
    fclose(file);
}

const char *lab_root(void) { return root_folder; }

const char *manner(const char *name) {
    static __thread char value[4][512];
    static __thread int turn;
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\n%s=", name);
    const char *found = strstr(conf, wanted);
    if (!found)
        return "";
    found += strlen(wanted);
    char *out = value[turn = (turn + 1) % 4];
    snprintf(out, sizeof value[0], "%.*s", (int)strcspn(found, "\n"), found);
    return out;
}

bool struck(const char *where, uint32_t *code) {
    static int connects, opens, reads, queries, prepares;
    char path[600], at[16] = "", what[16] = "", how[16] = "";
    int nth = 0;
    int *counter = *where == 'c' ? &connects : *where == 'o' ? &opens : *where == 'r' ? &reads
                 : *where == 'q' ? &queries : &prepares;
    int count = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    snprintf(path, sizeof path, "%s/fault", root_folder);
    if (access(path, R_OK) != 0)
        return false;
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    int fields = fscanf(file, "%15s %15s %d %15s", at, what, &nth, how);
    fclose(file);
    bool always = strcmp(how, "always") == 0;
    if (fields < 3 || strcmp(at, where) != 0 || (always ? count < nth : count != nth))
        return false;
    if (!always)
        unlink(path);
    if (strcmp(what, "crash") == 0)
        abort();
    if (strcmp(what, "hang") == 0)
        for (;;)
            pause();
    *code = (uint32_t)atoi(what);
    return true;
}

void note(const char *what) {
    char path[600];
    snprintf(path, sizeof path, "%s/seen", root_folder);
    FILE *file = fopen(path, "a");
    if (!file)
        return;
    fprintf(file, "%d %s\n", (int)getpid(), what);
    fclose(file);
}
