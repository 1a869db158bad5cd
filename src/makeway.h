/*
 * makeway.h
 *		Commands that osmtalk's processes must make way for, or hear of.
 */
#ifndef OSMTALK_MAKEWAY_H
#define OSMTALK_MAKEWAY_H

extern void osmtalk_install_utility_hook(void);

#endif
