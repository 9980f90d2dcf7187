/* What `sealgram doctor` found, in plain words. */
#ifndef SG_CLI_DOCTOR_SHOW_H
#define SG_CLI_DOCTOR_SHOW_H

struct json_t;

/* Prints the report that `sealgram doctor --json` would print, for people. */
void sg_doctor_show(struct json_t *report);

#endif
