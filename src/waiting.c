/*
 * waiting.c
 *		The containers in which endpoints, events and tickets wait.
 */
#include <stdlib.h>

#include "waiting.h"

/* ---- rings ---- */

static void
ring_insert(OsmtalkRing *ring, OsmtalkEndpoint *e, int place)
{
	OsmtalkPlace *p = &e->places[place];

	if (ring->cursor == NULL)
		ring->cursor = p->next = p->prev = e;
	else
	{
		/* last in turn: before the cursor */
		p->next = ring->cursor;
		p->prev = ring->cursor->places[place].prev;
		p->prev->places[place].next = e;
		p->next->places[place].prev = e;
	}
	ring->count++;
}

static void
ring_remove(OsmtalkRing *ring, OsmtalkEndpoint *e, int place)
{
	OsmtalkPlace *p = &e->places[place];

	if (ring->cursor == e)
		ring->cursor = p->next == e ? NULL : p->next;
	p->prev->places[place].next = p->next;
	p->next->places[place].prev = p->prev;
	p->next = p->prev = NULL;
	ring->count--;
}

void
osmtalk_ring_set(OsmtalkRing *ring, OsmtalkEndpoint *e, int place, bool in)
{
	bool is_in = e->places[place].next != NULL;

	if (in && !is_in)
		ring_insert(ring, e, place);
	else if (!in && is_in)
		ring_remove(ring, e, place);
}

/* ---- the line ---- */

/*
 * A tree in which nobody stands before who is above: of each endpoint the
 * first of those below it, and the next beside it.  "before" is the one
 * beside which, or below which, it hangs.
 */
static OsmtalkEndpoint *
meld(OsmtalkEndpoint *a, OsmtalkEndpoint *b)
{
	if (a == NULL)
		return b;
	if (b == NULL)
		return a;
	if (b->in_line.rank < a->in_line.rank)
	{
		OsmtalkEndpoint *swapped = a;

		a = b;
		b = swapped;
	}
	b->in_line.before = a;
	b->in_line.beside = a->in_line.below;
	if (b->in_line.beside != NULL)
		b->in_line.beside->in_line.before = b;
	a->in_line.below = b;
	return a;
}

/* Makes one tree of those that are beside each other: in pairs, then all from the last. */
static OsmtalkEndpoint *
meld_all(OsmtalkEndpoint *e)
{
	OsmtalkEndpoint *pairs = NULL;
	OsmtalkEndpoint *all = NULL;

	while (e != NULL)
	{
		OsmtalkEndpoint *a = e;
		OsmtalkEndpoint *b = a->in_line.beside;

		e = b ? b->in_line.beside : NULL;
		a->in_line.beside = NULL;
		if (b != NULL)
			b->in_line.beside = NULL;
		a = meld(a, b);
		a->in_line.beside = pairs;
		pairs = a;
	}
	while (pairs != NULL)
	{
		OsmtalkEndpoint *next = pairs->in_line.beside;

		pairs->in_line.beside = NULL;
		all = meld(all, pairs);
		pairs = next;
	}
	if (all != NULL)
		all->in_line.before = NULL;
	return all;
}

static void
line_remove(OsmtalkLine *line, OsmtalkEndpoint *e)
{
	OsmtalkEndpoint *below = meld_all(e->in_line.below);

	if (e == line->first)
		line->first = below;
	else
	{
		OsmtalkEndpoint *before = e->in_line.before;

		if (before->in_line.below == e)
			before->in_line.below = e->in_line.beside;
		else
			before->in_line.beside = e->in_line.beside;
		if (e->in_line.beside != NULL)
			e->in_line.beside->in_line.before = before;
		line->first = meld(line->first, below);
	}
	e->in_line.is_in = false;
	line->count--;
}

void
osmtalk_line_set(OsmtalkLine *line, OsmtalkEndpoint *e, bool in, int64_t rank)
{
	if (e->in_line.is_in)
	{
		if (in && e->in_line.rank == rank)
			return;
		line_remove(line, e);
	}
	if (!in)
		return;
	e->in_line.is_in = true;
	e->in_line.rank = rank;
	e->in_line.before = e->in_line.beside = e->in_line.below = NULL;
	line->first = meld(line->first, e);
	line->count++;
}

/* ---- what grows ---- */

bool
osmtalk_reserve(void **array, size_t *capacity, size_t count, size_t size)
{
	size_t more;
	void *bigger;

	if (count < *capacity)
		return true;
	more = *capacity ? *capacity * 2 : 16;
	bigger = realloc(*array, more * size);
	if (bigger == NULL)
		return false;
	*array = bigger;
	*capacity = more;
	return true;
}

bool
osmtalk_heap_push(OsmtalkHeap *heap, OsmtalkLater event)
{
	size_t i = heap->count;

	if (!osmtalk_reserve((void **) &heap->events, &heap->capacity, heap->count, sizeof(OsmtalkLater)))
		return false;
	heap->count++;
	for (; i > 0 && heap->events[(i - 1) / 2].due_at > event.due_at; i = (i - 1) / 2)
		heap->events[i] = heap->events[(i - 1) / 2];
	heap->events[i] = event;
	return true;
}

OsmtalkLater
osmtalk_heap_pop(OsmtalkHeap *heap)
{
	OsmtalkLater first = heap->events[0];
	OsmtalkLater last = heap->events[--heap->count];
	size_t i = 0;

	for (;;)
	{
		size_t child = 2 * i + 1;

		if (child >= heap->count)
			break;
		if (child + 1 < heap->count && heap->events[child + 1].due_at < heap->events[child].due_at)
			child++;
		if (heap->events[child].due_at >= last.due_at)
			break;
		heap->events[i] = heap->events[child];
		i = child;
	}
	heap->events[i] = last;
	return first;
}

/* ---- tickets ---- */

void
osmtalk_tickets_append(OsmtalkTickets *list, OsmtalkTicket *t)
{
	t->older = list->youngest;
	t->younger = NULL;
	if (list->youngest != NULL)
		list->youngest->younger = t;
	else
		list->oldest = t;
	list->youngest = t;
}

void
osmtalk_tickets_remove(OsmtalkTickets *list, OsmtalkTicket *t)
{
	if (t->older != NULL)
		t->older->younger = t->younger;
	else
		list->oldest = t->younger;
	if (t->younger != NULL)
		t->younger->older = t->older;
	else
		list->youngest = t->older;
}
