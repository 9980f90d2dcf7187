/*
 * What sealing and opening cost by themselves: nanoseconds of CPU per datagram for each suite, back end and size, of
 * the cipher alone and of whole records (nonce, window and batch included). One line of JSON.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/aead.h"
#include "core/arena.h"
#include "core/record.h"

enum { BATCH = 64, REPEATS = 400, SLICES = 21, ROOM = 2048, SLOTS = 8 };

struct cost {
    double seal_ns, open_ns, record_seal_ns, record_open_ns;
};

struct bench {
    const struct sg_aead *aead;
    struct sg_aead_ctx *ctx;
    struct sg_arena *arena;
    struct sg_aead_state state;
    size_t size;
    uint8_t bytes[BATCH][ROOM];
};

static void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "micro: %s failed\n", what);
        exit(1);
    }
}

static double cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (double)used.tv_sec * 1e9 + (double)used.tv_nsec;
}

/* Not secret: only speed is measured. */
static void fill_random(void *ctx, uint8_t *out, size_t len)
{
    uint8_t *last = ctx;
    for (size_t i = 0; i < len; i++)
        out[i] = ++*last;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double values[static SLICES])
{
    qsort(values, SLICES, sizeof values[0], compare);
    return values[SLICES / 2] / (REPEATS * BATCH);
}

static void run_cipher(struct bench *bench, double *seal_ns, double *open_ns)
{
    uint8_t nonce[SG_RECORD_NONCE_BYTES] = {0}, tags[BATCH][SG_RECORD_TAG_BYTES];
    const uint8_t aad = SG_RECORD_INDICATOR;
    *seal_ns = *open_ns = 0;
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = cpu_ns();
        for (int i = 0; i < BATCH; i++)
            require(sg_aead_seal(bench->aead, bench->ctx, &bench->state, nonce, &aad, 1, bench->bytes[i], bench->size,
                                 tags[i]) == SG_OK,
                    "seal");
        double sealed = cpu_ns();
        for (int i = 0; i < BATCH; i++)
            require(sg_aead_open(bench->aead, bench->ctx, &bench->state, nonce, &aad, 1, bench->bytes[i], bench->size,
                                 tags[i]) == SG_OK,
                    "open");
        *seal_ns += sealed - start;
        *open_ns += cpu_ns() - sealed;
    }
}

static void run_records(struct bench *bench, struct sg_sender *sender, struct sg_receiver *receiver, double *seal_ns,
                        double *open_ns)
{
    struct sg_record records[BATCH];
    *seal_ns = *open_ns = 0;
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        for (int i = 0; i < BATCH; i++)
            records[i] = (struct sg_record){.bytes = bench->bytes[i], .len = bench->size};
        double start = cpu_ns();
        require(sg_seal_batch(sender, records, BATCH) == BATCH, "seal batch");
        double sealed = cpu_ns();
        require(sg_open_batch(receiver, records, BATCH) == BATCH, "open batch");
        *seal_ns += sealed - start;
        *open_ns += cpu_ns() - sealed;
    }
}

static struct cost measure(struct bench *bench)
{
    static const uint8_t key[SG_KEY_BYTES] = {1}, channel[SG_RECORD_CHANNEL_BYTES] = {2}, nonce[16] = {3};
    double values[4][SLICES];
    struct sg_sender sender = {0};
    struct sg_receiver receiver = {0};
    uint8_t last = 0;
    require(sg_aead_derive(bench->aead, bench->ctx, &bench->state, key, nonce) == SG_OK, "derive");
    require(sg_sender_init(&sender, bench->arena, bench->ctx, bench->aead, key, channel, &sg_limits_default,
                           fill_random, &last) == SG_OK,
            "sender");
    require(sg_receiver_init(&receiver, bench->arena, bench->ctx, bench->aead, key, channel, &sg_limits_default) ==
                SG_OK,
            "receiver");
    for (int slice = 0; slice < SLICES; slice++) {
        run_cipher(bench, &values[0][slice], &values[1][slice]);
        run_records(bench, &sender, &receiver, &values[2][slice], &values[3][slice]);
    }
    sg_sender_dispose(&sender);
    sg_receiver_dispose(&receiver);
    return (struct cost){median(values[0]), median(values[1]), median(values[2]), median(values[3])};
}

int main(void)
{
    static const uint16_t suites[] = {SG_SUITE_XAES_256_GCM, SG_SUITE_XCHACHA20_POLY1305};
    static const size_t sizes[] = {64, 512, 1200};
    static struct bench bench;
    const char *comma = "";
    bool locked = false;
    bench.ctx = sg_aead_ctx_new();
    bench.arena = sg_arena_new(SLOTS, &locked);
    require(bench.ctx && bench.arena, "start");
    printf("[");
    for (size_t suite = 0; suite < sizeof suites / sizeof suites[0]; suite++) {
        for (int backend = SG_BACKEND_AUTO + 1; backend < SG_BACKEND_COUNT; backend++) {
            bench.aead = sg_aead_find(suites[suite], (enum sg_backend)backend);
            for (size_t i = 0; bench.aead && i < sizeof sizes / sizeof sizes[0]; i++) {
                bench.size = sizes[i];
                struct cost cost = measure(&bench);
                printf(
                    "%s{\"suite\": \"%s\", \"backend\": \"%s\", \"size\": %zu, \"seal_ns\": %.1f, \"open_ns\": %.1f, "
                    "\"record_seal_ns\": %.1f, \"record_open_ns\": %.1f, \"default\": %s}",
                    comma, bench.aead->name, bench.aead->backend_name, bench.size, cost.seal_ns, cost.open_ns,
                    cost.record_seal_ns, cost.record_open_ns,
                    bench.aead == sg_aead_find(suites[suite], SG_BACKEND_AUTO) ? "true" : "false");
                comma = ", ";
            }
        }
    }
    puts("]");
    sg_arena_free(bench.arena);
    sg_aead_ctx_free(bench.ctx);
    return 0;
}
