/* The part of the library's ABI that a reader of disks uses, and what the lab's files share among themselves.
 *
 * LAB_VDDK says which release is imitated: 65 has no AllocateConnectParams and no QueryAllocatedBlocks, 67 has them and
 * leaves rubbish at the end of Info, 80 is whole. Layouts are those of x86-64.
 */
#ifndef LAB_VDDK_H
#define LAB_VDDK_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef LAB_VDDK
#define LAB_VDDK 80
#endif
#define EXPORT __attribute__((visibility("default")))
#define SECTOR 512

typedef uint64_t VixError;
typedef void LogFn(const char *format, va_list arguments);
typedef void DoneFn(void *data, VixError result);

enum {
    OK = 0,
    FAIL = 1,
    INVALID_ARG = 3,
    FILE_NOT_FOUND = 4,
    AUTHENTICATION_FAIL = 35,
    NOT_FOUND = 2000,
    VM_NOT_FOUND = 4000,
    ASYNC = 25000,
};

typedef struct {
    char *vmxSpec, *serverName, *thumbPrint;
    long reserved;
    int32_t credType;
    struct {
        char *userName, *password, *spare;
    } creds;
    uint32_t port, nfcHostPort;
    char *vimApiVer;
    char reserved2[8];
    void *state;
    struct {
        char *id, *datastoreMoRef, *ssId;
    } spec;
    int32_t specType;
} Params;

typedef struct {
    uint32_t biosGeo[3], physGeo[3];
    uint64_t capacity; /* sectors */
    int32_t adapterType, numLinks;
    char *parentFileNameHint, *uuid;
    uint32_t logicalSectorSize, physicalSectorSize;
} Info;

typedef struct {
    uint64_t offset, length; /* sectors */
} Block;

typedef struct {
    uint32_t numBlocks;
    Block blocks[];
} BlockList;

_Static_assert(sizeof(Params) == 128 && offsetof(Params, port) == 64 && offsetof(Params, specType) == 120, "Params");
_Static_assert(sizeof(Info) == 64 && offsetof(Info, capacity) == 24, "Info");
_Static_assert(offsetof(BlockList, blocks) == 8, "BlockList");

typedef struct {
    char vm[64], snapshot[64], thumbprint[64], mode[16];
    bool dead;
    struct Handle *handles;
} Connection;

typedef struct {
    uint64_t offset, length; /* bytes */
} Span;

/* One layer of a disk: the base holds everything, a delta what its map lists. */
typedef struct {
    int file;
    Span *spans; /* NULL for the base */
    size_t count;
} Layer;

typedef struct Handle {
    Connection *connection;
    struct Handle *next;
    uint64_t capacity; /* bytes */
    Layer layers[64];
    int depth;
    int busy;    /* calls inside, of which there may be one */
    int pending; /* asynchronous reads that are not finished */
    uint64_t reads;
    char mode[16];
    char marker[512]; /* file that says "attached", hot-add only */
} Handle;

/* init.c */
void die(const char *why);             /* ends the process as the real one's undefined behaviour may */
VixError failed(uint32_t code);        /* the code with bits above 16 set */
void require_alive(void);              /* dies in a forked child, or before InitEx */
void require_designated(void);         /* dies on another thread than the first that connected */
void on_service_thread(const char *a); /* the background thread logs what is done, the caller waits for it */
void logged(LogFn *fn, const char *format, ...);
LogFn *warn_log(void);

/* manners.c */
void manners_read(const char *root);
const char *manner(const char *name);           /* value in lab.conf, "" when it is not there */
const char *lab_root(void);
bool struck(const char *where, uint32_t *code); /* the fault file names this call: what it is to answer */
void note(const char *what);                    /* a line in the root's file "seen" */

/* stack.c */
VixError stack_open(Handle *handle, const char *path);
void stack_close(Handle *handle);
VixError stack_read(Handle *handle, uint64_t offset, uint64_t length, uint8_t *buffer);
bool stack_has_data(Handle *handle, uint64_t offset, uint64_t length);

#endif
