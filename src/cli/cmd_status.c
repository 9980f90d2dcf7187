/* `sealgram status`: asks a running server or client what it does, over its socket. */
#include <argp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cli/ask.h"
#include "cli/cli.h"

struct arguments {
    bool json;
    const char *socket;
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *args = state->input;
    switch (key) {
    case 'j':
        args->json = true;
        return 0;
    case 's':
        args->socket = value;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s': this command takes options only", value);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"json", 'j', NULL, 0, "print the JSON document", 0},
    {"socket", 's', "PATH", 0, "the socket of the program to ask (the only one that runs)", 0},
    {0},
};

static const struct argp argp = {
    .options = options,
    .parser = parse_option,
    .doc = "Shows sessions, associations, datagrams and drops of a running server or client.",
};

/* A text as it is, unless it has what a terminal would obey; everything else in JSON. The caller frees it. */
static char *format_value(const json_t *value)
{
    const char *text = json_string_value(value);
    for (const char *c = text; c && *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            text = NULL;
    return text ? strdup(text) : json_dumps(value, JSON_ENCODE_ANY);
}

static void print_object(json_t *object, int indent, bool skip_zero);

/* The objects of a list as blocks, each behind a dash; other lists in one line. */
static void print_value(const char *key, json_t *value, int indent)
{
    size_t i = 0;
    json_t *item = NULL;
    if (json_is_object(value)) {
        printf("%*s%s:\n", indent, "", key);
        print_object(value, indent + 2, strcmp(key, "drops") == 0);
    } else if (json_is_array(value) && json_is_object(json_array_get(value, 0))) {
        printf("%*s%s:\n", indent, "", key);
        json_array_foreach(value, i, item)
        {
            printf("%*s-\n", indent + 2, "");
            print_object(item, indent + 4, false);
        }
    } else {
        char *text = format_value(value);
        printf("%*s%s: %s\n", indent, "", key, text ? text : "?");
        free(text);
    }
}

/* Objects as indented blocks, everything else as `key: value`; drops that never happened are left out. */
static void print_object(json_t *object, int indent, bool skip_zero)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(object, key, value) if (!skip_zero || !json_is_integer(value) || json_integer_value(value) != 0)
        print_value(key, value, indent);
}

/* Prints what a program said. Returns the exit code. */
static int show(const char *text, const char *path, bool json)
{
    json_t *document = json_loads(text, 0, NULL);
    if (!json_is_object(document)) {
        sg_cli_error("%s: did not answer with a status", path ? path : "the program");
        json_decref(document);
        return SG_EXIT_FAILED;
    }
    if (json) {
        json_dumpf(document, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_object(document, 0, false);
    }
    json_decref(document);
    return fflush(stdout) == 0 ? SG_EXIT_OK : SG_EXIT_FAILED;
}

int sg_cmd_status(int argc, char **argv)
{
    struct arguments args = {.json = false};
    int code = SG_EXIT_FAILED;
    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
        return SG_EXIT_USAGE;
    char *text = sg_cli_ask(args.socket, "", "status", &code);
    if (!text)
        return code;
    code = show(text, args.socket, args.json);
    free(text);
    return code;
}
