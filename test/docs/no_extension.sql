-- setup no_extension: as if the database had never had it
DROP EXTENSION osmtalk;
