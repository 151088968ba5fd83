/*
 * What: runtime parameters, of a vhost or global: stored for whoever looks them up.
 * Threads: the machine's. Spec: docs/policies.md, "Parameters".
 */
#include "internal.h"

#include "warren/wire_table.h"

/* One field-table value: an array of one. */
bool catalog__parameter_valid(struct bytes value)
{
    struct wire_table_iter it;
    struct bytes key;
    struct wire_value item;
    wire_array_iter_init(&it, value);
    if (!wire_table_iter_next(&it, &key, &item) || wire_table_iter_next(&it, &key, &item) ||
        it.fault != WIRE_OK) {
        return false;
    }
    /* Its inside, if it has one: as the value of a table's only field. */
    struct writer w;
    writer_init(&w, value.size + 2);
    wire_put_key(&w, BYTES_LITERAL("v"));
    put_view(&w, value);
    const bool ok = wire_table_validate(writer_bytes(&w), NULL) == WIRE_OK;
    writer_deinit(&w);
    return ok;
}

/* The table that the parameter is in, of a view or a vhost that is being edited. */
static void set(struct pmap **map, const struct catalog_parameter_spec *spec,
                struct catalog_parameter *parameter)
{
    struct writer w;
    writer_init(&w, 4 + spec->component.size + spec->name.size);
    catalog__key_pair(&w, spec->component, spec->name);
    if (parameter == NULL) {
        pmap_remove_in(map, writer_bytes(&w));
    } else {
        pmap_set_in(map, writer_bytes(&w), &parameter->ref);
    }
    writer_deinit(&w);
}

static void replace(struct catalog *c, const struct catalog_parameter_spec *spec,
                    struct catalog_parameter *parameter)
{
    struct catalog_view *v = catalog__edit(c);
    if (spec->vhost.size == 0) {
        set(&v->parameters, spec, parameter);
        return;
    }
    struct catalog_vhost *vhost = catalog__vhost_copy(catalog_vhost(v, spec->vhost));
    set(&vhost->parameters, spec, parameter);
    catalog__put_vhost(v, vhost);
}

int catalog__apply_put_parameter(struct catalog *c, const struct catalog_parameter_spec *spec)
{
    if (spec->vhost.size > 0 && catalog_vhost(c->view, spec->vhost) == NULL) {
        return CATALOG_NO_VHOST;
    }
    if (!catalog__parameter_valid(spec->value)) {
        return CATALOG_INVALID;
    }
    struct catalog_parameter *parameter = catalog__parameter_new(spec);
    replace(c, spec, parameter);
    pref_unref(&parameter->ref);
    return CATALOG_OK;
}

int catalog__apply_delete_parameter(struct catalog *c, const struct catalog_parameter_spec *spec)
{
    if (spec->vhost.size > 0 && catalog_vhost(c->view, spec->vhost) == NULL) {
        return CATALOG_NO_VHOST;
    }
    if (catalog_parameter(c->view, spec->vhost, spec->component, spec->name) == NULL) {
        return CATALOG_NOT_FOUND;
    }
    replace(c, spec, NULL);
    return CATALOG_OK;
}

void catalog__add_parameter(struct pmap **map, const struct catalog_parameter_spec *spec)
{
    struct catalog_parameter *parameter = catalog__parameter_new(spec);
    set(map, spec, parameter);
    pref_unref(&parameter->ref);
}
