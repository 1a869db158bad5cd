/*
 * ring.h
 *		The slots in which events and their attempts lie; see ring.c.
 */
#ifndef OSMTALK_RING_H
#define OSMTALK_RING_H

/* numbered from 0, a partition each; -1 is for what is kept longer */
#define OSMTALK_SLOTS 16

#endif
