/*
 * waiting.h
 *		The containers in which endpoints, events and tickets wait.
 *
 * Plain C, intrusive where it can be: but for a heap that grows, nothing here
 * allocates.  Knows none of the rules by which anything waits (scheduler.c).
 *
 * Glossary
 *	ring	endpoints that take turns, by one of their places
 *	line	endpoints by a rank of theirs, the least first: a pairing heap
 *	heap	events by a time, the earliest first
 */
#ifndef OSMTALK_WAITING_H
#define OSMTALK_WAITING_H

#include "scheduler.h"

/* cursor is whose turn it is */
typedef struct OsmtalkRing
{
	OsmtalkEndpoint *cursor;
	size_t count;
} OsmtalkRing;

/* Puts the endpoint in the ring, last in turn, or takes it out, as it should be. */
extern void osmtalk_ring_set(OsmtalkRing *ring, OsmtalkEndpoint *e, int place, bool in);

typedef struct OsmtalkLine
{
	OsmtalkEndpoint *first;
	size_t count;
} OsmtalkLine;

/* Puts the endpoint in the line, at its rank, or takes it out, as it should be. */
extern void osmtalk_line_set(OsmtalkLine *line, OsmtalkEndpoint *e, bool in, int64_t rank);

/* an event that is not due yet */
typedef struct OsmtalkLater
{
	int64_t due_at;
	int64_t id;
	OsmtalkEndpoint *endpoint;
} OsmtalkLater;

typedef struct OsmtalkHeap
{
	OsmtalkLater *events;
	size_t count;
	size_t capacity;
} OsmtalkHeap;

/* False if there is no memory. */
extern bool osmtalk_heap_push(OsmtalkHeap *heap, OsmtalkLater event);
extern OsmtalkLater osmtalk_heap_pop(OsmtalkHeap *heap);

/* Makes room for one more element of an array; false if there is no memory. */
extern bool osmtalk_reserve(void **array, size_t *capacity, size_t count, size_t size);

extern void osmtalk_tickets_append(OsmtalkTickets *list, OsmtalkTicket *t);
extern void osmtalk_tickets_remove(OsmtalkTickets *list, OsmtalkTicket *t);

#endif
