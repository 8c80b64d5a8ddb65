/* Preloaded into a process: every look-up of a name and every connection beyond this computer is written down and refused. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what, const char *where) {
    const char *path = getenv("NETWORK_GUARD_LOG");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (file < 0) return;
    dprintf(file, "%s %s\n", what, where ? where : "?");
    close(file);
}

static int leaves(const struct sockaddr *address) {
    char words[INET6_ADDRSTRLEN] = "";
    if (!address) return 0;
    if (address->sa_family == AF_INET) {
        const struct in_addr *at = &((const struct sockaddr_in *)address)->sin_addr;
        if (ntohl(at->s_addr) >> 24 == 127 || at->s_addr == 0) return 0;
        inet_ntop(AF_INET, at, words, sizeof words);
    } else if (address->sa_family == AF_INET6) {
        const struct in6_addr *at = &((const struct sockaddr_in6 *)address)->sin6_addr;
        if (IN6_IS_ADDR_LOOPBACK(at) || IN6_IS_ADDR_UNSPECIFIED(at)) return 0;
        if (IN6_IS_ADDR_V4MAPPED(at) && at->s6_addr[12] == 127) return 0;
        inet_ntop(AF_INET6, at, words, sizeof words);
    } else {
        return 0;
    }
    note("connection", words);
    return 1;
}

int connect(int socket, const struct sockaddr *address, socklen_t length) {
    static int (*real)(int, const struct sockaddr *, socklen_t);
    if (leaves(address)) { errno = ENETUNREACH; return -1; }
    if (!real) real = dlsym(RTLD_NEXT, "connect");
    return real(socket, address, length);
}

ssize_t sendto(int socket, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    static ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    if (leaves(address)) { errno = ENETUNREACH; return -1; }
    if (!real) real = dlsym(RTLD_NEXT, "sendto");
    return real(socket, data, size, flags, address, length);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    struct in6_addr six;
    struct in_addr four;
    int local = !node || !strcmp(node, "localhost") || inet_pton(AF_INET, node, &four) == 1 || inet_pton(AF_INET6, node, &six) == 1;
    if (!local) { note("look-up", node); return EAI_FAIL; }
    if (!real) real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(node, service, hints, found);
}
