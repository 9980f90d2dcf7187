/* SOCKS5 requests with a limit of time, and the header of datagrams (RFC 1928 sections 4, 6 and 7). */
#include "socks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "wire.h"

enum { VERSION = 5, NO_AUTHENTICATION = 0, CONNECT = 1, UDP_ASSOCIATE = 3, IPV4 = 1, NAME = 3, IPV6 = 4 };

static void read_all(int fd, uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t count = recv(fd, bytes, len, 0);
        if (count <= 0) {
            errno = count == 0 ? ECONNRESET : errno;
            bench_die("SOCKS answer");
        }
        bytes += count;
        len -= (size_t)count;
    }
}

static void write_address(uint8_t *out, const struct sockaddr_in *address)
{
    memcpy(out, &address->sin_addr, 4);
    memcpy(out + 4, &address->sin_port, 2);
}

static int connect_proxy(const struct sockaddr_in *proxy)
{
    const struct timeval limit = {.tv_sec = 5};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        bench_die("socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (const struct sockaddr *)proxy, sizeof *proxy) != 0)
        bench_die("connect to the proxy");
    return fd;
}

/* Sends a request for an address; the answer's address is in *answered. */
static int ask_proxy(const struct sockaddr_in *proxy, uint8_t command, const struct sockaddr_in *address,
                     struct sockaddr_in *answered)
{
    const uint8_t hello[] = {VERSION, 1, NO_AUTHENTICATION};
    uint8_t request[10] = {VERSION, command, 0, IPV4}, answer[10];
    int fd = connect_proxy(proxy);
    if (send(fd, hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello)
        bench_die("SOCKS request");
    read_all(fd, answer, 2);
    write_address(request + 4, address);
    if (answer[1] != NO_AUTHENTICATION || send(fd, request, sizeof request, MSG_NOSIGNAL) != sizeof request)
        bench_die("SOCKS method");
    read_all(fd, answer, sizeof answer);
    if (answer[1] != 0 || answer[3] != IPV4) {
        fprintf(stderr, "the proxy answered %u with an address of type %u\n", answer[1], answer[3]);
        exit(1);
    }
    *answered = (struct sockaddr_in){.sin_family = AF_INET};
    memcpy(&answered->sin_addr, answer + 4, 4);
    memcpy(&answered->sin_port, answer + 8, 2);
    return fd;
}

int bench_socks_associate(const struct sockaddr_in *proxy, const struct sockaddr_in *local, struct sockaddr_in *relay)
{
    int fd = ask_proxy(proxy, UDP_ASSOCIATE, local, relay);
    if (relay->sin_addr.s_addr == htonl(INADDR_ANY))
        relay->sin_addr = proxy->sin_addr;
    return fd;
}

int bench_socks_connect(const struct sockaddr_in *proxy, const struct sockaddr_in *target)
{
    struct sockaddr_in ignored;
    return ask_proxy(proxy, CONNECT, target, &ignored);
}

void bench_socks_header(uint8_t out[static BENCH_SOCKS_HEADER], const struct sockaddr_in *target)
{
    const uint8_t start[4] = {0, 0, 0, IPV4};
    memcpy(out, start, sizeof start);
    write_address(out + 4, target);
}

size_t bench_socks_header_len(const uint8_t *bytes, size_t len)
{
    size_t header = 0;
    if (len > 4 && bytes[3] == IPV4)
        header = BENCH_SOCKS_HEADER;
    else if (len > 4 && bytes[3] == IPV6)
        header = 4 + 16 + 2;
    else if (len > 4 && bytes[3] == NAME)
        header = 4 + 1 + (size_t)bytes[4] + 2;
    return header < len ? header : 0;
}
