/* Rules out of YAML text, for tests. */
#ifndef RULES_TEXT_H
#define RULES_TEXT_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/rules.h"
#include "server/rules_yaml.h"

struct rules_text {
    struct sg_rules *rules;
};

static const struct sg_yaml_key rules_text_keys[] = {
    {.name = "groups", .read = sg_yaml_read_groups, .offset = offsetof(struct rules_text, rules)},
    {.name = "rules", .read = sg_yaml_read_rules, .offset = offsetof(struct rules_text, rules)},
    {.name = NULL},
};

/* NULL: error tells, with "FILE:" in the place of the path. */
static struct sg_rules *rules_of_text(const char *text, char error[static SG_YAML_ERROR_MAX])
{
    char path[] = "/tmp/sg-test-rules-XXXXXX", said[SG_YAML_ERROR_MAX] = "";
    int fd = mkstemp(path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    struct rules_text base = {.rules = sg_rules_new()};
    assert_non_null(file);
    assert_non_null(base.rules);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    bool good = sg_yaml_load(path, rules_text_keys, &base, said) && sg_rules_check(base.rules, path, said);
    unlink(path);
    if (good)
        return base.rules;
    sg_rules_release(base.rules);
    bool named = strncmp(said, path, strlen(path)) == 0;
    snprintf(error, SG_YAML_ERROR_MAX, "%s%.900s", named ? "FILE" : "", said + (named ? strlen(path) : 0));
    return NULL;
}

#endif
