/* The control socket: what is a request, what is replaced and what is not. */
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
#include "net/control_socket.h"

static char folder[] = "/tmp/sg-test-status-XXXXXX";
static char path[64];
static struct event_base *base;

static void make_answer(void *ctx, const char *request, struct sg_control_asker *asker)
{
    char *text = NULL;
    sg_control_answer(asker, ctx && asprintf(&text, "%s: %d\n", request, *(int *)ctx) > 0 ? text : NULL);
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

static void ask(int fd, const char *request)
{
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    spin();
}

static void test_answer(void **state)
{
    (void)state;
    int answer = 42;
    struct stat st;
    char text[64] = "";
    struct sg_control_socket *control = sg_control_socket_new(base, path, make_answer, &answer);
    assert_non_null(control);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    for (int round = 0; round < 3; round++) {
        int fd = connect_to(path);
        assert_true(fd >= 0);
        spin();
        assert_int_equal(read(fd, text, sizeof text), -1); /* nothing is said before it was asked for */
        assert_int_equal(errno, EAGAIN);
        ask(fd, "ques");
        ask(fd, "tion\nand more");
        ssize_t len = read(fd, text, sizeof text - 1);
        assert_true(len > 0);
        text[len] = '\0';
        assert_string_equal(text, "question: 42\n");
        assert_int_equal(read(fd, text, sizeof text), 0);
        close(fd);
    }
    sg_control_socket_free(control);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_no_answer(void **state)
{
    (void)state;
    char byte;
    struct sg_control_socket *control = sg_control_socket_new(base, path, make_answer, NULL);
    assert_non_null(control);
    int fd = connect_to(path);
    spin();
    ask(fd, "question\n");
    assert_int_equal(read(fd, &byte, 1), 0);
    close(fd);
    fd = connect_to(path); /* left open when the socket goes */
    spin();
    sg_control_socket_free(control);
    close(fd);
}

static void test_long_request(void **state)
{
    (void)state;
    int answer = 1;
    char byte, line[SG_CONTROL_REQUEST_MAX + 1];
    struct sg_control_socket *control = sg_control_socket_new(base, path, make_answer, &answer);
    int longest = connect_to(path), too_long = connect_to(path), endless = connect_to(path);
    memset(line, 'x', sizeof line);
    spin();
    line[sizeof line - 2] = '\n';
    assert_int_equal(send(longest, line, sizeof line - 1, MSG_NOSIGNAL), sizeof line - 1);
    line[sizeof line - 2] = 'x';
    line[sizeof line - 1] = '\n';
    assert_int_equal(send(too_long, line, sizeof line, MSG_NOSIGNAL), sizeof line);
    assert_int_equal(send(endless, line, sizeof line - 1, MSG_NOSIGNAL), sizeof line - 1);
    spin();
    assert_int_equal(read(longest, &byte, 1), 1);
    assert_true(read(too_long, &byte, 1) <= 0);
    assert_int_not_equal(errno, EAGAIN);
    errno = 0;
    assert_true(read(endless, &byte, 1) <= 0);
    assert_int_not_equal(errno, EAGAIN);
    close(longest), close(too_long), close(endless);
    sg_control_socket_free(control);
}

static void test_path_in_use(void **state)
{
    (void)state;
    int answer = 1;
    struct sg_control_socket *first = sg_control_socket_new(base, path, make_answer, &answer);
    assert_non_null(first);
    assert_null(sg_control_socket_new(base, path, make_answer, &answer));
    assert_int_equal(errno, EADDRINUSE);
    int fd = connect_to(path);
    assert_true(fd >= 0);
    close(fd);
    sg_control_socket_free(first);
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
    struct sg_control_socket *control = sg_control_socket_new(base, path, make_answer, &answer);
    assert_non_null(control);
    sg_control_socket_free(control);
}

static void test_other_file(void **state)
{
    (void)state;
    int answer = 1;
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_null(sg_control_socket_new(base, path, make_answer, &answer));
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
    assert_null(sg_control_socket_new(base, deep, make_answer, &answer));
    assert_int_equal(errno, ENAMETOOLONG);
    snprintf(deep, sizeof deep, "%s/missing/status", folder);
    assert_null(sg_control_socket_new(base, deep, make_answer, &answer));
    assert_int_equal(errno, ENOENT);
    sg_control_socket_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer),      cmocka_unit_test(test_no_answer),    cmocka_unit_test(test_long_request),
        cmocka_unit_test(test_path_in_use), cmocka_unit_test(test_stale_socket), cmocka_unit_test(test_other_file),
        cmocka_unit_test(test_bad_paths),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
