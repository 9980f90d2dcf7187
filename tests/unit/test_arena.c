/* The key arena: slots are wiped, a forked child has none, and the kernel was told. */
#include "core/arena.h"

#include <stdio.h>
#include <unistd.h>

#include <sys/wait.h>

#include "record_util.h"

enum { SLOTS = 40 };

static bool is_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

static struct sg_arena *new_arena(size_t slots)
{
    bool locked = false;
    struct sg_arena *arena = sg_arena_new(slots, &locked);
    assert_non_null(arena);
    return arena;
}

static void test_arena_take_and_give(void **state)
{
    (void)state;
    struct sg_arena *arena = new_arena(SLOTS);
    uint8_t *slots[SLOTS];
    for (size_t i = 0; i < SLOTS; i++) {
        slots[i] = sg_arena_take(arena);
        assert_non_null(slots[i]);
        assert_true(sg_arena_is_alive(slots[i]));
        assert_int_equal((uintptr_t)slots[i] % SG_ARENA_ALIGN, 0);
        assert_true(
            is_zero(slots[i] + sizeof(struct sg_arena_mark), SG_ARENA_SLOT_BYTES - sizeof(struct sg_arena_mark)));
        memset(slots[i] + sizeof(struct sg_arena_mark), 0xaa, SG_ARENA_SLOT_BYTES - sizeof(struct sg_arena_mark));
    }
    assert_null(sg_arena_take(arena));
    assert_int_equal(sg_arena_in_use(arena), SLOTS);
    for (size_t i = 0; i < SLOTS; i++)
        sg_arena_give(arena, slots[i]);
    assert_int_equal(sg_arena_in_use(arena), 0);
    sg_arena_free(arena);
}

static void test_arena_freed_slots_are_zero(void **state)
{
    (void)state;
    struct sg_arena *arena = new_arena(2);
    uint8_t *slot = sg_arena_take(arena), *other = sg_arena_take(arena);
    memset(slot + sizeof(struct sg_arena_mark), 0x55, SG_ARENA_SLOT_BYTES - sizeof(struct sg_arena_mark));
    sg_arena_give(arena, slot);
    assert_true(is_zero(slot, SG_ARENA_SLOT_BYTES));
    assert_false(sg_arena_is_alive(slot));
    assert_true(sg_arena_is_alive(other));
    assert_ptr_equal(sg_arena_take(arena), slot);
    assert_true(sg_arena_is_alive(slot));
    sg_arena_give(arena, NULL);
    assert_int_equal(sg_arena_in_use(arena), 2);
    sg_arena_free(arena);
    sg_arena_free(NULL);
    assert_false(sg_arena_is_alive(NULL));
}

static void test_arena_is_wiped_in_a_fork(void **state)
{
    (void)state;
    struct sg_arena *arena = new_arena(SLOTS);
    uint8_t *slots[SLOTS];
    for (size_t i = 0; i < SLOTS; i++) {
        slots[i] = sg_arena_take(arena);
        memset(slots[i] + sizeof(struct sg_arena_mark), 0x33, SG_ARENA_SLOT_BYTES - sizeof(struct sg_arena_mark));
    }
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool wiped = true;
        for (size_t i = 0; i < SLOTS; i++)
            wiped = wiped && !sg_arena_is_alive(slots[i]) && is_zero(slots[i], SG_ARENA_SLOT_BYTES);
        _exit(wiped ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (size_t i = 0; i < SLOTS; i++)
        assert_true(sg_arena_is_alive(slots[i]) && slots[i][SG_ARENA_SLOT_BYTES - 1] == 0x33);
    sg_arena_free(arena);
}

/* The VmFlags line of the mapping that holds address. */
static bool find_flags(const void *address, char *line, int size)
{
    FILE *maps = fopen("/proc/self/smaps", "re");
    bool inside = false;
    while (maps && fgets(line, size, maps)) {
        unsigned long from = 0, to = 0;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            fclose(maps);
            return true;
        }
    }
    if (maps)
        fclose(maps);
    return false;
}

static void test_arena_kernel_was_told(void **state)
{
    (void)state;
    bool locked = false;
    char flags[512] = "";
    struct sg_arena *arena = sg_arena_new(SLOTS, &locked);
    assert_non_null(arena);
    if (!find_flags(sg_arena_take(arena), flags, sizeof flags))
        skip();                            /* a kernel without smaps */
    assert_non_null(strstr(flags, " dd")); /* not in dumps */
    assert_non_null(strstr(flags, " wf")); /* wiped in forks */
    assert_int_equal(strstr(flags, " lo") != NULL, locked);
    sg_arena_free(arena);
}

static void test_arena_sizes(void **state)
{
    (void)state;
    bool locked = true;
    assert_null(sg_arena_new(0, &locked));
    assert_false(locked);
    assert_null(sg_arena_new(SIZE_MAX, &locked));
    assert_int_equal(sg_arena_slots(10, 16), 180);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_take_and_give),
        cmocka_unit_test(test_arena_freed_slots_are_zero),
        cmocka_unit_test(test_arena_is_wiped_in_a_fork),
        cmocka_unit_test(test_arena_kernel_was_told),
        cmocka_unit_test(test_arena_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
