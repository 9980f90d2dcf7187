/* Devices that join: as many as may, also when many come at once; remembered by the file, forgotten with the token. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/devices.h"

#define WHEN "2026-11-23T08:40:47Z"

static char folder[] = "/tmp/sg-test-devices-XXXXXX";
static char path[64];
static char error[SG_DEVICES_ERROR_MAX];
static struct sg_users *users;

static struct sg_device_claim claim_of(unsigned token, unsigned device, uint32_t uses)
{
    struct sg_device_claim claim = {.uses = uses, .may_join = true};
    snprintf(claim.token, sizeof claim.token, "%064x", token);
    snprintf(claim.device, sizeof claim.device, "%064x", device);
    return claim;
}

static struct sg_devices *load(void)
{
    struct sg_devices *devices = NULL;
    if (sg_devices_load(path, &devices, error) != SG_OK)
        fail_msg("%s", error);
    return devices;
}

static void load_users(unsigned first, unsigned last)
{
    char text[4096] = "";
    size_t len = 0;
    for (unsigned i = first; i <= last; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "user%u token %064x " WHEN " uses=9\n", i, i);
    FILE *file = fmemopen(text, strlen(text), "r");
    assert_non_null(file);
    sg_users_free(users);
    assert_int_equal(sg_users_read(file, "users", &users, error), SG_OK);
    fclose(file);
}

static void lets_so_many_join(void **state)
{
    (void)state;
    unlink(path);
    load_users(1, 2);
    struct sg_devices *devices = load();
    for (unsigned i = 0; i < 3; i++) {
        struct sg_device_claim claim = claim_of(1, i, 3);
        assert_false(sg_devices_has(devices, &claim));
        assert_int_equal(sg_devices_join(devices, "user1", &claim, users), SG_OK);
        assert_int_equal(sg_devices_join(devices, "user1", &claim, users), SG_OK);
        assert_true(sg_devices_has(devices, &claim));
    }
    struct sg_device_claim late = claim_of(1, 3, 3), other = claim_of(2, 3, 3);
    assert_int_equal(sg_devices_join(devices, "user1", &late, users), SG_ERR_FULL);
    assert_false(sg_devices_has(devices, &late));
    assert_int_equal(sg_devices_join(devices, "user2", &other, users), SG_OK);
    sg_devices_free(devices);
    /* a restart forgets nobody */
    devices = load();
    assert_int_equal(sg_devices_count(devices, late.token), 3);
    assert_int_equal(sg_devices_count(devices, other.token), 1);
    assert_int_equal(sg_devices_join(devices, "user1", &late, users), SG_ERR_FULL);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* whose token is gone is forgotten when the next one joins */
    load_users(2, 2);
    struct sg_device_claim next = claim_of(2, 4, 3);
    assert_int_equal(sg_devices_join(devices, "user2", &next, users), SG_OK);
    assert_int_equal(sg_devices_count(devices, late.token), 0);
    assert_int_equal(sg_devices_count(devices, next.token), 2);
    sg_devices_free(devices);
}

static void nobody_joins_what_cannot_be_written(void **state)
{
    (void)state;
    struct sg_devices *devices = NULL;
    struct sg_device_claim claim = claim_of(1, 1, 3);
    load_users(1, 1);
    assert_int_equal(sg_devices_load("/tmp/sg-test-no-such-folder/devices", &devices, error), SG_OK);
    assert_int_equal(sg_devices_join(devices, "user1", &claim, users), SG_ERR_SYSTEM);
    assert_false(sg_devices_has(devices, &claim));
    sg_devices_free(devices);
}

static void refuses_what_it_did_not_write(void **state)
{
    (void)state;
    static const char *const bad[] = {"alice\n", "alice x y z\n", "# head\n\n"};
    struct sg_devices *devices = NULL;
    char expected[128];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(bad[i], file);
        fclose(file);
        assert_int_equal(sg_devices_load(path, &devices, error), SG_ERR_MALFORMED);
        snprintf(expected, sizeof expected, "%s:%d: four fields are needed: NAME TOKEN DEVICE JOINED", path,
                 i == 2 ? 2 : 1);
        assert_string_equal(error, expected);
        assert_null(devices);
    }
    unlink(path);
}

static void *join_many(void *ctx)
{
    uintptr_t joined = 0;
    static _Atomic unsigned next = 100;
    for (unsigned i = 0; i < 8; i++) {
        struct sg_device_claim claim = claim_of(1, next++, 10);
        joined += sg_devices_join(ctx, "user1", &claim, users) == SG_OK;
    }
    return (void *)joined;
}

static void many_at_once_are_no_more_than_may(void **state)
{
    (void)state;
    pthread_t threads[4];
    uintptr_t joined = 0;
    unlink(path);
    load_users(1, 1);
    struct sg_devices *devices = load();
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, join_many, devices), 0);
    for (unsigned i = 0; i < 4; i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        joined += (uintptr_t)result;
    }
    assert_int_equal(joined, 10);
    sg_devices_free(devices);
    devices = load();
    char token[65];
    snprintf(token, sizeof token, "%064x", 1u);
    assert_int_equal(sg_devices_count(devices, token), 10);
    sg_devices_free(devices);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/devices", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sg_users_free(users);
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lets_so_many_join),
        cmocka_unit_test(nobody_joins_what_cannot_be_written),
        cmocka_unit_test(refuses_what_it_did_not_write),
        cmocka_unit_test(many_at_once_are_no_more_than_may),
    };
    return cmocka_run_group_tests_name("devices", tests, set_up, tear_down);
}
