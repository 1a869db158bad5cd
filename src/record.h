/*
 * record.h
 *		Writes events.
 */
#ifndef OSMTALK_RECORD_H
#define OSMTALK_RECORD_H

#include "postgres.h"

/* Texts; a null pointer for a null. */
typedef struct OsmtalkEvent
{
	const char *type;
	Datum org_id;
	Datum campaign_id;
	Datum lead_id;
	Datum call_id;
	Datum body;
	Datum url; /* where it goes as of now */
} OsmtalkEvent;

/* Between SPI_connect() and SPI_finish(); returns the event's id, a text. */
extern Datum osmtalk_record(const OsmtalkEvent *event);

#endif
