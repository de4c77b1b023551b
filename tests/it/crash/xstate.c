/*
 * Lets User-Mode Linux run on machines whose processors keep more state for a process than it knows (AMX): it hands the
 * host fewer bytes than there are, which the host refuses ("ptrace set fp regs failed"). What it does not know of is left
 * as it is. Loaded before it with LD_PRELOAD; does nothing where the sizes agree.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

/* The XSAVE header begins with a bit for each part that is not in its first state. */
enum { HEADER = 512 };
static const uint64_t KNOWN_PARTS = 0x3ff;

long ptrace(enum __ptrace_request request, ...) {
    static long (*host)(enum __ptrace_request, ...);
    static char whole[1 << 16];
    if (!host) host = dlsym(RTLD_NEXT, "ptrace");
    va_list rest;
    va_start(rest, request);
    pid_t pid = va_arg(rest, pid_t);
    void *kind = va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);
    if (request != PTRACE_SETREGSET || kind != (void *)NT_X86_XSTATE) return host(request, pid, kind, data);
    struct iovec *given = data, all = {whole, sizeof whole};
    if (host(PTRACE_GETREGSET, pid, kind, &all) < 0 || all.iov_len <= given->iov_len)
        return host(request, pid, kind, data);
    uint64_t before, parts;
    memcpy(&before, whole + HEADER, sizeof before);
    memcpy(whole, given->iov_base, given->iov_len);
    memcpy(&parts, whole + HEADER, sizeof parts);
    parts = (parts & KNOWN_PARTS) | (before & ~KNOWN_PARTS);
    memcpy(whole + HEADER, &parts, sizeof parts);
    return host(request, pid, kind, &all);
}
