/* What the parts of `sealgram doctor` share: one examination, and the report that it makes. */
#ifndef SG_CLI_DOCTOR_H
#define SG_CLI_DOCTOR_H

#include <signal.h>

#include <jansson.h>

#include "cli/demo_child.h"
#include "cli/doctor_reflect.h"
#include "core/addr.h"

enum { SG_DOCTOR_PASSED_ON_MAX = 6 };

struct sg_doctor {
    /* the command line */
    const char *socks_text, *invite, *reflector_text, *reflect_text;
    const char *passed_on[SG_DOCTOR_PASSED_ON_MAX]; /* options of the client */
    unsigned passed_on_count;
    unsigned echoes; /* for loss and round trip */
    bool json;
    struct sg_reflect_at reflect;

    char dir[64];
    struct sg_demo_child client;
    struct sg_endpoint socks;
    struct sg_reflect_at targets; /* count 0: none answers */
    struct sg_reflector own;
    unsigned try_ms;
    json_t *report;
};

/* Set by a signal: every step ends soon. */
extern volatile sig_atomic_t sg_doctor_interrupted;

/*
 * The throwaway client: started with doctor->invite, and doctor->socks set once it is ready. False after saying why.
 * The stop removes all that it needed, and is safe if nothing was started.
 */
SG_MUST_CHECK bool sg_doctor_client_start(struct sg_doctor *doctor);
void sg_doctor_client_stop(struct sg_doctor *doctor);

/* A number of its status, of an object in it unless that is NULL; -1 if there is none. */
json_int_t sg_doctor_client_number(const struct sg_doctor *doctor, const char *object, const char *key);

/* Examines the relay at doctor->socks. False, after saying why, if it cannot be reached or a signal came. */
SG_MUST_CHECK bool sg_doctor_examine(struct sg_doctor *doctor);

#endif
