/*
 * cppcheck.h
 *		For cppcheck alone, which reads our sources without PostgreSQL's headers.
 *
 * What PostgreSQL's macros expand to is not ours to judge.  Those that are not
 * C by themselves are given a simple meaning here.
 */
#define PG_VERSION_NUM 150000
#define OSMTALK_VERSION "0"
#define OSMTALK_OLDEST_OBJECTS "0"

#define PG_MODULE_MAGIC
#define PG_FUNCTION_INFO_V1(name) extern Datum name(PG_FUNCTION_ARGS)
#define PG_FUNCTION_ARGS FunctionCallInfo fcinfo
#define PGDLLEXPORT
#define PGDLLIMPORT
#define pg_attribute_noreturn()
#define pg_attribute_printf(format, first)
#define pg_unreachable() abort()

#define Assert(condition) ((void) 0)
#define StaticAssertStmt(condition, message) ((void) 0)
#define StaticAssertDecl(condition, message)
#define lengthof(array) (sizeof(array) / sizeof((array)[0]))
#define Min(x, y) ((x) < (y) ? (x) : (y))
#define Max(x, y) ((x) > (y) ? (x) : (y))
#define UINT64_FORMAT "%lu"
#define INT64_FORMAT "%ld"

#define foreach(cell, list) for ((cell) = first_cell(list); (cell) != 0; (cell) = next_cell(list, cell))
#define foreach_delete_current(list, cell) delete_cell(list, cell)
#define dlist_foreach(iter, head) for ((iter).cur = first_node(head); (iter).cur != 0; next_node(&(iter)))
#define dlist_foreach_modify(iter, head) dlist_foreach (iter, head)
#define dlist_container(type, member, node) ((type *) container_of(node))
#define slist_foreach(iter, head) dlist_foreach (iter, head)
#define slist_foreach_modify(iter, head) dlist_foreach (iter, head)

/* an error may come from anywhere inside */
#define PG_TRY() if (nothing_thrown()) {
#define PG_CATCH() } else {
#define PG_FINALLY() } {
#define PG_END_TRY() }
#define PG_RE_THROW() abort()
