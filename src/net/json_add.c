/* Member by member. */
#include "net/json_add.h"

#include <jansson.h>

void sg_json_add(struct json_t *total, struct json_t *part)
{
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(part, name, value)
    {
        json_t *sum = json_object_get(total, name);
        if (!sum)
            json_object_set_new(total, name, json_deep_copy(value));
        else if (json_is_object(sum))
            sg_json_add(sum, value);
        else if (json_is_integer(sum))
            json_integer_set(sum, json_integer_value(sum) + json_integer_value(value));
    }
}
