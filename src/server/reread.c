/* A file that has another inode, size or time is read again; one that cannot be read is so once, until it changes. */
#include "server/reread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/users.h"

/* --- the configuration --- */

static bool same_listen(const struct sg_config *a, const struct sg_config *b)
{
    bool same = a->listen_count == b->listen_count;
    for (unsigned i = 0; same && i < a->listen_count; i++)
        same = sg_endpoint_equal(&a->listen[i], &b->listen[i]);
    return same;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_command(char *const *a, char *const *b)
{
    bool same = !a == !b;
    for (size_t i = 0; same && a && (a[i] || b[i]); i++)
        same = a[i] && b[i] && strcmp(a[i], b[i]) == 0;
    return same;
}

/* Who is asked for users, from when on, and for how long. */
static bool same_authenticator(const struct sg_config *a, const struct sg_config *b)
{
    return same_command(a->authenticator.command, b->authenticator.command) &&
           a->authenticator.processes == b->authenticator.processes &&
           a->authenticator.timeout_seconds == b->authenticator.timeout_seconds;
}

static void add_name(char names[static SG_REREAD_NAMES_MAX], bool differs, const char *name)
{
    size_t len = strlen(names);
    if (differs)
        snprintf(names + len, SG_REREAD_NAMES_MAX - len, "%s%s", len > 0 ? ", " : "", name);
}

/* What sockets, threads and tables were made of. Other values are named, and the old ones put back. */
static void keep_what_stays(const struct sg_config *first, const struct sg_config *before, struct sg_config *fresh,
                            char names[static SG_REREAD_NAMES_MAX])
{
    names[0] = '\0';
    add_name(names, !same_listen(first, fresh), "listen");
    add_name(names, first->workers != fresh->workers, "workers");
    add_name(names, first->udp_ports.first != fresh->udp_ports.first || first->udp_ports.last != fresh->udp_ports.last,
             "udp_ports");
    add_name(names, !same_text(first->status_socket, fresh->status_socket), "status_socket");
    add_name(names, first->limits.password_threads != fresh->limits.password_threads, "limits: password_threads");
    add_name(names, !same_text(first->user, fresh->user), "user");
    add_name(names, first->sandbox != fresh->sandbox, "sandbox");
    add_name(names, !same_text(first->devices, fresh->devices), "devices");
    add_name(names, !same_authenticator(first, fresh), "authenticator");
    sg_config_keep_log(&first->log, &fresh->log);
    memcpy(fresh->listen, first->listen, sizeof fresh->listen);
    fresh->listen_count = first->listen_count;
    fresh->workers = first->workers;
    fresh->udp_ports = first->udp_ports;
    free(fresh->status_socket);
    fresh->status_socket = first->status_socket ? strdup(first->status_socket) : NULL;
    fresh->limits.password_threads = first->limits.password_threads;
    /* the tables have room for as many as there were to be at the start */
    bool too_many = fresh->limits.sessions > first->limits.sessions;
    add_name(names, too_many, "limits: sessions");
    if (too_many)
        fresh->limits.sessions = before->limits.sessions;
}

void sg_reread_look(const struct sg_config *config, struct sg_reread_seen *seen)
{
    memset(seen, 0, sizeof *seen);
    (void)stat(config->users, &seen->users);
    if (config->client_crl)
        (void)stat(config->client_crl, &seen->crl);
}

void sg_reread_config(const struct sg_config *first, const struct sg_policy *before, struct sg_reread_seen *seen,
                      struct sg_reread_found *out)
{
    struct sg_reread_seen now;
    struct sg_config *config = sg_config_read(first->file, out->error);
    if (!config)
        return;
    keep_what_stays(first, before->config, config, out->names);
    sg_reread_look(config, &now);
    out->policy = sg_policy_build(config, before, out->error);
    sg_config_free(config);
    if (out->policy)
        *seen = now;
}

/* --- the files --- */

/*
 * True if the file is another one than it was, or has gone; it is the one that was seen, then. One that has gone is
 * told of once: whoever is to be a user no more would stay one without a word.
 */
static bool has_changed(const char *path, struct stat *seen)
{
    struct stat now;
    if (!path)
        return false;
    if (stat(path, &now) != 0)
        now = (struct stat){.st_ino = 0};
    bool differs = now.st_ino != seen->st_ino || now.st_size != seen->st_size ||
                   now.st_mtim.tv_sec != seen->st_mtim.tv_sec || now.st_mtim.tv_nsec != seen->st_mtim.tv_nsec;
    *seen = now;
    return differs;
}

void sg_reread_files(const struct sg_policy *before, struct sg_reread_seen *seen, struct sg_reread_found *out)
{
    const struct sg_config *config = before->config;
    char error[SG_USERS_ERROR_MAX];
    if (has_changed(config->client_crl, &seen->crl))
        out->tls = sg_policy_make_tls(config, out->tls_error);
    if (has_changed(config->users, &seen->users) && sg_users_load(config->users, &out->users, error) != SG_OK)
        snprintf(out->error, sizeof out->error, "%s", error);
}

void sg_reread_dispose(struct sg_reread_found *found)
{
    sg_policy_release(found->policy);
    sg_users_free(found->users);
    SSL_CTX_free(found->tls);
    *found = (struct sg_reread_found){.policy = NULL};
}
