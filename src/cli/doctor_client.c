/* The doctor's client: a process of its own, with a directory of its own, that serves one examination. */
#include "cli/doctor.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "cli/cli.h"
#include "net/clock.h"

enum { READY_MS = 12000, TELL_MS = 3500 }; /* the client itself speaks after 3 s */

static bool fail(const char *what)
{
    sg_cli_error("doctor: %s: %s", what, strerror(errno));
    return false;
}

/* Brings the invite to where only the child reads it: a file that is there already, or a copy. */
static bool copy_invite(const struct sg_doctor *doctor, char *at, size_t size)
{
    char bytes[4096];
    size_t got = strlen(doctor->invite);
    if (doctor->invite[0] == '@')
        return snprintf(at, size, "%s", doctor->invite) < (int)size || fail("the file's name is too long");
    snprintf(at, size, "@%s/invite", doctor->dir);
    FILE *out = fopen(at + 1, "wxe");
    if (!out || fchmod(fileno(out), 0600) != 0)
        return fail(at + 1);
    if (strcmp(doctor->invite, "-") != 0)
        fwrite(doctor->invite, 1, got, out);
    else
        while ((got = fread(bytes, 1, sizeof bytes, stdin)) > 0)
            fwrite(bytes, 1, got, out);
    sodium_memzero(bytes, sizeof bytes);
    return fclose(out) == 0 || fail(at + 1);
}

/* Says what the client waits for, or has failed for: the last line that it logged. */
static void tell_client_log(const struct sg_doctor *doctor, const char *what)
{
    char path[96], line[512], last[512] = "its log is empty";
    snprintf(path, sizeof path, "%s/client.log", doctor->dir);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (line[0] != '\n')
            memcpy(last, line, sizeof last);
    if (file)
        fclose(file);
    last[strcspn(last, "\n")] = '\0';
    const char *name =
        strstr(last, "sealgram: "); /* before it: the time, or the level for the journal; after it: LEVEL */
    const char *level_end = name ? strstr(name + strlen("sealgram: "), ": ") : NULL;
    sg_cli_error("doctor: %s: %s", what, level_end ? level_end + 2 : last);
}

static bool wait_ready(struct sg_doctor *doctor, char *line, size_t size)
{
    uint64_t end_ms = sg_now_ms() + READY_MS, tell_ms = sg_now_ms() + TELL_MS;
    size_t len = 0;
    for (uint64_t now_ms = sg_now_ms(); now_ms < end_ms && !sg_doctor_interrupted; now_ms = sg_now_ms()) {
        struct pollfd wait = {.fd = doctor->client.out, .events = POLLIN};
        if (now_ms >= tell_ms) {
            tell_client_log(doctor, "still waiting for a session with the server");
            tell_ms = end_ms;
        }
        if (poll(&wait, 1, (int)((tell_ms < end_ms ? tell_ms : end_ms) - now_ms)) <= 0)
            continue;
        ssize_t got = read(doctor->client.out, line + len, size - 1 - len);
        if (got <= 0)
            break;
        len += (size_t)got;
        line[len] = '\0';
        if (strchr(line, '\n'))
            return true;
    }
    if (!sg_doctor_interrupted)
        tell_client_log(doctor, "no session with the server");
    return false;
}

/* `ready socks=ADDR:PORT ... path=udp` */
static bool read_ready(struct sg_doctor *doctor, char *line)
{
    struct sg_target target;
    char *socks = strstr(line, "socks="), *path = strstr(line, "path=");
    if (!socks || !path)
        return false;
    path[strcspn(path, " \n")] = '\0';
    socks[strcspn(socks, " \n")] = '\0';
    if (sg_target_parse(socks + strlen("socks="), false, &target) != SG_OK)
        return false;
    doctor->socks = sg_target_endpoint(&target);
    json_object_set_new(json_object_get(doctor->report, "udp"), "path", json_string(path + strlen("path=")));
    return true;
}

/* Below TMPDIR, unless that is too long for the path of a socket. */
static bool make_dir(struct sg_doctor *doctor)
{
    static const char name[] = "sealgram-doctor-XXXXXX";
    const char *base = getenv("TMPDIR");
    if (!base || !*base || strlen(base) + sizeof name >= sizeof doctor->dir)
        base = "/tmp";
    snprintf(doctor->dir, sizeof doctor->dir, "%s/%s", base, name);
    if (mkdtemp(doctor->dir))
        return true;
    doctor->dir[0] = '\0';
    return fail(base);
}

bool sg_doctor_client_start(struct sg_doctor *doctor)
{
    char invite[4096], line[512] = "";
    const char *argv[SG_DOCTOR_PASSED_ON_MAX + 5] = {"client", "--socks", "127.0.0.1:0"};
    unsigned count = 3;
    if (!make_dir(doctor))
        return false;
    for (unsigned i = 0; i < doctor->passed_on_count; i++)
        argv[count++] = doctor->passed_on[i];
    argv[count] = invite;
    if (!copy_invite(doctor, invite, sizeof invite))
        return false;
    if (setenv("XDG_RUNTIME_DIR", doctor->dir, 1) != 0 ||
        !sg_demo_child_start(&doctor->client, doctor->dir, "client", argv))
        return fail("client");
    errno = EPROTO;
    return wait_ready(doctor, line, sizeof line) && (read_ready(doctor, line) || fail("the client's ready line"));
}

json_int_t sg_doctor_client_number(const struct sg_doctor *doctor, const char *object, const char *key)
{
    if (!doctor->invite)
        return -1;
    json_t *status = sg_demo_child_status(&doctor->client, doctor->dir, "client");
    json_t *value = json_object_get(object ? json_object_get(status, object) : status, key);
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    json_decref(status);
    return number;
}

void sg_doctor_client_stop(struct sg_doctor *doctor)
{
    sg_demo_child_stop(&doctor->client);
    if (doctor->dir[0])
        sg_demo_remove_dir(doctor->dir);
}
