/* The status socket: who may read, what is replaced and what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <event2/event.h>
#include <jansson.h>

#include "net/status_socket.h"

static char folder[] = "/tmp/sg-test-status-XXXXXX";
static char path[64];
static struct event_base *base;

static json_t *make_document(void *ctx)
{
    return ctx ? json_pack("{s:i}", "answer", *(int *)ctx) : NULL;
}

static int connect_to(const char *where)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", where);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0)
        return fd;
    close(fd);
    return -1;
}

static void spin(void)
{
    for (int i = 0; i < 10; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/status", folder);
    base = event_base_new();
    return base ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    event_base_free(base);
    return rmdir(folder);
}

static void test_document(void **state)
{
    (void)state;
    int answer = 42;
    struct stat st;
    char text[64] = "";
    struct sg_status_socket *status = sg_status_socket_new(base, path, make_document, &answer);
    assert_non_null(status);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    for (int round = 0; round < 3; round++) {
        int fd = connect_to(path);
        assert_true(fd >= 0);
        spin();
        ssize_t len = read(fd, text, sizeof text - 1);
        assert_true(len > 0);
        text[len] = '\0';
        assert_string_equal(text, "{\n  \"answer\": 42\n}\n");
        assert_int_equal(read(fd, text, sizeof text), 0);
        close(fd);
    }
    sg_status_socket_free(status);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_no_document(void **state)
{
    (void)state;
    char byte;
    struct sg_status_socket *status = sg_status_socket_new(base, path, make_document, NULL);
    assert_non_null(status);
    int fd = connect_to(path);
    spin();
    assert_int_equal(read(fd, &byte, 1), 0);
    close(fd);
    fd = connect_to(path); /* left open when the socket goes */
    sg_status_socket_free(status);
    close(fd);
}

static void test_path_in_use(void **state)
{
    (void)state;
    int answer = 1;
    struct sg_status_socket *first = sg_status_socket_new(base, path, make_document, &answer);
    assert_non_null(first);
    assert_null(sg_status_socket_new(base, path, make_document, &answer));
    assert_int_equal(errno, EADDRINUSE);
    int fd = connect_to(path);
    assert_true(fd >= 0);
    close(fd);
    sg_status_socket_free(first);
}

static void test_stale_socket(void **state)
{
    (void)state;
    int answer = 1;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    assert_int_equal(bind(dead, (struct sockaddr *)&addr, sizeof addr), 0);
    close(dead);
    struct sg_status_socket *status = sg_status_socket_new(base, path, make_document, &answer);
    assert_non_null(status);
    sg_status_socket_free(status);
}

static void test_other_file(void **state)
{
    (void)state;
    int answer = 1;
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_null(sg_status_socket_new(base, path, make_document, &answer));
    assert_int_equal(errno, EADDRINUSE);
    assert_int_equal(unlink(path), 0); /* it was still there */
}

static void test_bad_paths(void **state)
{
    (void)state;
    int answer = 1;
    char deep[200];
    memset(deep, 'x', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    assert_null(sg_status_socket_new(base, deep, make_document, &answer));
    assert_int_equal(errno, ENAMETOOLONG);
    snprintf(deep, sizeof deep, "%s/missing/status", folder);
    assert_null(sg_status_socket_new(base, deep, make_document, &answer));
    assert_int_equal(errno, ENOENT);
    sg_status_socket_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_document),     cmocka_unit_test(test_no_document), cmocka_unit_test(test_path_in_use),
        cmocka_unit_test(test_stale_socket), cmocka_unit_test(test_other_file),  cmocka_unit_test(test_bad_paths),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
