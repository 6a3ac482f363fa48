/* The tables of statements, their types, and the check of a statement against the schema. */
#include "services/common/store/store_link.h"

static const struct {
    const char *name;
    unsigned oid;
    enum store_type element;
} types[STORE_TYPE_COUNT] = {
#define STORE_TYPE(name, text, oid, element) [STORE_##name] = {text, oid, STORE_##element},
#include "services/common/store/store_types.def"
#undef STORE_TYPE
};

static const struct store_table *const tables[] = {
#define STORE_TABLE(noun) &store_##noun##_table,
#include "services/common/store/store_tables.def"
#undef STORE_TABLE
};

const struct store_table *const *store_statements(size_t *ret_count)
{
    *ret_count = sizeof tables / sizeof *tables;
    return tables;
}

const char *store_type_name(enum store_type type)
{
    return types[type].name;
}

unsigned store_type_oid(enum store_type type)
{
    return types[type].oid;
}

enum store_type store_type_element(enum store_type type)
{
    return types[type].element;
}

static err_t compare(const struct store_statement *statement, const PGresult *described)
{
    size_t params = 0;
    size_t columns = 0;
    while (statement->params[params]) params++;
    while (statement->columns[columns]) columns++;
    if ((size_t)PQnparams(described) != params)
        return err_set(ERR_database, "%s: has %d parameters, %zu are declared", statement->name, PQnparams(described),
                       params);
    for (size_t i = 0; i < params; i++)
        if (PQparamtype(described, (int)i) != types[statement->params[i]].oid)
            return err_set(ERR_database, "%s: $%zu has type %u, declared is %s", statement->name, i + 1,
                           PQparamtype(described, (int)i), types[statement->params[i]].name);
    if ((size_t)PQnfields(described) != columns)
        return err_set(ERR_database, "%s: has %d columns, %zu are declared", statement->name, PQnfields(described), columns);
    for (size_t i = 0; i < columns; i++)
        if (PQftype(described, (int)i) != types[statement->columns[i]].oid)
            return err_set(ERR_database, "%s: column %s has type %u, declared is %s", statement->name,
                           PQfname(described, (int)i), PQftype(described, (int)i), types[statement->columns[i]].name);
    return ERR_ok;
}

err_t store_describe(struct store *store, const struct store_statement *statement)
{
    TRY(store_prepare(store, statement));
    PGresult *result = NULL;
    TRY(store_answer(store, PQsendDescribePrepared(store->conn, statement->name), statement->name, STORE_STATEMENT_MS,
                     &result));
    err_t err = compare(statement, result);
    PQclear(result);
    return err;
}
