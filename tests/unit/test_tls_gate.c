/* Many ClientHellos at one gate: what a turn of the loop does of them, in which order, and what it does beside. */
#include <sys/ioctl.h>

#include "net/clock.h"
#include "net/tls_gate.h"
#include "net/tls_pass.h"
#include "tls_pair.h"

enum {
    CROWD = 120,
    RATE = 100000,    /* a second: no limit here */
    MOST_A_TURN = 24, /* a millisecond of them, on a machine of tomorrow */
    SECOND_US = 1000000,
};

struct guest {
    SSL *client;
    int fd;
    struct sg_tls_entry *entry;
    struct bufferevent *bev;
    struct sg_tls_start start;
    bool may, ended, answered;
    unsigned hellos, passes;
};

struct rig {
    struct event_base *base;
    struct sg_tls_gate *gate;
    SSL_CTX *client, *server;
    struct guest guests[CROWD];
    unsigned count;
    int busy[2]; /* its event is always active, as that of a socket with datagrams */
    struct event *other;
    unsigned turns;
};

static struct rig rig;

static bool on_hello(void *ctx, const uint8_t *pass, size_t len, struct sg_tls_start *start)
{
    struct guest *guest = ctx;
    guest->hellos++;
    guest->passes += pass && len == 4 && memcmp(pass, "pass", 4) == 0;
    *start = guest->start;
    return guest->may;
}

static void on_done(void *ctx, struct bufferevent *bev, const char *text)
{
    struct guest *guest = ctx;
    (void)text;
    guest->entry = NULL;
    guest->bev = bev;
    guest->ended = true;
}

static void on_other(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    (void)ctx;
    rig.turns++;
}

static void start(unsigned rate)
{
    memset(&rig, 0, sizeof rig);
    rig.base = event_base_new();
    rig.gate = sg_tls_gate_new(rig.base, rate);
    rig.client = pinned_ctx("self");
    rig.server = server_ctx("self", NULL);
    assert_non_null(rig.gate);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, rig.busy), 0);
    assert_int_equal(write(rig.busy[0], "x", 1), 1);
    rig.other = event_new(rig.base, rig.busy[1], EV_READ | EV_PERSIST, on_other, NULL);
    event_add(rig.other, NULL);
}

static void stop(void)
{
    for (unsigned i = 0; i < rig.count; i++) {
        if (rig.guests[i].entry)
            sg_tls_gate_cancel(rig.guests[i].entry);
        if (rig.guests[i].bev)
            bufferevent_free(rig.guests[i].bev);
        SSL_free(rig.guests[i].client);
        close(rig.guests[i].fd);
    }
    sg_tls_gate_free(rig.gate);
    event_free(rig.other);
    event_base_loop(rig.base, EVLOOP_NONBLOCK);
    event_base_free(rig.base);
    close(rig.busy[0]);
    close(rig.busy[1]);
    SSL_CTX_free(rig.client);
    SSL_CTX_free(rig.server);
}

/* One more that has sent its ClientHello. */
static struct guest *enter(bool may, uint64_t at_us, uint64_t order)
{
    static const struct sg_tls_entry_ops ops = {.hello = on_hello, .done = on_done};
    struct guest *guest = &rig.guests[rig.count++];
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    *guest = (struct guest){.client = SSL_new(rig.client), .fd = fds[0], .may = may, .start = {at_us, order}};
    assert_int_equal(SSL_set_fd(guest->client, fds[0]), 1);
    assert_true(sg_tls_pass_set(guest->client, (const uint8_t *)"pass", 4));
    assert_int_equal(SSL_connect(guest->client), -1);
    guest->entry = sg_tls_gate_enter(rig.gate, rig.server, fds[1], &ops, guest);
    assert_non_null(guest->entry);
    return guest;
}

/* One turn of the loop: how many were answered in it. */
static unsigned turn(void)
{
    unsigned answered = 0;
    assert_int_equal(event_base_loop(rig.base, EVLOOP_ONCE), 0);
    for (unsigned i = 0; i < rig.count; i++) {
        int waiting = 0;
        if (rig.guests[i].answered || ioctl(rig.guests[i].fd, FIONREAD, &waiting) != 0 || waiting == 0)
            continue;
        rig.guests[i].answered = true;
        answered++;
    }
    return answered;
}

