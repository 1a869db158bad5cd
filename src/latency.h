/*
 * latency.h
 *		By how much time answers are told apart in statistics.
 */
#ifndef OSMTALK_LATENCY_H
#define OSMTALK_LATENCY_H

/* milliseconds; the last of the latencies has no bound */
static const int osmtalk_latency_bound[] = {1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000};

#define OSMTALK_LATENCIES ((int) (sizeof(osmtalk_latency_bound) / sizeof(osmtalk_latency_bound[0])) + 1)

#endif
