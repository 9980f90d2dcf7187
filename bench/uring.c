/*
 * An experiment: the echo server without GSO over io_uring instead of recvmmsg and sendmmsg, for what the data path
 * would gain (docs/performance.md). One multishot receive fills buffers that the kernel picks; all answers to what one
 * wait brought are submitted at once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <liburing.h>

#include "wire.h"

enum { ENTRIES = 1024, BUFFERS = 512, GROUP = 1, RECEIVED = BUFFERS /* mark of what is no answer */ };
enum { BUFFER_BYTES = sizeof(struct io_uring_recvmsg_out) + sizeof(struct sockaddr_in) + BENCH_PLAIN_ROOM };

struct answer {
    struct msghdr msg;
    struct iovec iov;
};

struct echo {
    int fd;
    struct io_uring ring;
    struct io_uring_buf_ring *free;
    struct msghdr form; /* of what is received: a name, and a payload */
    struct answer answers[BUFFERS];
    uint8_t bytes[BUFFERS][BUFFER_BYTES];
};

static void give_buffer(struct echo *echo, unsigned number, int at)
{
    io_uring_buf_ring_add(echo->free, echo->bytes[number], BUFFER_BYTES, (unsigned short)number,
                          io_uring_buf_ring_mask(BUFFERS), at);
}

static void prepare(struct echo *echo, const char *listen)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    struct sockaddr_in local = bench_address(listen);
    echo->fd = bench_udp_open(&local, NULL, false);
    echo->form.msg_namelen = sizeof(struct sockaddr_in);
    errno = -io_uring_queue_init_params(ENTRIES, &echo->ring, &params);
    if (errno != 0)
        bench_die("io_uring");
    if (posix_memalign((void **)&echo->free, 4096, BUFFERS * sizeof(struct io_uring_buf)) != 0)
        bench_die("memory");
    struct io_uring_buf_reg registration = {.ring_addr = (uintptr_t)echo->free, .ring_entries = BUFFERS, .bgid = GROUP};
    errno = -io_uring_register_buf_ring(&echo->ring, &registration, 0);
    if (errno != 0)
        bench_die("buffers of io_uring");
    io_uring_buf_ring_init(echo->free);
    for (unsigned number = 0; number < BUFFERS; number++)
        give_buffer(echo, number, (int)number);
    io_uring_buf_ring_advance(echo->free, BUFFERS);
}

static struct io_uring_sqe *next_entry(struct echo *echo)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&echo->ring);
    if (entry)
        return entry;
    io_uring_submit(&echo->ring);
    return io_uring_get_sqe(&echo->ring);
}

static void receive(struct echo *echo)
{
    struct io_uring_sqe *entry = next_entry(echo);
    io_uring_prep_recvmsg_multishot(entry, echo->fd, &echo->form, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = GROUP;
    io_uring_sqe_set_data64(entry, RECEIVED);
}

static void answer(struct echo *echo, unsigned number, int len)
{
    struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(echo->bytes[number], len, &echo->form);
    if (!out)
        bench_die("a message without a form");
    struct answer *back = &echo->answers[number];
    back->iov = (struct iovec){io_uring_recvmsg_payload(out, &echo->form),
                               io_uring_recvmsg_payload_length(out, len, &echo->form)};
    back->msg = (struct msghdr){.msg_name = io_uring_recvmsg_name(out),
                                .msg_namelen = sizeof(struct sockaddr_in),
                                .msg_iov = &back->iov,
                                .msg_iovlen = 1};
    struct io_uring_sqe *entry = next_entry(echo);
    io_uring_prep_sendmsg(entry, echo->fd, &back->msg, 0);
    io_uring_sqe_set_data64(entry, number);
}

int main(int argc, char **argv)
{
    static struct echo only;
    struct echo *echo = &only;
    if (argc != 2) {
        fputs("usage: echo-uring ADDRESS:PORT\n", stderr);
        return 2;
    }
    prepare(echo, argv[1]);
    receive(echo);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct io_uring_cqe *done;
        unsigned head, seen = 0;
        int given = 0;
        io_uring_submit_and_wait(&echo->ring, 1);
        io_uring_for_each_cqe(&echo->ring, head, done)
        {
            seen++;
            if (io_uring_cqe_get_data64(done) != RECEIVED) {
                give_buffer(echo, (unsigned)io_uring_cqe_get_data64(done), given++);
                continue;
            }
            if (done->res >= 0 && (done->flags & IORING_CQE_F_BUFFER))
                answer(echo, done->flags >> IORING_CQE_BUFFER_SHIFT, done->res);
            if (!(done->flags & IORING_CQE_F_MORE))
                receive(echo); /* it ran out of buffers */
        }
        io_uring_buf_ring_advance(echo->free, given);
        io_uring_cq_advance(&echo->ring, seen);
    }
}