static void a_crowd_takes_a_part_of_each_turn(void **state)
{
    unsigned answered = 0;
    (void)state;
    start(RATE);
    for (unsigned i = 0; i < CROWD; i++)
        enter(true, 0, 0);
    while (answered < CROWD) {
        unsigned turns = rig.turns;
        unsigned now = turn();
        assert_in_range(now, 0, MOST_A_TURN);
        assert_int_equal(rig.turns, turns + 1); /* all else has its turn each time */
        answered += now;
    }
    for (unsigned i = 0; i < CROWD; i++)
        assert_int_equal(rig.guests[i].hellos + rig.guests[i].passes, 2);
    stop();
}

static void the_lowest_order_goes_first(void **state)
{
    (void)state;
    start(10); /* a second, so that some wait */
    for (unsigned i = 0; i < 20; i++)
        enter(true, 0, 100 + i);
    while (rig.guests[19].hellos == 0)
        (void)turn();
    struct guest *fair = enter(true, 0, 1);
    while (!fair->answered)
        (void)turn();
    assert_false(rig.guests[19].answered);
    stop();
}

static void none_begins_before_its_time(void **state)
{
    (void)state;
    start(RATE);
    struct guest *late = enter(true, sg_now_us() + (uint64_t)3600 * SECOND_US, 0);
    struct guest *soon = enter(true, 0, 0);
    struct guest *refused = enter(false, 0, 0);
    while (!soon->answered || !refused->ended)
        (void)turn();
    assert_null(refused->bev);
    assert_false(refused->answered); /* nothing is said to it */
    assert_int_equal(late->hellos, 1);
    assert_false(late->answered);
    sg_tls_gate_cancel(late->entry);
    late->entry = NULL;
    stop();
}

static void who_hangs_up_while_it_waits_is_gone_at_once(void **state)
{
    (void)state;
    start(RATE);
    struct guest *late = enter(true, sg_now_us() + (uint64_t)3600 * SECOND_US, 0);
    while (late->hellos == 0)
        (void)turn();
    close(late->fd);
    late->fd = -1;
    while (!late->ended)
        assert_int_equal(event_base_loop(rig.base, EVLOOP_ONCE), 0);
    assert_null(late->bev);
    stop();
}

/* Two a second: after the one that may begin at once the next has to wait. */
static void no_more_begin_than_the_rate_says(void **state)
{
    (void)state;
    start(2);
    uint64_t began_us = sg_now_us();
    for (unsigned i = 0; i < 3; i++)
        enter(true, 0, 0);
    unsigned answered = 0;
    while (answered < 3)
        answered += turn();
    assert_true(sg_now_us() - began_us >= 800 * 1000);
    stop();
}

static void it_ends_with_a_connection(void **state)
{
    (void)state;
    start(RATE);
    struct guest *guest = enter(true, 0, 0);
    while (!guest->ended) {
        (void)turn();
        (void)SSL_connect(guest->client);
    }
    assert_non_null(guest->bev);
    assert_int_equal(sg_tls_alpn(guest->bev), SG_TLS_ALPN_SEALGRAM);
    bufferevent_enable(guest->bev, EV_READ | EV_WRITE);
    assert_int_equal(SSL_write(guest->client, "over", 4), 4);
    while (evbuffer_get_length(bufferevent_get_input(guest->bev)) < 4)
        (void)turn();
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crowd_takes_a_part_of_each_turn),
        cmocka_unit_test(the_lowest_order_goes_first),
        cmocka_unit_test(none_begins_before_its_time),
        cmocka_unit_test(no_more_begin_than_the_rate_says),
        cmocka_unit_test(it_ends_with_a_connection),
        cmocka_unit_test(who_hangs_up_while_it_waits_is_gone_at_once),
    };
    return cmocka_run_group_tests_name("tls_gate", tests, make_files, remove_files);
}
