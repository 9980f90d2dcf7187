/*
 * One line of the user file, `NAME KIND VALUE CREATED [KEY=VALUE...]`, and the terms of a credential that it may name:
 * expires=DATE, uses=N. A list of lines is what users.c looks up and users_edit.c changes.
 */
#ifndef SG_SERVER_USER_LINE_H
#define SG_SERVER_USER_LINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "server/users.h"

enum { SG_USER_VALUE_MAX = 160, SG_USER_DATE_MAX = 32, SG_USER_LINE_MAX = 512, SG_USER_USES_MAX = 10000 };

struct sg_user_line {
    char name[SG_USER_NAME_MAX + 1];
    enum sg_user_kind kind;
    char value[SG_USER_VALUE_MAX];
    char created[SG_USER_DATE_MAX];
    struct sg_user_terms terms;
    size_t number; /* in the file: keeps its order among equals */
};

struct sg_users {
    _Atomic unsigned refs;
    int64_t loaded;            /* what expired before is as good as gone */
    int64_t last_over;         /* of those: the latest end; 0: there is none */
    int64_t next_over;         /* of the others: the earliest; 0: none of them ends */
    struct sg_user_line *list; /* sorted by name, kind, number */
    size_t count;
};

/* Parses text, which it changes: NULL, or what is wrong with it. */
const char *sg_user_line_parse(char *text, struct sg_user_line *out);
/* What the reader would find wrong with the value of a new line, or NULL. */
const char *sg_user_line_check(const struct sg_user_line *line);
/* Writes one line. False when that failed. */
bool sg_user_line_write(FILE *file, const struct sg_user_line *line);

/* Adds a line at the end; *room is the list's size. */
SG_MUST_CHECK enum sg_err sg_users_append(struct sg_users *users, size_t *room, const struct sg_user_line *line);

/* Dates as the file has them, 2026-11-23T08:40:47Z. */
void sg_user_date_write(int64_t when, char out[static SG_USER_DATE_MAX]);
bool sg_user_date_parse(const char *text, int64_t *out);

#endif
