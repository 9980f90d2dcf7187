/* How connections end, with TLS and without: half-closed, in good order, at once, cut. */
#include "net/finish.h"
#include "tls_pair.h"

/* After its close_notify a side still reads; the other sees the end, and can still write. */
static void test_half_close(void **state)
{
    (void)state;
    struct pair pair;
    join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
    bufferevent_write(pair.client.bev, "last", 4);
    assert_false(sg_tls_close_write(pair.client.bev));
    spin(&pair);
    assert_true(sg_tls_close_write(pair.client.bev));
    assert_true(sg_tls_close_write(pair.client.bev));
    spin(&pair);
    assert_int_equal(input_len(&pair.server), 4);
    assert_true(pair.server.ended);
    assert_string_equal(pair.server.text, "connection ended by the peer");
    assert_false(pair.client.ended);
    bufferevent_disable(pair.server.bev, EV_READ);
    bufferevent_enable(pair.server.bev, EV_WRITE);
    bufferevent_write(pair.server.bev, "answer", 6);
    spin(&pair);
    assert_int_equal(input_len(&pair.client), 6);
    assert_true(sg_tls_close_write(pair.server.bev));
    spin(&pair);
    assert_true(pair.client.ended);
    assert_string_equal(pair.client.text, "connection ended by the peer");
    part(&pair);
}

static void on_room_again(struct bufferevent *bev, void *ctx)
{
    if (evbuffer_get_length(bufferevent_get_output(bev)) == 0 && sg_tls_close_write(bev))
        ((struct side *)ctx)->final = true;
}

/* A socket that is full when close_notify is due gets it later, and the owner is asked again. */
static void test_close_into_full_socket(void **state)
{
    (void)state;
    static uint8_t chunk[16384];
    struct pair pair;
    join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
    bufferevent_disable(pair.server.bev, EV_READ);
    bufferevent_write(pair.client.bev, chunk, sizeof chunk);
    spin(&pair);
    /* A smaller buffer leaves no room now, although all output was written. */
    int size = 1;
    setsockopt(bufferevent_getfd(pair.client.bev), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    bufferevent_setcb(pair.client.bev, NULL, on_room_again, on_event, &pair.client);
    assert_false(sg_tls_close_write(pair.client.bev));
    spin(&pair);
    assert_false(pair.client.final);
    bufferevent_enable(pair.server.bev, EV_READ);
    spin(&pair);
    assert_int_equal(input_len(&pair.server), sizeof chunk);
    assert_true(pair.client.final);
    assert_true(pair.server.ended);
    assert_string_equal(pair.server.text, "connection ended by the peer");
    part(&pair);
}

/* An end in good order: all output arrives although the peer's own bytes were never read. */
static void test_finish(void **state)
{
    (void)state;
    static uint8_t chunk[300000];
    struct pair pair;
    join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
    bufferevent_write(pair.client.bev, chunk, sizeof chunk);
    bufferevent_write(pair.server.bev, "answer", 6);
    sg_finish(pair.server.bev);
    spin(&pair);
    assert_int_equal(input_len(&pair.client), 6);
    assert_true(pair.client.ended);
    assert_string_equal(pair.client.text, "connection ended by the peer");
    bufferevent_free(pair.client.bev);
    event_base_dispatch(pair.base); /* ends: the peer's end ended the other too */
    event_base_free(pair.base);
}

static void note_gone(void *ctx)
{
    *(bool *)ctx = true;
}

/* The peer ended its side before the answer was written: it gets all of it, and then the connection is gone at once. */
static void test_finish_after_the_peers_end(void **state)
{
    (void)state;
    static uint8_t chunk[600000];
    for (unsigned backlog = 0; backlog < 2; backlog++) {
        const size_t len = backlog ? sizeof chunk : 6;
        struct pair pair;
        bool gone = false;
        join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
        if (backlog)
            bufferevent_disable(pair.client.bev, EV_READ);
        assert_true(sg_tls_close_write(pair.client.bev));
        if (!backlog) {
            spin(&pair);
            assert_true(pair.server.ended);
        }
        bufferevent_write(pair.server.bev, chunk, len);
        assert_non_null(sg_finish_then(pair.server.bev, note_gone, &gone));
        spin(&pair);
        assert_int_equal(gone, !backlog);
        bufferevent_enable(pair.client.bev, EV_READ);
        spin(&pair);
        assert_int_equal(input_len(&pair.client), len);
        assert_string_equal(pair.client.text, "connection ended by the peer");
        assert_true(gone);
        bufferevent_free(pair.client.bev);
        event_base_loop(pair.base, EVLOOP_NONBLOCK);
        event_base_free(pair.base);
    }
}

/* A peer that never ends does not hold a connection for longer than 2 s. */
static void test_finish_limit(void **state)
{
    (void)state;
    int fds[2];
    struct event_base *base = event_base_new();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    sg_finish(bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE));
    time_t before = time(NULL);
    event_base_dispatch(base);
    assert_in_range(time(NULL) - before, 1, 4);
    event_base_free(base);
    close(fds[1]);
}

static void test_finish_now(void **state)
{
    (void)state;
    static uint8_t chunk[50000];
    struct pair pair;
    join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
    bufferevent_write(pair.server.bev, chunk, sizeof chunk);
    sg_finish_now(pair.server.bev);
    spin(&pair);
    assert_int_equal(input_len(&pair.client), sizeof chunk);
    assert_string_equal(pair.client.text, "connection ended by the peer");
    bufferevent_free(pair.client.bev);
    event_base_loop(pair.base, EVLOOP_NONBLOCK);
    event_base_free(pair.base);
}

static void test_cut(void **state)
{
    (void)state;
    struct pair pair;
    join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
    shutdown(bufferevent_getfd(pair.client.bev), SHUT_WR);
    spin(&pair);
    assert_true(pair.server.ended);
    assert_string_equal(pair.server.text, "connection cut by the peer");
    part(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_close),   cmocka_unit_test(test_close_into_full_socket),
        cmocka_unit_test(test_finish),       cmocka_unit_test(test_finish_after_the_peers_end),
        cmocka_unit_test(test_finish_limit), cmocka_unit_test(test_finish_now),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
