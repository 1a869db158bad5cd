-- setup extension: after no_extension, or in a new database
CREATE EXTENSION osmtalk;
